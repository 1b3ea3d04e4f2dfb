"""Overlaps counted where the maps are: the same bits, and nothing but counts is brought to the CPU."""

import numpy as np
import pytest
import torch
from helpers.gpu import syncs_of
from helpers.pq_cases import random_case
from helpers.second_device import SecondDevice, to_gpu
from hypothesis import given, settings
from hypothesis import strategies as st

from mmpanoptic.evaluation.panoptic_quality import match_segments
from mmpanoptic.utils import DatasetError, UserError


def match_on_gpu(gt_ids, gt_segments, pred_map, pred_segments, **kwargs):
    maps = to_gpu([torch.from_numpy(np.array(ids)) for ids in (gt_ids, pred_map)])
    with SecondDevice() as gpu:
        return match_segments(maps[0], gt_segments, maps[1], pred_segments, **kwargs), gpu


def noise(num, size=(60, 80), seed=0):
    """Maps of ``num`` segments each, all of which share pixels."""
    gt, pred = np.random.default_rng(seed).integers(1, num + 1, (2, *size))
    areas = np.bincount(gt.ravel(), minlength=num + 1)
    gt_segments = [dict(id=i, label=i % 3, area=int(areas[i]), iscrowd=0) for i in range(1, num + 1) if areas[i]]
    return gt.astype(np.int32), gt_segments, pred, [dict(id=int(i), label=int(i) % 3) for i in np.unique(pred)]


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), crowd=st.sampled_from([0.0, 0.5]), size=st.sampled_from([(4, 4), (24, 32)]))
def test_same_bits(seed, crowd, size):
    case = random_case(seed, crowd=crowd, size=size)
    assert match_on_gpu(*case)[0] == match_segments(*case)


@pytest.mark.parametrize('num', [1, 2, 30])
def test_same_bits_where_everything_overlaps(num):
    case = noise(num)
    assert match_on_gpu(*case)[0] == match_segments(*case)


def test_three_waits_whatever_is_in_the_image():
    counted = []
    for num in (1, 5, 60):
        case = noise(num)
        _, gpu = match_on_gpu(*case)
        pairs = len(np.unique(np.stack([case[0].ravel(), case[2].ravel()]), axis=1).T)
        assert gpu.downloaded == 3 * pairs  # the ids and the number of pixels of each pair
        counted.append((gpu.uploads, gpu.downloads, dict(gpu.waits), gpu.launches))
    print(counted[0])
    assert counted[0] == counted[1] == counted[2]
    assert counted[0][:3] == (0, 1, {'nonzero': 1, 'unique_dim': 1})


@pytest.mark.parametrize(
    ('change', 'error', 'message'),
    [
        (dict(gt=7), DatasetError, 'ground truth of image holds segment id 7 that its segments_info lacks'),
        (dict(gt=-1), DatasetError, 'ground truth of image holds segment id -1 that'),
        (dict(pred=2**24 + 5), UserError, 'prediction for image holds segment id 16777221 that'),
        (dict(pred=0), UserError, None),
    ],
)
def test_same_errors(change, error, message):
    gt, gt_segments, pred, pred_segments = noise(3)
    gt, pred = gt.astype(np.int64), pred.astype(np.int64)
    gt[0, 0], pred[0, 0] = change.get('gt', gt[0, 0]), change.get('pred', pred[0, 0])
    case, void = (gt, gt_segments, pred, pred_segments), 2 if message is None else 0
    with pytest.raises(error) as expected:
        match_segments(*case, void=void)
    with pytest.raises(error) as found:
        match_on_gpu(*case, void=void)
    assert str(found.value) == str(expected.value)
    assert message is None or message in str(found.value)
    with pytest.raises(UserError, match=r'prediction is \(30, 80\) \(height, width\), the ground truth \(60, 80\)'):
        match_on_gpu(gt, gt_segments, pred[::2], pred_segments)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason='no GPU')
def test_on_a_gpu():
    syncs = []
    for num in (1, 30):
        gt, gt_segments, pred, pred_segments = case = noise(num, (480, 640))
        maps = [torch.from_numpy(ids).cuda() for ids in (gt, pred)]
        found = match_segments(maps[0], gt_segments, maps[1], pred_segments)
        assert found == match_segments(*case)
        syncs.append(syncs_of(lambda case=(maps[0], gt_segments, maps[1], pred_segments): match_segments(*case)))
    assert syncs[0] == syncs[1] <= 3
