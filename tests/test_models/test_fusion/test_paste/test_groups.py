"""Groups of pixels by what covers them; the maps that are made with them are compared in ``test_devices.py``."""

import numpy as np
import pytest
import torch
from helpers.drawn import S, T, drawn_evidence, on_gpu
from helpers.second_device import SecondDevice, from_gpu

from mmpanoptic.models import BoxFillFusion, HeuristicFusion
from mmpanoptic.models.fusion.paste import groups
from mmpanoptic.models.fusion.paste.box_fill_fusion import fill_boxes
from mmpanoptic.structures import Evidence, StuffLogits


def test_probabilities_are_refused():
    evidence = drawn_evidence(3, 9, (12, 15))
    evidence.instances.masks = evidence.instances.masks.float()
    with pytest.raises(TypeError, match=r'masks must be bool or uint8, not torch\.float32'):
        HeuristicFusion(T, S).fuse(evidence)
    with SecondDevice(), pytest.raises(TypeError, match=r'masks must be bool or uint8, not torch\.float32'):
        HeuristicFusion(T, S).fuse(on_gpu(evidence))


def test_masks_of_another_type():
    evidence = drawn_evidence(3, 9, (12, 15))
    expected, _ = HeuristicFusion(T, S).fuse(evidence)
    evidence.instances.masks = evidence.instances.masks.to(torch.uint8) * 7
    with SecondDevice():
        found, _ = HeuristicFusion(T, S).fuse(on_gpu(evidence))
    assert torch.equal(from_gpu(found), expected)


@pytest.mark.parametrize('number', [0, 1, 8, 64, 65, 130])
def test_planes_are_packed_bit_by_bit(number):
    planes = torch.from_numpy(np.random.default_rng(0).random((number, 4, 5)) < 0.5)
    words = groups.join_bytes(groups.pack_masks(planes))
    assert words.shape == (max(1, -(-number // 64)), 20)
    for k, plane in enumerate(planes.flatten(1)):
        assert torch.equal((words[k // 64] >> (k % 64) & 1).bool(), plane)


@pytest.mark.filterwarnings('ignore:invalid value encountered in cast')
def test_boxes_out_of_bounds_cover_what_is_filled():
    """Also those of numbers that no integer holds, of which a GPU makes other integers than a CPU."""
    values = torch.tensor([float('nan'), float('inf'), -float('inf'), -3.5, 0.0, 2.7, 1e30])
    boxes = torch.cartesian_prod(values, values, values, values)
    packed = groups.pack_boxes(boxes, (5, 6))
    for k in range(0, len(boxes), 7):
        filled, _ = fill_boxes(torch.full((5, 6), 9, dtype=torch.int32), boxes[k : k + 1], [0], [0], [], 0.0, 9)
        assert torch.equal((packed[k // 8] >> (k % 8) & 1).bool(), (filled != 9).flatten()), boxes[k]


def test_groups_are_pixels_of_one_fate():
    evidence = drawn_evidence(1, 70, (31, 40))
    planes, labels = evidence.instances.masks, evidence.stuff.labels
    found = groups.group_pixels([groups.pack_masks(planes), groups.pack_masks(planes[:3])], labels)
    for members, expected in zip(found.members, (planes, planes[:3]), strict=True):
        members = torch.from_numpy(members)[found.group].permute(2, 0, 1)
        assert torch.equal(members[: len(expected)], expected) and not members[len(expected) :].any()
    assert torch.equal(torch.from_numpy(found.labels)[found.group], labels)
    assert np.array_equal(np.bincount(found.group.flatten()), found.sizes)
    there = groups.group_pixels([groups.pack_masks(planes)], labels, on_cpu=True)
    assert torch.equal(there.group, groups.group_pixels([groups.pack_masks(planes)], labels).group)
    rows = {(label, *row) for label, row in zip(found.labels.tolist(), found.members[0].tolist(), strict=True)}
    assert len(rows) == len(found.sizes)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason='no GPU')
@pytest.mark.parametrize('head_type', [HeuristicFusion, BoxFillFusion])
def test_on_a_gpu(head_type):
    evidence = drawn_evidence(0, 100, (200, 300), as_logits=True)
    expected, segments = head_type(T, S).fuse(evidence)
    on_gpu = Evidence(
        evidence.instances.to('cuda'), StuffLogits(evidence.stuff.logits.cuda(), 'stuff+other'), (200, 300), (200, 300)
    )
    found, found_segments = head_type(T, S).fuse(on_gpu)
    assert found.is_cuda and torch.equal(found.cpu(), expected) and found_segments == segments
