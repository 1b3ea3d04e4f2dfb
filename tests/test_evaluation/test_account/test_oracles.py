"""What PQ would be if a cause were mended: from the counts, against predictions in which it is mended."""

import numpy as np
import pytest
from helpers.injected_errors import CAT, DOG, ERRORS, ISTHING, SKY, scene
from helpers.pq_cases import CATEGORIES, random_case
from hypothesis import given, settings
from hypothesis import strategies as st

from mmpanoptic.evaluation.account import BUNDLES, LOSSES, balance, find_causes, ledger_of, mended, oracle_table
from mmpanoptic.evaluation.panoptic_quality import match_counts
from mmpanoptic.evaluation.segment_counts import count_segments, join_counts


def ledger(cases):
    counts = join_counts([count_segments(*case) for case in cases])
    matching = match_counts(counts)
    return ledger_of(counts, matching, find_causes(counts, matching, ISTHING), len(ISTHING))


def test_bundles_are_all_losses():
    assert sorted(cause for causes in BUNDLES.values() for cause in causes) == sorted(LOSSES)


@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=4))
@settings(max_examples=40, deadline=None)
def test_everything_mended_is_perfect_and_nothing_is_what_it_was(seeds):
    found = ledger([random_case(seed) for seed in seeds])
    quality, weight = mended(found, LOSSES)
    np.testing.assert_allclose(quality[weight > 0], 100, rtol=0, atol=1e-9)
    before, weight = mended(found, ())
    account = balance(found, CATEGORIES)
    assert account['All']['pq'] == pytest.approx(before[weight > 0].mean() if (weight > 0).any() else 0, abs=1e-9)


@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=4), st.sampled_from(LOSSES), st.sampled_from(LOSSES))
@settings(max_examples=80, deadline=None)
def test_no_mended_cause_makes_a_class_worse(seeds, first, second):
    found = ledger([random_case(seed) for seed in seeds])
    before, _ = mended(found, (first,))
    after, weight = mended(found, (first, second))
    assert (after[weight > 0] >= before[weight > 0] - 1e-9).all()


def test_mended_counts_are_those_of_mended_predictions():
    """One dog relabelled, one missed, and cats that are found, one of them too small."""
    kinds = ['none', 'erode', 'drop', 'drop', 'dilate', 'dilate', 'add']
    found = ledger([scene(kinds)])
    quality, _ = mended(found, ('missed',))
    # Two dogs found with IoU 4/5, two missed that become matches as good as these, one extra.
    assert quality[DOG] == pytest.approx(100 * 4 * 0.8 / (4 + 0.5))
    assert quality[CAT] == pytest.approx(100 * 1.75 / 2)
    quality, _ = mended(found, ('missed', 'hallucinated', 'mask too large'))
    assert quality[DOG] == pytest.approx(100)
    quality, _ = mended(found, ('mask too small',))
    assert quality[CAT] == pytest.approx(100)
    assert quality[DOG] == pytest.approx(100 * 1.6 / (2 + 1 + 0.5))


def test_a_class_that_only_false_positives_have_leaves_the_mean():
    found = ledger([scene(['none', 'add'])])
    quality, weight = mended(found, ('hallucinated',))
    assert weight[DOG] == 0
    assert quality[CAT] == 100
    assert oracle_table(found, CATEGORIES)['hallucinated']['hallucinated'] == pytest.approx(quality[[CAT, SKY]].mean())


def test_table_is_symmetric_and_names_what_is_lost():
    table = oracle_table(ledger([scene(list(ERRORS))]), CATEGORIES)
    assert set(table) == set(BUNDLES) - {'hidden'}
    for first in table:
        for second in table:
            assert table[first][second] == pytest.approx(table[second][first], abs=1e-12)
            assert table[first][second] >= table[first][first] - 1e-9
    assert set(oracle_table(ledger([scene(['none', 'drop'])]), CATEGORIES)) == {'missed', 'masks'}
