"""All fusion heads, on a CPU and on a GPU that is none: the reference's maps, and no transfers that grow."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import plain_fusion
from helpers.drawn import S, T, drawn_embedding, drawn_evidence, on_gpu
from helpers.gpu import syncs_of
from helpers.second_device import SecondDevice, from_gpu, to_gpu
from hypothesis import given, settings
from hypothesis import strategies as st

from mmpanoptic.models import BoxFillFusion, EmbeddingFusion, HeuristicFusion, RankingFusion
from mmpanoptic.models.fusion.transfer import fetch
from mmpanoptic.structures import Evidence

NUMBERS = st.sampled_from([0, 1, 2, 7, 63, 64, 65, 130, 200])
SIZES = st.sampled_from([(1, 1), (1, 9), (8, 1), (12, 15), (31, 40)])
MODES = st.sampled_from(['segment', 'component'])
LIMITS = st.sampled_from([0, 1, 10, 1000])
SEEDS = st.integers(0, 2**32 - 1)


def on_both(head, evidence, *args):
    """Map and segments from the CPU, and the same from the GPU, after a check that the map stays there."""
    panoptic, segments = head.fuse(evidence, *args)
    with SecondDevice() as gpu:
        there, segments_there = head.fuse(on_gpu(evidence), *args)
        assert there.device.type == 'cuda'
    assert gpu.stops <= 8
    assert panoptic.dtype == there.dtype == torch.int32
    return (panoptic.numpy(), segments), (from_gpu(there).numpy(), segments_there)


def assert_same(found, expected):
    np.testing.assert_array_equal(found[0], expected[0])
    assert found[1] == expected[1]


@settings(max_examples=50, deadline=None)
@given(
    seed=SEEDS,
    number=NUMBERS,
    size=SIZES,
    fills_boxes=st.booleans(),
    overlap_thr=st.sampled_from([0.0, 0.37, 0.5, 1.0]),
    limit=LIMITS,
    mode=MODES,
    as_logits=st.booleans(),
)
def test_masks_are_pasted_as_by_the_reference(seed, number, size, fills_boxes, overlap_thr, limit, mode, as_logits):
    evidence = drawn_evidence(seed, number, size, as_logits)
    head = (BoxFillFusion if fills_boxes else HeuristicFusion)(
        T, S, overlap_thr=overlap_thr, stuff_area_limit=limit, stuff_area_mode=mode
    )
    # The released code of SpatialFlow pastes equal scores by class.
    order = plain_fusion.by_score(evidence, 0.5)
    if fills_boxes:
        labels = evidence.instances.labels.tolist()
        order = sorted(order, key=lambda i: (-evidence.instances.scores[i].item(), labels[i], i))
    expected = plain_fusion.paste(evidence, (T, S), order, overlap_thr, limit, mode, 0.5 if fills_boxes else None)
    for found in on_both(head, evidence):
        assert_same(found, expected)


@settings(max_examples=25, deadline=None)
@given(
    seed=SEEDS,
    number=NUMBERS,
    size=SIZES,
    enlarged=st.sampled_from([0.6, 1, 2.3]),
    stride=st.sampled_from([1, 2, 3]),
    region=st.sampled_from([('mask', 'class'), ('conflict', 'class'), ('conflict', 'instance')]),
    strip_pixels=st.sampled_from([None, 50]),
)
def test_ranked_masks_are_pasted_as_by_the_reference(seed, number, size, enlarged, stride, region, strip_pixels):
    """The order is that of the scores, which differ between the devices by no more than rounding."""
    evidence = drawn_evidence(seed, number, size)
    evidence = replace(evidence, input_size=tuple(max(1, int(enlarged * side)) for side in size))
    torch.manual_seed(seed % 100)
    head = RankingFusion(
        T, S, stride=stride, score_region=region[0], conflict=region[1], strip_pixels=strip_pixels, stuff_area_limit=4
    )
    ranks = head.ranking_scores(evidence)
    with SecondDevice():
        ranks_there = head.ranking_scores(on_gpu(evidence))
        order_there = head.order(on_gpu(evidence)) if number else []
    torch.testing.assert_close(from_gpu(ranks_there), ranks, atol=1e-6, rtol=1e-6)
    order = plain_fusion.by_score(evidence, 0.5, [ranks.tolist()])
    assert order_there == plain_fusion.by_score(evidence, 0.5, [from_gpu(ranks_there).tolist()])
    expected = plain_fusion.paste(evidence, (T, S), order, 0.5, 4)
    panoptic, segments = head.fuse(evidence)
    for segment in segments:
        if segment['instance'] is not None:
            assert segment.pop('ranking_score') == ranks[segment['instance']].item()
    assert_same((panoptic.numpy(), segments), expected)
    for found in on_both(head, evidence, order):
        assert_same(found, expected)


@settings(max_examples=50, deadline=None)
@given(
    seed=SEEDS,
    number=NUMBERS,
    grid=st.sampled_from([(1, 1), (1, 5), (4, 3), (7, 9)]),
    scale=st.sampled_from([0.5, 1.0, 2.0]),
    semantic=st.booleans(),
    limit=LIMITS,
    mode=MODES,
    piece_pixels=st.sampled_from([None, 1, 100]),
)
def test_pixels_are_assigned_as_by_the_reference(seed, number, grid, scale, semantic, limit, mode, piece_pixels):
    evidence = drawn_embedding(seed, number, grid, scale, semantic)
    head = EmbeddingFusion(T, S, score_thr=0.5, stuff_area_limit=limit, stuff_area_mode=mode, piece_pixels=piece_pixels)
    expected = plain_fusion.assign(evidence, (T, S), 0.5, limit, mode)
    for found in on_both(head, evidence):
        assert_same(found, expected)


CASES = {
    'heuristic': (HeuristicFusion, {}, 5),
    'heuristic, components': (HeuristicFusion, dict(stuff_area_mode='component'), 5),
    'boxes': (BoxFillFusion, {}, 5),
    'boxes, components': (BoxFillFusion, dict(stuff_area_mode='component'), 5),
    'ranking': (RankingFusion, {}, 8),
    'ranking, coarse, in conflict': (RankingFusion, dict(stride=3, score_region='conflict'), 8),
    'embedding': (EmbeddingFusion, {}, 6),
    'embedding, components': (EmbeddingFusion, dict(stuff_area_mode='component', stuff_area_limit=1), 6),
    'logits': (HeuristicFusion, dict(stuff_area_limit=1), 7),
}


def drawn_for(case: str, number: int) -> Evidence:
    """Evidence of 31 x 40 pixels for a head of :data:`CASES`."""
    if CASES[case][0] is EmbeddingFusion:
        return drawn_embedding(0, number, (31, 40))
    return drawn_evidence(0, number, (31, 40), as_logits=case == 'logits')


@pytest.mark.parametrize('case', CASES)
def test_transfers_and_waits_do_not_grow_with_the_instances(case):
    """One fetch of what is known of the instances, runs and groups of pixels, their table, the values back.

    Where there is a confidence of stuff, the ids of segments go to the GPU, and their confidences come back.
    """
    head_type, options, most = CASES[case]
    head, counted = head_type(T, S, **options), []
    for number in (3, 60, 200):
        evidence = on_gpu(drawn_for(case, number))
        with SecondDevice() as gpu:
            head.predict([evidence])
        counted.append((gpu.uploads, gpu.downloads, dict(gpu.waits)))
        assert gpu.stops == most
        print(case, number, counted[-1], gpu.launches, 'operations')
    assert counted[0] == counted[1] == counted[2]


@pytest.mark.parametrize('case', CASES)
def test_operations_hardly_grow_with_the_instances(case):
    """At most a dozen for each 64 of them."""
    head_type, options, _ = CASES[case]
    head, operations = head_type(T, S, **options), []
    for number in (64, 192):
        evidence = on_gpu(drawn_for(case, number))
        with SecondDevice() as gpu:
            head.predict([evidence])
        operations.append(gpu.launches)
    assert operations[1] - operations[0] <= 2 * 24
    assert operations[1] <= 250


def test_the_count_sees_a_loop_over_instances():
    """The tests above have power: a wait in each step is seen, and so is a tensor left on the CPU."""
    scores = to_gpu(torch.rand(7))
    with SecondDevice() as gpu:
        for score in scores:
            float(score)
        kept = scores[scores > 2]
        kept.cpu()
        torch.zeros(3).to(scores.device)
        assert gpu.waits == {'_local_scalar_dense': 7, 'nonzero': 1}
        assert (gpu.downloads, gpu.uploads) == (1, 1)
        with pytest.raises(RuntimeError, match='same device'):
            scores + torch.rand(7)
        with pytest.raises(TypeError, match='cuda:0'):
            scores.numpy()


def test_fetch_brings_any_types_at_once():
    tensors = [
        torch.arange(5, dtype=torch.uint8),
        torch.rand(3, 4)[:, 1:],
        torch.tensor([True, False]),
        torch.zeros(0, 4),
        torch.tensor(2**40),
        torch.rand(7).half(),
    ]
    assert all(found is given for found, given in zip(fetch(*tensors), tensors, strict=True))
    with SecondDevice() as gpu:
        fetched = fetch(*to_gpu(tensors))
    assert gpu.stops == gpu.downloads == 1
    for found, tensor in zip(fetched, tensors, strict=True):
        assert found.dtype == tensor.dtype and torch.equal(found, tensor)


def moved(evidence, device='cuda'):
    """Evidence on a real GPU."""
    tensors = {name: value.to(device) for name, value in vars(evidence.stuff).items() if torch.is_tensor(value)}
    return replace(evidence, instances=evidence.instances.to(device), stuff=replace(evidence.stuff, **tensors))


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason='no GPU')
@pytest.mark.parametrize('case', CASES)
def test_on_a_gpu(case):
    """The maps of the CPU, and as many waits for 200 instances as for three."""
    head_type, options, most = CASES[case]
    head = head_type(T, S, **options).cuda()
    on_cpu = head_type(T, S, **options)
    on_cpu.load_state_dict(head.state_dict())
    syncs = []
    for number in (3, 60, 200):
        draw = drawn_embedding if head_type is EmbeddingFusion else drawn_evidence
        evidence = draw(0, number, (31, 40))
        there = moved(evidence)
        # Scores of two devices differ by rounding, and may be in another order.
        order = [head.order(there)] if head_type is RankingFusion else []
        expected, segments = on_cpu.fuse(evidence, *order)
        found, segments_there = head.fuse(there, *order)
        assert found.is_cuda and torch.equal(found.cpu(), expected) and segments_there == segments
        syncs.append(syncs_of(lambda there=there: head.predict([there])))
    assert syncs[0] == syncs[1] == syncs[2] <= most


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason='no GPU')
@pytest.mark.parametrize('dtype', [torch.float32, torch.float16, torch.bfloat16])
def test_ranking_scores_on_a_gpu(dtype):
    """In half precision, the module's logits have 8 or 11 bits; the softmax has 24."""
    evidence = drawn_evidence(0, 60, (31, 40))
    torch.manual_seed(0)
    head = RankingFusion(T, S)
    expected = head.ranking_scores(evidence)
    head.cuda()
    with torch.autocast('cuda', dtype, enabled=dtype != torch.float32):
        found = head.ranking_scores(moved(evidence))
    assert found.dtype == torch.float32
    # Convolutions are of TF32 as torch has it by default.
    torch.testing.assert_close(found.cpu(), expected, atol=2e-2 if dtype == torch.bfloat16 else 2e-3, rtol=0)
