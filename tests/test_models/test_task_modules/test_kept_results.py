"""Priors that are kept, and assignment without a loop: the same as mmdet's."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.models.task_modules import assigners, prior_generators

from mmpanoptic.analysis.dispatch import DispatchCounter
from mmpanoptic.models.task_modules.priors import KEPT
from mmpanoptic.registry import TASK_UTILS

SIZES = [(5, 7), (3, 4)]
GENERATORS = {
    'AnchorGenerator': dict(strides=[8, 16], ratios=[0.5, 1.0], scales=[8]),
    'MlvlPointGenerator': dict(strides=[8, 16]),
}


@pytest.mark.parametrize('kind', GENERATORS)
def test_priors_are_made_once_for_a_size(kind):
    kept = TASK_UTILS.build(dict(type=f'mmpanoptic.{kind}', **GENERATORS[kind]))
    original = getattr(prior_generators, kind)(**GENERATORS[kind])
    for dtype in (torch.float32, torch.float64):
        for sizes in (SIZES, [(6, 7), (3, 4)]):
            for call in ('grid_priors', 'valid_flags'):
                args = dict(dtype=dtype, device='cpu') if call == 'grid_priors' else dict(pad_shape=(30, 50))
                args['device'] = 'cpu'
                expected = getattr(original, call)(sizes, **args)
                first = getattr(kept, call)(sizes, **args)
                assert all(map(torch.equal, first, expected)) and first[0].dtype == expected[0].dtype
                with DispatchCounter() as counter:
                    again = getattr(kept, call)(list(map(torch.Size, sizes)), **args)
                assert not counter.operators and all(map(torch.equal, again, expected))
    for size in range(2 * KEPT):
        kept.grid_priors([(size, 1), (1, 1)], device='cpu')
    assert len(kept._results) == KEPT


def test_priors_of_inference_can_be_trained_on():
    kept = TASK_UTILS.build(dict(type='mmpanoptic.MlvlPointGenerator', strides=[8, 16]))
    with torch.inference_mode():
        kept.grid_priors(SIZES, device='cpu')
    weight = torch.ones(2, requires_grad=True)
    (kept.grid_priors(SIZES, device='cpu')[0] * weight).sum().backward()
    assert weight.grad is not None


OPTIONS = st.fixed_dictionaries(
    dict(
        pos_iou_thr=st.sampled_from([0.5, 0.7]),
        neg_iou_thr=st.sampled_from([0.3, 0.5, (0.1, 0.4)]),
        min_pos_iou=st.sampled_from([0.0, 0.3, 0.5]),
        gt_max_assign_all=st.booleans(),
        match_low_quality=st.booleans(),
    )
)


@given(OPTIONS, st.integers(0, 8), st.integers(0, 30), st.integers(0, 2**31))
@settings(deadline=None, max_examples=150)
def test_assignment_is_mmdets(options, num_gts, num_priors, seed):
    generator = torch.Generator().manual_seed(seed)
    # Of few values, so that there are ties; -1 is what is ignored.
    overlaps = (torch.randint(-1, 11, (num_gts, num_priors), generator=generator) / 10).clamp(min=-1)
    labels = torch.randint(9, (num_gts,), generator=generator)
    found = TASK_UTILS.build(dict(type='mmpanoptic.MaxIoUAssigner', **options)).assign_wrt_overlaps(overlaps, labels)
    expected = assigners.MaxIoUAssigner(**options).assign_wrt_overlaps(overlaps.clone(), labels)
    for name in ('num_gts', 'gt_inds', 'max_overlaps', 'labels'):
        ours, theirs = getattr(found, name), getattr(expected, name)
        assert torch.equal(ours, theirs) if isinstance(theirs, torch.Tensor) else ours == theirs, name


def test_assignment_does_not_wait():
    assigner = TASK_UTILS.build(dict(type='mmpanoptic.MaxIoUAssigner', pos_iou_thr=0.5, neg_iou_thr=0.5))
    calls = []
    for num_gts in (1, 50):
        with DispatchCounter() as counter:
            assigner.assign_wrt_overlaps(torch.rand(num_gts, 99), torch.zeros(num_gts, dtype=torch.long))
        assert not counter.waits
        calls.append(counter.launches)
    assert calls[0] == calls[1]
