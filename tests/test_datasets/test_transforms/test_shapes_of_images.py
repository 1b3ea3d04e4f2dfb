"""Transforms of images of extreme shapes, and of images that a transform changed alone."""

import numpy as np
import pytest
from mmdet.structures.mask import BitmapMasks
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope

from mmpanoptic.datasets.transforms import PackPanopticInputs
from mmpanoptic.registry import TRANSFORMS
from mmpanoptic.utils import DatasetError

SHAPES = [(1, 1), (1, 64), (64, 1), (3, 5000), (5000, 3)]


def sample(height: int, width: int) -> dict:
    """An image of noise, all of which is one instance."""
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    return dict(
        img=image,
        img_path='x.png',
        img_id=1,
        img_shape=(height, width),
        ori_shape=(height, width),
        gt_seg_map=np.zeros((height, width), np.uint8),
        gt_bboxes=np.array([[0, 0, width, height]], np.float32),
        gt_bboxes_labels=np.zeros(1, np.int64),
        gt_ignore_flags=np.zeros(1, bool),
        gt_masks=BitmapMasks(np.ones((1, height, width), np.uint8), height, width),
    )


def build(**config):
    init_default_scope('mmpanoptic')
    return TRANSFORMS.build(ConfigDict(config))


@pytest.mark.parametrize('shape', SHAPES)
@pytest.mark.parametrize(
    'resize',
    [
        dict(type='Resize', scale=(288, 192), keep_ratio=True),
        dict(type='Resize', scale_factor=0.01, keep_ratio=True),
        dict(type='Resize', scale_factor=0.01),
        dict(type='RandomResize', scale=(288, 192), ratio_range=(0.1, 0.2), keep_ratio=True),
        dict(type='RandomChoiceResize', scales=[(30, 20), (60, 40)], keep_ratio=True),
    ],
)
def test_resize_leaves_a_pixel(shape: tuple[int, int], resize: dict):
    result = build(**resize)(sample(*shape))
    height, width = result['img'].shape[:2]
    assert min(height, width) >= 1 and (height, width) == result['img_shape'] == result['gt_seg_map'].shape
    assert (result['gt_masks'].height, result['gt_masks'].width) == (height, width)
    assert result['scale_factor'] == pytest.approx((width / shape[1], height / shape[0]))
    np.testing.assert_allclose(result['gt_bboxes'], [[0, 0, width, height]], rtol=1e-5)


def test_resize_is_mmdets_where_that_leaves_something():
    for shape in ((100, 150), (7, 200)):
        ours = build(type='Resize', scale=(288, 192), keep_ratio=True)(sample(*shape))
        theirs = build(type='mmdet.Resize', scale=(288, 192), keep_ratio=True)(sample(*shape))
        np.testing.assert_array_equal(ours['img'], theirs['img'])
        assert ours['scale_factor'] == theirs['scale_factor']


@pytest.mark.parametrize('shape', SHAPES)
@pytest.mark.parametrize('pack', ['PackPanopticInputs', 'PackDetInputs'])
@pytest.mark.parametrize('direction', ['horizontal', 'vertical', 'diagonal'])
def test_flipped_rows_are_packed(shape: tuple[int, int], pack: str, direction: str):
    given = sample(*shape)
    axes = dict(horizontal=(1,), vertical=(0,), diagonal=(0, 1))[direction]
    flipped = build(type='RandomFlip', prob=1.0, direction=direction)(sample(*shape))
    packed = build(type=pack)(flipped)
    np.testing.assert_array_equal(packed['inputs'].permute(1, 2, 0).numpy(), np.flip(given['img'], axes))


def test_a_map_that_a_transform_has_left_behind():
    """As mosaics and mixed images of mmdet's do, which train on the labels of another image."""
    results = sample(20, 30) | dict(img=np.zeros((40, 60, 3), np.uint8), img_shape=(40, 60))
    with pytest.raises(DatasetError, match=r'x\.png: gt_seg_map is 20x30 .* where the image is 40x60: a transform'):
        PackPanopticInputs()(dict(results))
    in_testing = results | dict(gt_panoptic_map=np.zeros((20, 30), np.int32), segments_info=[])
    assert PackPanopticInputs()(in_testing)['data_samples'].gt_sem_seg.sem_seg.shape == (1, 20, 30)
