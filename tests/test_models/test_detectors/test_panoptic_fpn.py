"""Panoptic FPN on what datasets bring: nothing to find, crowds only, images of several sizes."""

import pytest
import torch
from helpers.models import load_config, train_step
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.runner import set_random_seed
from mmengine.structures import InstanceData, PixelData

from mmpanoptic.registry import MODELS

SIZES = (64, 96), (96, 64), (80, 80)


@pytest.fixture(scope='module')
def model() -> torch.nn.Module:
    config = load_config('panoptic_fpn/panoptic-fpn_r18_fpn_shapes')
    set_random_seed(0)
    return MODELS.build(config.model)


def instances(size: tuple[int, int], num: int) -> InstanceData:
    """Overlapping boxes with full masks, of the classes 0, 1, ..."""
    boxes = torch.tensor([[8.0 * i, 4, 8 * i + 30, 40] for i in range(num)]).reshape(-1, 4)
    masks = torch.zeros(num, *size, dtype=torch.uint8)
    for mask, (x, y, right, bottom) in zip(masks, boxes.int().tolist(), strict=True):
        mask[y:bottom, x:right] = 1
    return InstanceData(bboxes=boxes, labels=torch.arange(num), masks=BitmapMasks(masks.numpy(), *size))


def batch(*contents: tuple[tuple[int, int], int, int]) -> dict:
    """Data as it leaves the data loader: for each image its size and its numbers of instances and of crowds."""
    inputs, samples = [], []
    for index, (size, num, num_crowds) in enumerate(contents):
        generator = torch.Generator().manual_seed(index)
        inputs.append(torch.randint(0, 256, (3, *size), generator=generator, dtype=torch.uint8))
        sample = DetDataSample(metainfo=dict(img_shape=size, ori_shape=size, scale_factor=(1.0, 1.0)))
        sample.gt_instances, sample.ignored_instances = instances(size, num), instances(size, num_crowds)
        sample.gt_sem_seg = PixelData(sem_seg=torch.full((1, *size), 8))
        samples.append(sample)
    return dict(inputs=inputs, data_samples=samples)


@pytest.mark.parametrize(
    'contents',
    [[(SIZES[0], 0, 0)], [(SIZES[0], 0, 2)], [(SIZES[0], 0, 0), (SIZES[1], 2, 1)]],
    ids=['nothing', 'crowds only', 'one of two'],
)
def test_trains_without_instances(model, contents):
    """Every parameter gets a gradient all the same, without which DDP would wait for ever."""
    values = train_step(model, batch(*contents))
    assert values['loss_seg'] > 0
    if not any(num for _, num, _ in contents):
        assert values['loss_bbox'] == values['loss_mask'] == values['loss_rpn_bbox'] == 0


def test_each_image_of_a_batch_is_predicted_at_its_size(model):
    """Padding to the largest of the batch moves scores a little, but not sizes."""
    model.eval()
    data = batch(*((size, 0, 0) for size in SIZES))
    with torch.no_grad():
        together = model.test_step(data)
    for sample, size in zip(together, SIZES, strict=True):
        assert sample.pred_panoptic_seg.sem_seg.shape == (1, *size)
        assert sample.pred_instances.masks.shape[1:] == size


def test_images_of_one_size_do_not_influence_each_other(model):
    model.eval()
    data = batch((SIZES[0], 0, 0), (SIZES[0], 0, 0))
    with torch.no_grad():
        together = model.test_step(data)
        for image, sample, its in zip(data['inputs'], data['data_samples'], together, strict=True):
            (alone,) = model.test_step(dict(inputs=[image], data_samples=[sample]))
            different = alone.pred_panoptic_seg.sem_seg != its.pred_panoptic_seg.sem_seg
            assert different.float().mean() < 0.01, 'up to rounding'
            assert torch.allclose(alone.pred_instances.scores[:5], its.pred_instances.scores[:5], atol=1e-4)


def test_raw_outputs(model):
    """``mode='tensor'``, which counts operations: with and without samples."""
    model.eval()
    data = model.data_preprocessor(batch((SIZES[0], 0, 0), (SIZES[0], 0, 0)), training=False)
    with torch.no_grad():
        outputs = model(data['inputs'], data['data_samples'], mode='tensor')
        *_, semantics = outputs
        assert len(outputs) >= 4
        assert semantics.shape[:2] == (2, 7), 'all things as one class, and six of stuff'
        assert len(model(data['inputs'], mode='tensor')) == len(outputs)
