"""Detectron's anchors, boxes and masks, worked out by hand."""

import copy
import math

import numpy as np
import pytest
import torch
from mmcv.ops import nms
from mmdet.models.task_modules import LegacyAnchorGenerator, LegacyDeltaXYWHBBoxCoder
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import HorizontalBoxes
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData

from mmpanoptic.models import DetectronAnchorGenerator, DetectronBBoxCoder, paste_mask
from mmpanoptic.registry import MODELS, TASK_UTILS

PYRAMID = dict(scales=[8], ratios=[0.5, 1.0, 2.0], strides=[4, 8, 16, 32, 64])
RELEASED_ANCHORS = {
    0: [(-22, -10, 25, 13), (-14, -14, 17, 17), (-10, -22, 13, 25)],
    # Halves to even: 45 · 0.5 = 22.5 is 22, so 176 pixels.
    3: [(-164, -72, 195, 103), (-112, -112, 143, 143), (-76, -168, 107, 199)],
    4: [(-332, -152, 395, 215), (-224, -224, 287, 287), (-148, -328, 211, 391)],
}


def test_base_anchors():
    generator = TASK_UTILS.build(dict(type='DetectronAnchorGenerator', **PYRAMID))
    for level, expected in RELEASED_ANCHORS.items():
        assert generator.base_anchors[level].tolist() == [list(map(float, box)) for box in expected]
    other = LegacyAnchorGenerator(center_offset=0.5, **PYRAMID)
    far = [(a - b).abs().max() for a, b in zip(generator.base_anchors, other.base_anchors, strict=True)]
    assert max(far) == 3


def test_anchors_of_a_grid_are_a_stride_apart():
    generator = DetectronAnchorGenerator(**PYRAMID)
    anchors = generator.grid_priors([(2, 3)] * 5, device='cpu')[0].reshape(2, 3, 3, 4)
    assert anchors[1, 2, 1].tolist() == [-14 + 8, -14 + 4, 17 + 8, 17 + 4]


@pytest.mark.parametrize('scale_major', [True, False])
def test_several_scales_are_ordered_as_in_mmdet(scale_major):
    kwargs = dict(strides=[16], scales=[4, 16], ratios=[0.5, 1.0], scale_major=scale_major)
    ours = DetectronAnchorGenerator(**kwargs).base_anchors[0]
    theirs = LegacyAnchorGenerator(center_offset=0.5, **kwargs).base_anchors[0]
    assert ours.shape == (4, 4)
    assert (ours - theirs).abs().max() < 8  # sides of 46 to 368


def test_anchors_about_a_given_centre():
    generator = DetectronAnchorGenerator(strides=[4], scales=[1], ratios=[1.0], centers=[(10.0, 20.0)])
    assert generator.base_anchors[0].tolist() == [[8.5, 18.5, 11.5, 21.5]]


@pytest.fixture
def coder():
    return TASK_UTILS.build(dict(type='DetectronBBoxCoder', target_stds=[0.1, 0.1, 0.2, 0.2]))


BOXES = torch.tensor([[0.0, 0, 9, 19], [3, 4, 3, 4], [10.5, 20.25, 99, 50]])
TARGETS = torch.tensor([[2.0, 1, 5, 30], [0, 0, 60, 7], [11, 20, 80, 55.5]])


def test_decoding_undoes_encoding(coder):
    torch.testing.assert_close(coder.decode(BOXES, coder.encode(BOXES, TARGETS)), TARGETS)
    assert torch.equal(coder.decode(BOXES, torch.zeros(3, 4)), BOXES)
    # The reason for a coder of our own.
    theirs = LegacyDeltaXYWHBBoxCoder().decode(BOXES, torch.zeros(3, 4))
    assert torch.equal(theirs, BOXES + torch.tensor([-0.5, -0.5, 0.5, 0.5]))


def test_decoding_by_hand(coder):
    # 10 pixels wide, 20 high; moved by a tenth and a fifth of that; half as wide, twice as high.
    deltas = torch.tensor([[1.0, 2, -5 * math.log(2), 5 * math.log(2)]])
    decoded = coder.decode(BOXES[:1], deltas)
    # Middle 5.5, 13.5; 5 pixels from 3.5 to 7.5 and 40 pixels from -6 to 33.
    torch.testing.assert_close(decoded, torch.tensor([[3.5, -6, 7.5, 33]]))
    torch.testing.assert_close(coder.decode(BOXES[:1], deltas, max_shape=(30, 7)), torch.tensor([[3.5, 0, 6, 29]]))


def test_growth_is_limited_and_shrinkage_is_not():
    coder = DetectronBBoxCoder()
    deltas = torch.tensor([[0.0, 0, 100, -100]])
    x1, y1, x2, y2 = coder.decode(torch.tensor([[0.0, 0, 15, 15]]), deltas)[0].tolist()
    assert x2 - x1 + 1 == pytest.approx(1000, rel=1e-4)
    assert y2 - y1 + 1 == pytest.approx(0, abs=1e-5)


def test_deltas_of_many_classes_and_of_no_box(coder):
    deltas = torch.randn(3, 12)
    by_class = [coder.decode(BOXES, deltas[:, i : i + 4]) for i in (0, 4, 8)]
    torch.testing.assert_close(coder.decode(BOXES, deltas), torch.cat(by_class, dim=1))
    assert coder.decode(BOXES[:0], deltas[:0]).shape == (0, 12)


def test_box_types():
    coder = DetectronBBoxCoder(use_box_type=True)
    decoded = coder.decode(HorizontalBoxes(BOXES), torch.zeros(3, 4))
    assert isinstance(decoded, HorizontalBoxes)
    assert torch.equal(decoded.tensor, BOXES)


def test_nms_with_offset_counts_the_last_pixel():
    # 2 and 1 of 2 pixels in that convention: overlap 1/2. Otherwise the second has no area.
    boxes = torch.tensor([[0.0, 0, 1, 0], [0, 0, 0, 0]])
    scores = torch.tensor([0.9, 0.8])
    assert len(nms(boxes, scores, iou_threshold=0.4, offset=1)[0]) == 1
    assert len(nms(boxes, scores, iou_threshold=0.6, offset=1)[0]) == 2
    assert len(nms(boxes, scores, iou_threshold=0.4)[0]) == 2


ONES = np.ones((28, 28), np.float32)


def test_mask_is_pasted_by_hand():
    # 27 / 2 · 30 / 28 = 14.46 about (23.5, 43.5): pixels 9 to 37 and 29 to 57. The first and the last
    # are the zeros'.
    pasted = paste_mask(ONES, np.float32([10, 30, 37, 57]), 70, 50, 0.5)
    expected = np.zeros((70, 50), bool)
    expected[30:57, 10:37] = True
    assert np.array_equal(pasted, expected)


def test_mask_beyond_the_border_is_cut():
    # 27.9 / 2 · 30 / 28 = 14.95 about 14.05: from -0.90, of which the fraction is cut off. Pixel 0 is the zeros'.
    pasted = paste_mask(ONES, np.float32([0.1, -14, 28, 13]), 12, 20, 0.5)
    assert pasted.shape == (12, 20)
    assert pasted[:, 1:].all() and not pasted[:, 0].any()


@pytest.mark.parametrize('box', [[5, 5, 4.2, 4.2], [5, 5, 5, 5], [-20, -20, -10, -10], [40, 40, 60, 60]])
def test_masks_of_hardly_any_pixel_do_no_harm(box):
    assert paste_mask(ONES, np.float32(box), 12, 12, 0.5).sum() <= 1


def test_threshold_is_exceeded():
    assert not paste_mask(ONES / 2, np.float32([2, 2, 9, 9]), 12, 12, 0.5).any()


def roi_head(class_agnostic=False, masks=True):
    extractor = dict(type='SingleRoIExtractor', out_channels=8, featmap_strides=[4])
    config = dict(
        type='DetectronRoIHead',
        bbox_roi_extractor=dict(extractor, roi_layer=dict(type='RoIAlign', output_size=7)),
        bbox_head=dict(
            type='Shared2FCBBoxHead',
            in_channels=8,
            fc_out_channels=8,
            num_classes=2,
            bbox_coder=dict(type='DetectronBBoxCoder', target_stds=[0.1, 0.1, 0.2, 0.2]),
        ),
        train_cfg=None,
        test_cfg=dict(
            score_thr=0.4, nms=dict(type='nms', iou_threshold=0.5, offset=1), max_per_img=5, mask_thr_binary=0.5
        ),
    )
    if masks:
        config['mask_roi_extractor'] = dict(extractor, roi_layer=dict(type='RoIAlign', output_size=14))
        config['mask_head'] = dict(
            type='FCNMaskHead',
            num_convs=1,
            in_channels=8,
            conv_out_channels=8,
            num_classes=2,
            class_agnostic=class_agnostic,
        )
    init_default_scope('mmpanoptic')
    head = MODELS.build(ConfigDict(copy.deepcopy(config))).eval()
    with torch.no_grad():  # deltas 0; class 1 for all
        for layer in (head.bbox_head.fc_reg, head.bbox_head.fc_cls):
            layer.weight.zero_()
            layer.bias.zero_()
        head.bbox_head.fc_cls.bias.copy_(torch.tensor([0.0, 5, 0]))
        if masks:
            head.mask_head.conv_logits.weight.zero_()
            head.mask_head.conv_logits.bias.fill_(3.0)
    return head


def sample(height, width, scale):
    size = round(height * scale), round(width * scale)
    return DetDataSample(metainfo=dict(ori_shape=(height, width), img_shape=size, scale_factor=(scale, scale)))


def predict(head, proposals, samples, rescale):
    proposals = [InstanceData(bboxes=torch.tensor(boxes).reshape(-1, 4)) for boxes in proposals]
    with torch.no_grad():
        return head.predict((torch.randn(len(samples), 8, 16, 24),), proposals, samples, rescale)


@pytest.mark.parametrize('masks', [True, False])
def test_boxes_are_handed_out_where_their_last_pixel_ends(masks):
    # In the image: 5 to 20 and 10 to 25; to the last pixel of 40x30; nothing.
    proposals = [[[10.0, 20, 40, 50]], [[30.0, 30, 90, 90]], []]
    samples = [sample(32, 48, 2.0), sample(30, 40, 1.5), sample(32, 48, 2.0)]
    first, second, third = predict(roi_head(masks=masks), proposals, samples, rescale=True)
    assert first.bboxes.tolist() == [[5, 10, 21, 26]]
    assert second.bboxes.tolist() == [[20, 20, 40, 30]]
    assert first.labels.tolist() == second.labels.tolist() == [1]
    assert third.bboxes.shape == (0, 4)
    assert [hasattr(results, 'masks') for results in (first, second, third)] == [masks] * 3
    enlarged = predict(roi_head(masks=masks), proposals, samples, rescale=False)
    assert enlarged[0].bboxes.tolist() == [[10, 20, 42, 52]]
    assert enlarged[1].bboxes.tolist() == [[30, 30, 60, 45]]


@pytest.mark.parametrize('class_agnostic', [True, False])
def test_masks_have_the_size_of_the_image(class_agnostic):
    proposals, samples = [[[10.0, 20, 40, 50]], []], [sample(32, 48, 2.0), sample(30, 40, 1.5)]
    for rescale, sizes in ((True, [(32, 48), (30, 40)]), (False, [(64, 96), (45, 60)])):
        found = predict(roi_head(class_agnostic), proposals, samples, rescale)
        assert [tuple(results.masks.shape[1:]) for results in found] == sizes
        assert all(results.masks.dtype == torch.bool for results in found)
        assert found[0].masks.any()
    (results,) = predict(roi_head(class_agnostic), [[[10.0, 20, 40, 50]]], samples[:1], True)
    # 7.5 · 30 / 28 = 8.04 about (12.5, 17.5): pixels 4 to 20 and 9 to 25. A pixel is 30 / 17 of the mask's, so that the
    # first (0.38) is below and the second (2.15) within.
    rows, columns = results.masks[0].nonzero(as_tuple=True)
    assert (columns.min(), columns.max(), rows.min(), rows.max()) == (5, 19, 10, 24)


def test_no_proposal_at_all():
    (results,) = predict(roi_head(), [[]], [sample(32, 48, 2.0)], rescale=True)
    assert results.bboxes.shape == (0, 4) and results.masks.shape == (0, 32, 48)
