"""Pasting by groups of pixels: the maps of pasting one by one, with as many transfers for 200 instances as for none."""

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.structures import InstanceData
from torch.utils._python_dispatch import TorchDispatchMode

from mmpanoptic.models import BoxFillFusion, HeuristicFusion, RankingFusion
from mmpanoptic.models.fusion.paste import groups
from mmpanoptic.models.fusion.paste.box_fill_fusion import fill_boxes
from mmpanoptic.structures import Evidence, StuffLabels, StuffLogits

T, S = 3, 4


class OnDevice:
    """What a fusion head does where the evidence is on a GPU, on the CPU."""

    def _paste(self, instances, seen, order, semantic):
        grouped = groups.group_pixels(self._planes(instances), semantic)
        values, pasted, stuff = self._decide(grouped, seen.labels.tolist(), order)
        return torch.from_numpy(values)[grouped.group], pasted, stuff


def on_device(head_type):
    return type(f'{head_type.__name__}OnDevice', (OnDevice, head_type), {})


HEADS = (HeuristicFusion, BoxFillFusion, RankingFusion)


def drawn_evidence(rng, number, size, as_logits=False):
    """Rectangles that overlap, some of one pixel, some empty; scores with ties."""
    height, width = size
    masks = np.zeros((number, *size), bool)
    boxes = np.zeros((number, 4), np.float32)
    for mask, box in zip(masks, boxes, strict=True):
        top, left = rng.integers(-1, height), rng.integers(-1, width)
        down, across = rng.integers(0, height), rng.integers(0, width)
        mask[max(top, 0) : top + down, max(left, 0) : left + across] = True
        mask &= rng.random(size) < rng.choice([0.5, 1.0])
        box[:] = left + rng.random(), top, left + across, top + down + rng.random()
    if number:
        masks[0] = False
        masks[-1] = False
        masks[-1, height // 2, width // 2] = True
    scores = torch.from_numpy(rng.choice([0.1, 0.5, 0.5, 0.7, 0.9], number).astype(np.float32))
    labels = torch.from_numpy(rng.integers(0, T, number))
    instances = InstanceData(
        masks=torch.from_numpy(masks), bboxes=torch.from_numpy(boxes), scores=scores, labels=labels
    )
    if as_logits:
        stuff = StuffLogits(torch.from_numpy(rng.normal(size=(S + 1, *size)).astype(np.float32)), 'stuff+other')
    else:
        coarse = rng.integers(0, S + 1, (-(-height // 3), -(-width // 3)))
        stuff = StuffLabels(torch.from_numpy(coarse.repeat(3, 0).repeat(3, 1)[:height, :width]))
    return Evidence(instances, stuff, size, size)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    number=st.sampled_from([0, 1, 2, 7, 63, 64, 65, 130, 200]),
    size=st.sampled_from([(1, 1), (1, 9), (8, 1), (12, 15), (31, 40)]),
    head_type=st.sampled_from(HEADS),
    overlap_thr=st.sampled_from([0.0, 0.37, 0.5, 1.0]),
    stuff_area_limit=st.sampled_from([0, 1, 10, 1000]),
    as_logits=st.booleans(),
)
def test_same_maps(seed, number, size, head_type, overlap_thr, stuff_area_limit, as_logits):
    evidence = drawn_evidence(np.random.default_rng(seed), number, size, as_logits)
    thresholds = dict(score_thr=0.5, overlap_thr=overlap_thr, stuff_area_limit=stuff_area_limit)
    torch.manual_seed(0)
    plain = head_type(T, S, **thresholds)
    torch.manual_seed(0)
    grouped = on_device(head_type)(T, S, **thresholds)
    expected, segments = plain.fuse(evidence)
    found, found_segments = grouped.fuse(evidence)
    assert found.dtype == expected.dtype == torch.int32
    assert torch.equal(found, expected)
    assert found_segments == segments


def test_probabilities_are_refused():
    evidence = drawn_evidence(np.random.default_rng(3), 9, (12, 15))
    evidence.instances.masks = evidence.instances.masks.float()
    for head in (HeuristicFusion, on_device(HeuristicFusion)):
        with pytest.raises(TypeError, match=r'masks must be bool or uint8, not torch\.float32'):
            head(T, S).fuse(evidence)


def test_masks_of_another_type(seed=3):
    evidence = drawn_evidence(np.random.default_rng(seed), 9, (12, 15))
    expected, _ = HeuristicFusion(T, S).fuse(evidence)
    evidence.instances.masks = evidence.instances.masks.to(torch.uint8) * 7
    assert torch.equal(on_device(HeuristicFusion)(T, S).fuse(evidence)[0], expected)


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
    evidence = drawn_evidence(np.random.default_rng(1), 70, (31, 40))
    planes, labels = evidence.instances.masks, evidence.stuff.labels
    found = groups.group_pixels([groups.pack_masks(planes), groups.pack_masks(planes[:3])], labels)
    for members, expected in zip(found.members, (planes, planes[:3]), strict=True):
        members = torch.from_numpy(members)[found.group].permute(2, 0, 1)
        assert torch.equal(members[: len(expected)], expected) and not members[len(expected) :].any()
    assert torch.equal(torch.from_numpy(found.labels)[found.group], labels)
    assert np.array_equal(np.bincount(found.group.flatten()), found.sizes)
    rows = {(label, *row) for label, row in zip(found.labels.tolist(), found.members[0].tolist(), strict=True)}
    assert len(rows) == len(found.sizes)


class Waits(TorchDispatchMode):
    """Counts operations after which a CPU waits for a GPU, or that copy between them."""

    NAMES = ('_local_scalar_dense', 'nonzero', '_to_copy', 'copy_', 'unique', '_unique2', 'is_nonzero', 'item')

    def __init__(self):
        super().__init__()
        self.counts = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        if name in self.NAMES:
            self.counts[name] += 1
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize('head_type', [HeuristicFusion, BoxFillFusion])
def test_waits_do_not_grow_with_the_instances(head_type):
    counts = []
    for number in (3, 60, 200):
        evidence = drawn_evidence(np.random.default_rng(0), number, (31, 40), as_logits=True)
        with Waits() as waits:
            on_device(head_type)(T, S).fuse(evidence)
        counts.append((waits.counts['_local_scalar_dense'], waits.counts['nonzero']))
    assert counts[0] == counts[1] == counts[2]
    assert counts[0] == (0, 3)  # runs, groups, and the instances above the threshold, which are on the CPU


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason='no GPU')
@pytest.mark.parametrize('head_type', [HeuristicFusion, BoxFillFusion])
def test_on_a_gpu(head_type):
    evidence = drawn_evidence(np.random.default_rng(0), 100, (200, 300), as_logits=True)
    expected, segments = head_type(T, S).fuse(evidence)
    on_gpu = Evidence(
        evidence.instances.to('cuda'), StuffLogits(evidence.stuff.logits.cuda(), 'stuff+other'), (200, 300), (200, 300)
    )
    found, found_segments = head_type(T, S).fuse(on_gpu)
    assert found.is_cuda and torch.equal(found.cpu(), expected) and found_segments == segments
