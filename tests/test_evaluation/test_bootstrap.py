"""Intervals by bootstrap: against scores of images that are really drawn, and against what statistics says."""

import numpy as np
import pytest
from helpers.injected_errors import scene
from helpers.pq_cases import CATEGORIES, random_case
from hypothesis import given, settings
from hypothesis import strategies as st

from mmpanoptic.evaluation.bootstrap import differences, image_stats, interval, intervals, resample
from mmpanoptic.evaluation.panoptic_quality import accumulate, average, match_counts, match_segments, per_class
from mmpanoptic.evaluation.segment_counts import count_segments, join_counts


def stats_of(cases):
    counts = join_counts([count_segments(*case) for case in cases])
    return image_stats(counts, match_counts(counts), len(cases), 6)


@given(st.integers(0, 2**32 - 1), st.integers(1, 8))
@settings(max_examples=25, deadline=None)
def test_draws_are_scores_of_the_drawn_images(seed, number):
    cases = [random_case(seed + k) for k in range(number)]
    matches = [match_segments(*case) for case in cases]
    (draws,) = resample([stats_of(cases)], CATEGORIES, 70, seed)  # more than one chunk
    rng = np.random.default_rng(seed)
    chosen = np.concatenate([rng.integers(0, number, (size, number)) for size in (64, 6)])
    for draw in (0, 1, 69):
        stat = accumulate([matches[k] for k in chosen[draw]], 6)
        for name, isthing in (('All', None), ('Things', True), ('Stuff', False)):
            expected = average(stat, CATEGORIES, isthing)
            found = draws[name][draw]
            if expected['n']:
                np.testing.assert_allclose(found, [expected[key] for key in ('pq', 'sq', 'rq')], rtol=0, atol=1e-12)
            else:
                assert np.isnan(found).all()
        for category_id, values in per_class(stat, CATEGORIES).items():
            if values['tp'] + values['fp'] + values['fn']:
                assert draws[category_id][draw] == pytest.approx([values[key] for key in ('pq', 'sq', 'rq')], abs=1e-12)
            else:
                assert np.isnan(draws[category_id][draw]).all()


def test_interval_of_a_share():
    """Of 100 images half have their only cat: PQ of cats is a share p / (p + (1 - p) / 2), whose spread is known."""
    cases = [scene(['none'])] * 50 + [scene(['empty'])] * 50
    missing = [case._replace(gt_segments=cases[0].gt_segments, gt_ids=cases[0].gt_ids) for case in cases[50:]]
    (draws,) = resample([stats_of(cases[:50] + missing)], CATEGORIES, 4000)
    low, high = intervals(draws)[3]['pq']
    spread = 1.96 * np.sqrt(0.25 / 100)
    expected = [p / (p + (1 - p) / 2) for p in (0.5 - spread, 0.5 + spread)]
    assert (low, high) == pytest.approx(expected, abs=0.02)
    assert intervals(draws)[3]['sq'] == (1.0, 1.0)


def test_pairs_see_what_two_intervals_do_not():
    """One set is a little better in every image; the images themselves differ much more."""
    rng = np.random.default_rng(0)
    kinds = [['none'] * int(k) + ['drop'] * int(4 - k) + ['dilate'] for k in rng.integers(0, 5, 40)]
    better, worse = [scene(kind) for kind in kinds], [scene([*kind[:-1], 'shift']) for kind in kinds]
    for cases in (better, worse):
        for case in cases:
            assert len(case.gt_segments)
    first, second = resample([stats_of(better), stats_of(worse)], CATEGORIES, 400)
    found = differences(first, second)['Things']['pq']
    assert found['interval'][0] > 0
    assert found['better'] == 1.0
    equal = differences(first, first)['All']['pq']
    assert equal == {'interval': (0.0, 0.0), 'better': 0.5}


def test_seed_and_confidence():
    stats = stats_of([random_case(seed) for seed in range(20)])
    one, same, other = (resample([stats], CATEGORIES, 100, seed)[0]['All'] for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()
    wide, narrow = (interval(one[:, 0], confidence) for confidence in (0.99, 0.5))
    assert wide[0] < narrow[0] < narrow[1] < wide[1]
    assert interval(np.array([np.nan])) is None


def test_a_class_that_never_occurs_has_no_interval():
    (draws,) = resample([stats_of([scene(['none'])])], CATEGORIES, 10)
    assert intervals(draws)[91]['pq'] is None
    assert differences(draws, draws)[91]['pq'] == {'interval': None, 'better': None}
