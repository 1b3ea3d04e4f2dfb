"""Boxes and masks of several views: where they lie in the image, NMS, and voting; numbers worked out by hand."""

import pytest
import torch
from mmdet.models.layers import multiclass_nms
from mmengine.structures import InstanceData

from mmpanoptic.models.test_time_augs import voting
from mmpanoptic.utils import UserError


def view(direction: str | None = None, scale: tuple[float, float] = (1.0, 1.0)) -> dict:
    """Metainfo of a view of an image 100 pixels wide and 60 high."""
    return dict(ori_shape=(60, 100), scale_factor=scale, flip=direction is not None, flip_direction=direction)


def instances(*rows: tuple[list[float], float, int]) -> InstanceData:
    """Instances from (box, score, label)."""
    bboxes, scores, labels = zip(*rows, strict=True) if rows else ((), (), ())
    return InstanceData(
        bboxes=torch.tensor(bboxes).reshape(-1, 4), scores=torch.tensor(scores), labels=torch.tensor(labels).long()
    )


@pytest.mark.parametrize(
    ('direction', 'offset', 'expected'),
    [
        (None, 0, [5, 40, 15, 60]),
        (None, 1, [5, 40, 15, 60]),
        ('horizontal', 0, [35, 40, 45, 60]),
        ('horizontal', 1, [34.5, 40, 44.5, 60]),  # the pixels 10 to 30 become 99 - 30 to 99 - 10
        ('vertical', 0, [5, 60, 15, 80]),
        ('vertical', 1, [5, 58, 15, 78]),
        ('diagonal', 0, [35, 60, 45, 80]),
        ('diagonal', 1, [34.5, 58, 44.5, 78]),
    ],
)
def test_boxes_in_a_view(direction: str | None, offset: int, expected: list[float]):
    """Of half the width and twice the height."""
    meta = view(direction, scale=(0.5, 2.0))
    box = torch.tensor([[10.0, 20.0, 30.0, 30.0]])
    assert voting.boxes_to_view(box, meta, offset).tolist() == [expected]
    assert torch.equal(voting.boxes_to_image(torch.tensor([expected]).float(), meta, offset), box)


@pytest.mark.parametrize('direction', [None, 'horizontal', 'vertical', 'diagonal'])
@pytest.mark.parametrize('offset', [0, 1])
def test_boxes_come_back(direction: str | None, offset: int):
    torch.manual_seed(0)
    corners = torch.rand(20, 2, 2).sort(dim=1).values * torch.tensor([100, 60])
    bboxes = corners.flatten(1)
    meta = view(direction, scale=(0.37, 0.41))
    there = voting.boxes_to_view(bboxes, meta, offset)
    torch.testing.assert_close(voting.boxes_to_image(there, meta, offset), bboxes, rtol=0, atol=1e-4)
    of_classes = voting.boxes_to_image(there.reshape(5, 16), meta, offset)
    torch.testing.assert_close(of_classes.reshape(20, 4), bboxes, rtol=0, atol=1e-4)
    assert voting.boxes_to_image(torch.zeros(0, 4), meta).shape == (0, 4)


def test_masks_are_turned_back():
    maps = torch.tensor([[[1, 2, 3], [4, 5, 6]]])
    assert voting.unflip(maps, view()).tolist() == [[[1, 2, 3], [4, 5, 6]]]
    assert voting.unflip(maps, view('horizontal')).tolist() == [[[3, 2, 1], [6, 5, 4]]]
    assert voting.unflip(maps, view('vertical')).tolist() == [[[4, 5, 6], [1, 2, 3]]]
    assert voting.unflip(maps, view('diagonal')).tolist() == [[[6, 5, 4], [3, 2, 1]]]


def test_views_have_to_say_whether_they_are_mirrored():
    meta = view()
    del meta['flip']
    with pytest.raises(UserError, match="tta_pipeline: samples have no 'flip'"):
        voting.unflip(torch.zeros(1, 2, 2), meta)


@pytest.mark.parametrize('shared', [False, True])
def test_candidates(shared: bool):
    boxes = torch.arange(16.0).reshape(2, 8)
    scores = torch.tensor([[0.5, 0.3, 0.2], [0.05, 0.06, 0.89]])
    found = voting.candidates(boxes[:, :4] if shared else boxes, scores, score_thr=0.05)  # which is not enough itself
    expected = [[0, 1, 2, 3], [0, 1, 2, 3], [8, 9, 10, 11]] if shared else boxes.reshape(4, 4)[[0, 1, 3]].tolist()
    assert found.bboxes.tolist() == expected
    assert found.scores.tolist() == pytest.approx([0.5, 0.3, 0.06])
    assert found.labels.tolist() == [0, 1, 1]
    assert len(voting.candidates(torch.zeros(0, 4), torch.zeros(0, 3), 0.0)) == 0


def test_suppression_is_that_of_mmdet():
    torch.manual_seed(0)
    corners = (torch.rand(50, 3, 2, 2) * 20).sort(dim=2).values
    boxes, scores = corners.reshape(50, 12), torch.rand(50, 4).softmax(dim=1)
    for limit in (-1, 5):
        dets, labels = multiclass_nms(boxes, scores, 0.2, dict(type='nms', iou_threshold=0.5), limit)
        kept = voting.suppress(voting.candidates(boxes, scores, 0.2), dict(type='nms', iou_threshold=0.5), limit)
        assert torch.equal(torch.cat([kept.bboxes, kept.scores[:, None]], dim=1), dets)
        assert torch.equal(kept.labels, labels)
    assert len(kept) == 5


def test_soft_suppression_lowers_scores():
    rows = ([0.0, 0.0, 10.0, 10.0], 0.9, 0), ([0.0, 0.0, 10.0, 9.0], 0.8, 0)
    kept = voting.suppress(instances(*rows), dict(type='soft_nms', iou_threshold=0.5, min_score=0.01))
    assert kept.scores.tolist() == pytest.approx([0.9, 0.8 * (1 - 0.9)])


def test_suppression_of_nothing():
    assert len(voting.suppress(instances(), dict(type='nms', iou_threshold=0.5), 5)) == 0


def test_box_voting():
    """Weights, the IoU that is just enough, one that is not, another class, and two boxes that vote apart."""
    kept = instances(([0.0, 0.0, 10.0, 10.0], 0.9, 0), ([50.0, 0.0, 60.0, 10.0], 0.5, 0))
    voters = instances(
        ([0.0, 0.0, 10.0, 10.0], 0.9, 0),
        ([0.0, 0.0, 8.0, 10.0], 0.3, 0),  # IoU 0.8
        ([0.0, 0.0, 10.0, 7.9], 0.8, 0),  # IoU 0.79
        ([0.0, 0.0, 10.0, 10.0], 0.7, 1),
        ([50.0, 0.0, 60.0, 10.0], 0.5, 0),
        ([51.0, 0.0, 60.0, 10.0], 0.5, 0),  # IoU 0.9
    )
    voted = voting.vote_boxes(kept, voters, iou_thr=0.8)
    expected = torch.tensor([[0, 0, (0.9 * 10 + 0.3 * 8) / 1.2, 10], [50.5, 0, 60, 10]])
    torch.testing.assert_close(voted, expected)
    assert kept.scores.tolist() == pytest.approx([0.9, 0.5])
    loose = voting.vote_boxes(kept, voters, iou_thr=0.79)
    assert loose[0, 3] == pytest.approx((0.9 * 10 + 0.3 * 10 + 0.8 * 7.9) / 2)


def test_box_voting_where_boxes_include_their_last_pixel():
    kept = instances(([0.0, 0.0, 9.0, 9.0], 0.5, 0))
    voters = instances(([0.0, 0.0, 9.0, 9.0], 0.5, 0), ([0.0, 0.0, 7.0, 9.0], 0.5, 0))  # 80 of 100 pixels
    assert voting.vote_boxes(kept, voters, 0.8, offset=1).tolist() == [[0, 0, 8, 9]]
    assert voting.vote_boxes(kept, voters, 0.8).tolist() == [[0, 0, 9, 9]]  # 63 of 81


def test_box_without_voters_stays():
    point = instances(([3.0, 3.0, 3.0, 3.0], 0.5, 0))
    assert voting.vote_boxes(point, point, 0.8).tolist() == [[3, 3, 3, 3]]
    lone = instances(([1.1, 2.3, 777.7, 1003.3], 0.123, 2))
    assert torch.equal(voting.vote_boxes(lone, lone, 0.8), lone.bboxes)
    assert voting.vote_boxes(instances(), lone, 0.8).shape == (0, 4)
    assert voting.vote_boxes(instances(), instances(), 0.8).shape == (0, 4)


def test_mask_voting():
    first, second = torch.tensor([[[1.0, 0.5]]]), torch.tensor([[[0.0, 0.25]]])
    assert voting.vote_masks([first, second]).tolist() == [[[0.5, 0.375]]]
    assert torch.equal(voting.vote_masks([first]), first)
    assert voting.vote_masks([torch.zeros(0, 2, 2)] * 2).shape == (0, 2, 2)
