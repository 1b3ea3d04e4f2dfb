"""HeuristicFusion and the functions it is made of, against maps worked out by hand and against mmdet's head."""

import time

import numpy as np
import pytest
import torch
from helpers.evidence import evidence_of, instances_of, no_instances, one_hot
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.models.seg_heads.panoptic_fusion_heads import HeuristicFusionHead
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData

from mmpanoptic.models.fusion import HeuristicFusion
from mmpanoptic.models.fusion.paste import instances as pasting
from mmpanoptic.models.fusion.stuff import STUFF_AREA_MODES, best_channel, paste_stuff, stuff_labels
from mmpanoptic.registry import MODELS
from mmpanoptic.structures import StuffLabels, StuffLogits

T, S = 3, 2  # things 0..2, stuff 3..4
VOID = T + S
OTHER = S  # index of 'other' among S + 1 channels


def strip(start, stop, width=100):
    """Mask of one row, set from ``start`` to ``stop``."""
    mask = np.zeros((1, width), bool)
    mask[:, start:stop] = True
    return mask


def found(instances, logits, channels='stuff+other'):
    """Evidence with logits."""
    return evidence_of(instances, StuffLogits(logits, channels))


def fuse(instances, logits, channels='stuff+other', **kwargs):
    head = HeuristicFusion(T, S, **{'stuff_area_limit': 0, **kwargs})
    (result,) = head.predict([found(instances, logits, channels)])
    assert result.sem_seg.dtype == torch.int32
    assert result.sem_seg.shape == (1, *logits.shape[1:])
    panoptic, segments = result.sem_seg[0], result.metainfo['segments_info']
    # What holds for every result: the list names exactly what is in the map.
    assert sorted(s['id'] for s in segments) == [i for i in panoptic.unique().tolist() if i != VOID]
    for segment in segments:
        assert segment['id'] % 1000 == segment['label']
        assert (segment['instance'] is None) == (segment['label'] >= T) and 0 <= segment['score'] <= 1
    return panoptic, segments


def all_other(width=100):
    return one_hot(np.full((1, width), OTHER), S + 1)


def test_registered_and_without_loss():
    head = MODELS.build({'type': 'HeuristicFusion', 'num_things_classes': T, 'num_stuff_classes': S})
    assert type(head) is HeuristicFusion
    assert head.loss() == {} == head.loss([], seg=1)
    assert (head.num_classes, head.score_thr, head.overlap_thr, head.stuff_area_limit) == (5, 0.5, 0.5, 4096)


def test_two_things_and_stuff_by_hand():
    instances = instances_of([strip(0, 4, 10), strip(3, 7, 10)], [2, 0], [0.6, 0.9])
    logits = one_hot([[0, 0, 0, 0, 0, 0, 0, 1, 1, OTHER]], S + 1)
    panoptic, segments = fuse(instances, logits)
    assert panoptic.tolist() == [[2002, 2002, 2002, 1000, 1000, 1000, 1000, 4, 4, VOID]]
    assert segments == [
        {'id': 1000, 'label': 0, 'score': pytest.approx(0.9), 'instance': 1},
        {'id': 2002, 'label': 2, 'score': pytest.approx(0.6), 'instance': 0},
        {'id': 4, 'label': 4, 'score': pytest.approx(np.e / (np.e + S)), 'instance': None},  # of logits 1, 0, 0
    ]


def test_score_equal_to_threshold_is_kept():
    instances = instances_of([strip(0, 10), strip(10, 20), strip(20, 30)], [0, 0, 0], [0.37, 0.3699, 0.3701])
    _, segments = fuse(instances, all_other(), score_thr=0.37)
    assert [s['instance'] for s in segments] == [2, 0]


@pytest.mark.parametrize('covered', [36, 37, 38])
def test_overlap_equal_to_threshold_is_kept(covered):
    # 37 / 100 is not more than .37, although 37 > .37 * 100 in floating point may say otherwise.
    instances = instances_of([strip(0, 100, 200), strip(100 - covered, 200 - covered, 200)], [0, 1], [0.9, 0.8])
    panoptic, _ = fuse(instances, all_other(200), overlap_thr=0.37)
    assert (panoptic == 2001).sum() == (100 - covered if covered <= 37 else 0)


def test_overlap_is_exact_for_every_percentage():
    for percent in range(1, 100):
        instances = instances_of([strip(0, 100, 200), strip(100 - percent, 200 - percent, 200)], [0, 1], [0.9, 0.8])
        _, pasted = pasting.paste_instances(instances.masks, [0, 1], [0, 1], percent / 100, VOID)
        assert pasted == [0, 1], percent
        _, pasted = pasting.paste_instances(instances.masks, [0, 1], [0, 1], (percent - 1) / 100, VOID)
        assert pasted == [0], percent


def test_stuff_area_equal_to_limit_is_kept():
    logits = one_hot([[0] * 4 + [1] * 5 + [OTHER] * 3], S + 1)
    for limit, kept in ((4, [3, 4]), (5, [4]), (6, [])):
        panoptic, segments = fuse(no_instances((1, 12)), logits, stuff_area_limit=limit)
        assert [s['label'] for s in segments] == kept
        assert (panoptic == VOID).sum() == 12 - sum({3: 4, 4: 5}[label] for label in kept)


def test_stuff_area_counts_only_what_instances_leave():
    logits = one_hot([[0] * 10], S + 1)
    instances = instances_of([strip(0, 5, 10)], [0], [0.9])
    assert [s['label'] for s in fuse(instances, logits, stuff_area_limit=5)[1]] == [0, 3]
    assert [s['label'] for s in fuse(instances, logits, stuff_area_limit=6)[1]] == [0]


def test_ties_go_to_the_lower_index():
    # Enough instances that an unstable sort would show.
    masks = [strip(0, 100)] * 64
    _, segments = fuse(instances_of(masks, [1] * 64, [0.7] * 64), all_other())
    assert [s['instance'] for s in segments] == [0]
    assert pasting.order_instances(torch.tensor([0.7, 0.9] * 32), 0.5) == [*range(1, 64, 2), *range(0, 64, 2)]


def test_order_by_other_scores():
    scores, ranks = torch.tensor([0.9, 0.4, 0.6, 0.7]), torch.tensor([0.1, 1.0, 0.8, 0.8])
    assert pasting.order_instances(scores, 0.5) == [0, 3, 2]
    # The threshold still is one of confidence, which also decides between equal ranks.
    assert pasting.order_instances(scores, 0.5, ranks) == [3, 2, 0]


def test_dropped_instances_take_no_pixels():
    # The second is dropped (3 of 5 covered); would it count as taken, the third (4 of 6) would be dropped as well.
    masks = [strip(0, 5, 10), strip(2, 7, 10), strip(3, 9, 10)]
    panoptic, segments = fuse(instances_of(masks, [0, 1, 2], [0.9, 0.8, 0.7]), all_other(10))
    assert [s['instance'] for s in segments] == [0, 2]
    assert panoptic.tolist() == [[1000] * 5 + [2002] * 4 + [VOID]]  # k = 2: the dropped one has no number


def test_empty_masks_are_skipped():
    masks = [strip(0, 0, 10), strip(2, 4, 10)]
    panoptic, segments = fuse(instances_of(masks, [0, 1], [0.9, 0.8]), all_other(10))
    assert [(s['id'], s['instance']) for s in segments] == [(1001, 1)]
    assert (panoptic == 1001).sum() == 2


def test_fully_covered_instance_makes_no_segment_at_threshold_one():
    masks = [strip(0, 5, 10), strip(1, 4, 10), strip(4, 9, 10)]
    _, segments = fuse(instances_of(masks, [0, 1, 2], [0.9, 0.8, 0.7]), all_other(10), overlap_thr=1.0)
    assert [(s['id'], s['instance']) for s in segments] == [(1000, 0), (2002, 2)]


@pytest.mark.parametrize('bare', [False, True])
def test_no_instances(bare):
    instances = InstanceData() if bare else no_instances((1, 4))
    panoptic, segments = fuse(instances, one_hot([[0, 1, OTHER, 1]], S + 1))
    assert panoptic.tolist() == [[3, 4, VOID, 4]]
    assert [s['id'] for s in segments] == [3, 4]


def test_nothing_is_left():
    instances = instances_of([strip(0, 4, 4)], [0], [0.4])
    panoptic, segments = fuse(instances, one_hot([[0, 1, OTHER, 1]], S + 1), stuff_area_limit=3)
    assert (panoptic == VOID).all()
    assert segments == []


def test_component_mode():
    stuff = np.full((6, 8), OTHER)
    stuff[0:2, 0:2] = 0  # 4 pixels, and one more that touches them at a corner: a component of 5
    stuff[2, 2] = 0
    stuff[5, 5:8] = 0  # 3 pixels of the same class elsewhere
    stuff[0, 5:8] = 1  # 3 pixels
    logits = one_hot(stuff, S + 1)
    panoptic, segments = fuse(no_instances((6, 8)), logits, stuff_area_limit=5)
    assert torch.equal(panoptic == 3, torch.from_numpy(stuff == 0))
    assert [s['label'] for s in segments] == [3]

    panoptic, segments = fuse(no_instances((6, 8)), logits, stuff_area_limit=5, stuff_area_mode='component')
    assert (panoptic[:3] == 3).sum() == 5 and (panoptic[3:] == VOID).all()
    assert [s['label'] for s in segments] == [3]

    panoptic, segments = fuse(no_instances((6, 8)), logits, stuff_area_limit=6, stuff_area_mode='component')
    assert (panoptic == VOID).all() and segments == []  # 8 pixels in all, but no component of 6


def test_component_mode_splits_by_what_instances_take():
    logits = one_hot([[0] * 10], S + 1)
    instances = instances_of([strip(4, 5, 10)], [0], [0.9])
    panoptic, _ = fuse(instances, logits, stuff_area_limit=5, stuff_area_mode='component')
    assert panoptic.tolist() == [[VOID] * 4 + [1000] + [3] * 5]


def test_channels_of_semantic_logits():
    logits = torch.rand(T + S, 4, 5)
    logits[0] += 10  # a thing wins among all: stuff must be decided among the last S
    expected = logits[T:].argmax(0) + T
    assert torch.equal(fuse(no_instances((4, 5)), logits, 'all')[0], expected.int())
    assert torch.equal(fuse(no_instances((4, 5)), logits[T:], 'stuff')[0], expected.int())
    with pytest.raises(ValueError, match=r"4 channels: with 3 thing and 2 stuff classes, 'all' means 5"):
        fuse(no_instances((4, 5)), logits[:4], 'all')


def test_labels_of_stuff_give_the_same_as_logits():
    masks, labels, _, logits, _ = ground_truth(2)
    instances, semantic = instances_of(masks, labels, np.linspace(1, 0.6, len(masks)).tolist()), best_channel(logits)
    expected, segments = fuse(instances, logits)
    head = HeuristicFusion(T, S, stuff_area_limit=0)
    for dtype in (torch.int64, torch.uint8):
        (result,) = head.predict([evidence_of(instances, StuffLabels(semantic.to(dtype)))])
        assert torch.equal(result.sem_seg[0], expected)
        known = [s if s['instance'] is not None else s | dict(score=None) for s in segments]
        assert result.segments_info == known
    assert stuff_labels(StuffLabels(semantic.byte()), T, S).dtype == torch.int64


def test_equal_logits_go_to_the_lower_channel():
    logits = torch.randint(0, 3, (S + 1, 50, 40)).float()
    expected = torch.from_numpy(logits.numpy().argmax(0))
    assert torch.equal(best_channel(logits), expected)


def ground_truth(seed, height=24, width=32, num=6):
    """Overlapping discs, front first, and the map they make over random stuff: masks, labels, logits, map."""
    rng = np.random.default_rng(seed)
    ys, xs = np.mgrid[:height, :width]
    labels = rng.integers(0, T, num).tolist()
    semantic = np.repeat(np.repeat(rng.integers(0, S + 1, (height // 4, width // 4)), 4, 0), 4, 1)
    masks = np.zeros((num, height, width), bool)
    expected = np.where(semantic == OTHER, VOID, semantic + T)
    for i in reversed(range(num)):
        y, x, radius = rng.uniform(0, height), rng.uniform(0, width), rng.uniform(3, 9)
        masks[i] = (ys - y) ** 2 + (xs - x) ** 2 < radius**2
        expected[masks[i]] = labels[i]
    top = np.where(masks.any(0), masks.argmax(0), -1)
    visible = [i for i in range(num) if (top == i).any()]
    for k, i in enumerate(visible, 1):
        expected[top == i] = labels[i] + 1000 * k
    return masks, labels, top, one_hot(semantic, S + 1), expected


@pytest.mark.parametrize('seed', range(5))
@pytest.mark.parametrize('overlapping', [False, True])
def test_ground_truth_comes_back(seed, overlapping):
    masks, labels, top, logits, expected = ground_truth(seed)
    if not overlapping:
        masks = np.stack([top == i for i in range(len(masks))])
    scores = np.linspace(1, 0.6, len(masks)).tolist()  # true order, front to back
    panoptic, _ = fuse(instances_of(masks, labels, scores), logits, overlap_thr=1.0)
    np.testing.assert_array_equal(panoptic, expected)


@pytest.mark.parametrize('seed', range(5))
@pytest.mark.parametrize('kind', [dict(type='BoxFillFusion', box_fill_thr=1.1), dict(type='RankingFusion')])
def test_ground_truth_comes_back_from_other_heads(kind, seed):
    """Whatever order a ranking without training gives: what is seen of each instance overlaps nothing."""
    masks, labels, top, logits, expected = ground_truth(seed)
    masks = np.stack([top == i for i in range(len(masks))])
    head = MODELS.build(dict(num_things_classes=T, num_stuff_classes=S, overlap_thr=1.0, stuff_area_limit=0, **kind))
    panoptic = head.fuse(found(instances_of(masks, labels, [1.0] * len(masks)), logits))[0].numpy()
    np.testing.assert_array_equal(panoptic % 1000, expected % 1000)
    pairs = np.unique(np.stack([panoptic, expected]).reshape(2, -1), axis=1)
    assert pairs.shape[1] == len(np.unique(panoptic)) == len(np.unique(expected))  # the same segments


@pytest.mark.parametrize('mode', STUFF_AREA_MODES)
def test_inputs_are_unchanged(mode):
    masks, labels, _, logits, _ = ground_truth(0)
    instances = instances_of(masks, labels, [0.9, 0.3, 0.5, 0.8, 0.7, 0.6])
    before, logits_before = instances.clone(), logits.clone()
    fuse(instances, logits, stuff_area_limit=30, stuff_area_mode=mode)
    assert set(instances.keys()) == set(before.keys())
    for key in before.keys():  # noqa: SIM118
        assert torch.equal(instances[key], before[key]), key
    assert torch.equal(logits, logits_before)

    panoptic, pasted = pasting.paste_instances(instances.masks, labels, [0, 3], 0.5, VOID)
    kept = panoptic.clone()
    paste_stuff(panoptic, best_channel(logits), T, S, 30, mode)
    assert torch.equal(panoptic, kept)
    assert pasted == [0, 3]


def test_mask_types():
    masks, labels, _, logits, _ = ground_truth(1)
    scores = [0.9, 0.8, 0.7, 0.6, 0.5, 0.4]
    expected, _ = fuse(instances_of(masks, labels, scores), logits)
    for scale in (1, 255):
        panoptic, _ = fuse(instances_of(masks.astype(np.uint8) * np.uint8(scale), labels, scores), logits)
        assert torch.equal(panoptic, expected)
    strided = instances_of(masks, labels, scores)
    strided.masks = strided.masks.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    assert torch.equal(fuse(strided, logits)[0], expected)
    strided.masks = strided.masks.float()
    with pytest.raises(TypeError, match=r'bool or uint8, not torch\.float32'):
        fuse(strided, logits)


def test_bounds():
    masks = torch.zeros(4, 5, 7, dtype=torch.bool)
    masks[0] = True
    masks[1, 4, 6] = True
    masks[2, 1, 2] = masks[2, 3, 0] = True
    assert pasting.mask_bounds(masks) == [(0, 5, 0, 7), (4, 5, 6, 7), (1, 4, 0, 3), (0, 0, 0, 0)]
    assert pasting.mask_bounds(masks[:0]) == []


def test_several_images_of_different_sizes():
    head = HeuristicFusion(T, S, stuff_area_limit=0)
    logits = [one_hot([[0, 1]], S + 1), one_hot([[1], [1], [0]], S + 1)]
    results = head.predict([found(no_instances((1, 2)), logits[0]), found(no_instances((3, 1)), logits[1])])
    assert [r.sem_seg.tolist() for r in results] == [[[[3, 4]]], [[[4], [4], [3]]]]


def test_sizes_that_differ():
    instances = instances_of([strip(0, 4, 8)], [0], [0.9])
    with pytest.raises(
        ValueError,
        match=r"of size \(1, 9\) .* {'stuff': \(1, 9\), 'masks': \(1, 8\)}",
    ):
        fuse(instances, all_other(9))


def test_arguments_are_checked():
    with pytest.raises(TypeError, match='test_cfg'):
        HeuristicFusion(T, S, test_cfg=ConfigDict(score_thr=0.3))
    with pytest.raises(ValueError, match="stuff_area_mode 'pixel' is none of segment, component"):
        HeuristicFusion(T, S, stuff_area_mode='pixel')
    with pytest.raises(ValueError, match='1000 classes: a panoptic map has room for 999'):
        HeuristicFusion(900, 100)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**32 - 1),
    num=st.integers(0, 9),
    # An area is below 200, so a quotient of areas is never within mmdet's epsilon of these (1 is out of reach).
    overlap_thr=st.sampled_from([1 / 200, 63 / 200, 101 / 200, 157 / 200, 199 / 200, 1.0]),
    limit=st.sampled_from([0, 1, 7, 20, 60]),
    other=st.booleans(),
)
def test_same_map_as_mmdet(seed, num, overlap_thr, limit, other):
    rng = np.random.default_rng(seed)
    height, width = rng.integers(1, 13), rng.integers(1, 17)
    masks = np.zeros((num, height, width), bool)
    for mask in masks:
        top, left = rng.integers(0, height), rng.integers(0, width)
        bottom, right = rng.integers(top, height + 1), rng.integers(left, width + 1)
        mask[top:bottom, left:right] = rng.random((bottom - top, right - left)) < rng.choice([0.3, 0.8, 1.0])
    scores = (rng.permutation(100)[:num] / 100).tolist()
    instances = instances_of(masks, rng.integers(0, T, num).tolist(), scores)
    logits = torch.from_numpy(rng.integers(0, 4, (S + other, height, width)).astype(np.float32))
    theirs = HeuristicFusionHead(T, S, test_cfg=ConfigDict(mask_overlap=overlap_thr, stuff_area_limit=limit))
    (expected,) = theirs.predict([instances], [logits])
    channels = 'stuff+other' if other else 'stuff'
    panoptic, _ = fuse(instances, logits, channels, score_thr=0.0, overlap_thr=overlap_thr, stuff_area_limit=limit)
    assert torch.equal(panoptic, expected.sem_seg[0])


def street_of_ellipses(num=100, height=800, width=1333, stuff=53, seed=0):
    """Detections with COCO's spread of sizes (two fifths small, a quarter large) and coarse semantic logits."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((num, height, width), bool)
    for mask in masks:
        side = np.exp(rng.uniform(np.log(10), np.log(500)))  # square root of the box's area
        aspect = np.exp(rng.uniform(-0.7, 0.7))
        b, a = side * aspect / 2, side / aspect / 2
        y, x = rng.uniform(0, height), rng.uniform(0, width)
        top, left = max(int(y - b), 0), max(int(x - a), 0)
        ys, xs = np.ogrid[top : min(int(y + b) + 1, height), left : min(int(x + a) + 1, width)]
        mask[top : top + len(ys), left : left + xs.shape[1]] = ((ys - y) / b) ** 2 + ((xs - x) / a) ** 2 < 1
    scores = np.sort(rng.permutation(1000)[:num] / 1000)[::-1].tolist()
    instances = instances_of(masks, rng.integers(0, 80, num).tolist(), scores)
    coarse = torch.randn(1, stuff + 1, 12, 20, generator=torch.Generator().manual_seed(seed))
    logits = torch.nn.functional.interpolate(coarse, (height, width), mode='bilinear')[0].contiguous()
    return instances, logits


def seconds(function):
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result


@pytest.mark.timing
@pytest.mark.slow
def test_at_least_three_times_as_fast_as_mmdet():
    instances, logits = street_of_ellipses()
    theirs = HeuristicFusionHead(80, 53, test_cfg=ConfigDict(mask_overlap=0.50001, stuff_area_limit=4096))
    ours = HeuristicFusion(80, 53, score_thr=0.0, overlap_thr=0.50001)
    our_times, their_times = [], []
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        for _ in range(3):  # in turns, so that a busy moment of the machine does not meet one of them only
            elapsed, (our_map,) = seconds(lambda: ours.predict([found(instances, logits)]))
            our_times.append(elapsed)
            elapsed, (their_map,) = seconds(lambda: theirs.predict([instances], [logits]))
            their_times.append(elapsed)
    finally:
        torch.set_num_threads(threads)
    our_time, their_time = min(our_times), min(their_times)
    print(
        f'HeuristicFusion {our_time * 1e3:.0f} ms, mmdet {their_time * 1e3:.0f} ms: {their_time / our_time:.1f} times'
    )
    assert torch.equal(our_map.sem_seg, their_map.sem_seg)
    assert len(our_map.metainfo['segments_info']) > 40
    assert their_time >= 3 * our_time


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason='no GPU')
@pytest.mark.parametrize('mode', STUFF_AREA_MODES)
def test_cuda_gives_the_same_map(mode):
    instances, logits = street_of_ellipses(num=40, height=200, width=333)
    head = HeuristicFusion(80, 53, score_thr=0.1, stuff_area_limit=300, stuff_area_mode=mode)
    (expected,) = head.predict([found(instances, logits)])
    for masks_on in ('cpu', 'cuda'):
        moved = instances.to('cuda')
        moved.masks = moved.masks.to(masks_on)
        (result,) = head.predict([found(moved, logits.cuda())])
        assert result.sem_seg.device.type == 'cuda'
        assert torch.equal(result.sem_seg.cpu(), expected.sem_seg)
        for one, other in zip(result.segments_info, expected.segments_info, strict=True):
            assert one == pytest.approx(other, abs=1e-5)
