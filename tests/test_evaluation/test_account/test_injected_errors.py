"""The account names errors that were made on purpose, their numbers and their points."""

from collections import Counter

import numpy as np
import pytest
from helpers.injected_errors import ERRORS, ISTHING, SKY, costs, scene
from helpers.pq_cases import random_case
from hypothesis import given, settings
from hypothesis import strategies as st

from mmpanoptic.evaluation.account import CAUSES, LOSSES, find_causes, ledger_of, points_of
from mmpanoptic.evaluation.panoptic_quality import accumulate, match_counts, match_segments
from mmpanoptic.evaluation.segment_counts import count_segments, join_counts

KINDS = st.lists(st.sampled_from(list(ERRORS)), min_size=1, max_size=12)


def account_of(cases, was_found=None):
    counts = join_counts([count_segments(*case) for case in cases])
    matching = match_counts(counts)
    causes = find_causes(counts, matching, ISTHING, was_found)
    return ledger_of(counts, matching, causes, len(ISTHING))


def table(items):
    """Numbers by (label, cause) as an array."""
    found = np.zeros((len(ISTHING), len(CAUSES)), int)
    for label, cause in items:
        found[label, CAUSES.index(cause)] += 1
    return found


@pytest.mark.parametrize('kind', ERRORS)
@pytest.mark.parametrize('number', [1, 3])
def test_one_kind_of_error(kind, number):
    check_scenes([[kind] * number + ['none'] * 2])


@given(st.lists(KINDS, min_size=1, max_size=4))
@settings(max_examples=60, deadline=None)
def test_any_errors_at_once(images):
    check_scenes(images)


def check_scenes(images):
    """Numbers, masks and points are what the errors cost, however many there are in however many images."""
    cells = [kind for image in images for kind in image]
    # With more than one object of a class in a cell of another's crowd, the last listed one alone excuses.
    if any(image.count('on a crowd') + image.count("on another class's crowd") > 1 for image in images):
        images = [[kind] for kind in cells]
    cost, ledger = costs(cells), account_of([scene(image) for image in images])
    objects = np.arange(len(ISTHING)) != SKY
    np.testing.assert_array_equal(ledger.fn, table(cost.fn))
    np.testing.assert_array_equal(ledger.fp, table(cost.fp))
    tp, excused = (Counter(labels) for labels in ([label for label, *_ in cost.tp], cost.excused))
    assert ledger.tp[objects].tolist() == [tp[label] for label in np.flatnonzero(objects)]
    assert ledger.excused.tolist() == [excused[label] for label in range(len(ISTHING))]
    masks = np.zeros((len(ISTHING), 2))
    for label, lacking, extra in cost.tp:
        masks[label] += float(lacking), float(extra)
    np.testing.assert_allclose(ledger.masks[objects], masks[objects], rtol=0, atol=1e-12)

    points = points_of(ledger)
    for label in np.flatnonzero(objects):
        lost = Counter(cause for of, cause in (*cost.fn, *cost.fp) if of == label)
        weight = tp[label] + sum(lost.values()) / 2
        for place, cause in enumerate(CAUSES, 2):
            assert points[label, place] == pytest.approx(100 * lost[cause] / 2 / weight if weight else 0, abs=1e-9)


@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=6), st.booleans())
@settings(max_examples=80, deadline=None)
def test_points_add_up_to_what_is_lost(seeds, some_were_found):
    cases = [random_case(seed, crowd=0.3) for seed in seeds]
    stat = accumulate([match_segments(*case) for case in cases], 6)
    number = sum(len(case.gt_segments) for case in cases) + 1
    was_found = np.random.default_rng(seeds[0]).random(number) < 0.5 if some_were_found else None
    ledger = account_of(cases, was_found)
    np.testing.assert_array_equal(ledger.iou_sum, stat.iou_sum)
    for mine, official in ((ledger.tp, stat.tp), (ledger.fp.sum(1), stat.fp), (ledger.fn.sum(1), stat.fn)):
        np.testing.assert_array_equal(mine, official)
    weight = stat.tp + 0.5 * stat.fp + 0.5 * stat.fn
    occurs = weight > 0
    lost = 100 - 100 * stat.iou_sum[occurs] / weight[occurs]
    np.testing.assert_allclose(points_of(ledger)[occurs].sum(1), lost, rtol=0, atol=1e-9)
    assert (points_of(ledger)[~occurs] == 0).all()


def test_every_cause_is_injected():
    named = {cause for *_, cost in ERRORS.values() for _, cause in (*cost.fn, *cost.fp)}
    assert named == set(CAUSES) - {'hidden'}


def overlapping(front_first):
    """Two dogs, of which the nearer one covers two thirds of the other; and the two as they are without each other."""
    back, front = np.zeros((2, 6, 20), bool)
    back[:, 2:14], front[:, 6:18] = True, True
    ids = np.ones((6, 20), np.int64)
    for number, mask in ((2, back), (3, front)) if front_first else ((3, front), (2, back)):
        ids[mask] = number
    return ids


def test_reordered():
    """The fusion puts the far dog on top: of the near one a third is left, and what is left is no match."""
    gt, pred = overlapping(True), overlapping(False)
    segments = [{'id': 1, 'label': SKY}, {'id': 2, 'label': 1}, {'id': 3, 'label': 1}]
    gt_segments = [s | {'iscrowd': 0, 'area': int((gt == s['id']).sum())} for s in segments]
    case = gt, gt_segments, pred, segments
    hidden = CAUSES.index('hidden')
    unaware = account_of([case])
    assert unaware.fn[:, hidden].sum() == 0
    assert unaware.fn.sum() == 2
    assert unaware.fn[1, CAUSES.index('split')] == 1  # by what is left and what covers it, as far as the map tells
    ledger = account_of([case], was_found=np.array([False, True, False, True]))
    assert ledger.fn[1, hidden] == 1
    assert ledger.fp[1, hidden] == 2  # what is left of the near dog, and the far one in its place
    assert ledger.fn[1, CAUSES.index('nearly')] == 1
    assert points_of(ledger).sum() == pytest.approx(points_of(unaware).sum(), abs=1e-9)


def test_what_was_found_and_is_matched_is_not_hidden():
    case = scene(['none', 'drop'])
    number = len(case.gt_segments) + 1
    ledger = account_of([case], was_found=np.ones(number, bool))
    assert ledger.fn[1, CAUSES.index('hidden')] == 1
    assert ledger.fn.sum() == 1


def test_names_of_losses_are_unique():
    assert len(set(LOSSES)) == len(LOSSES)
