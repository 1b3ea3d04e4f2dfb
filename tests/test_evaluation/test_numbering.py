"""Predictions that number the classes otherwise are told from predictions that are wrong."""

import numpy as np
import pytest
from helpers.injected_errors import scene
from helpers.pq_cases import Case

from mmpanoptic.evaluation.numbering import check_numbering, confusion
from mmpanoptic.evaluation.segment_counts import count_segments, join_counts
from mmpanoptic.utils import UserError

# Ids with gaps, as COCO's are; stuff among things.
CATEGORIES = [
    {'id': 1, 'name': 'person', 'isthing': True, 'label': 0},
    {'id': 2, 'name': 'grass', 'isthing': False, 'label': 4},
    {'id': 3, 'name': 'car', 'isthing': True, 'label': 1},
    {'id': 5, 'name': 'sky', 'isthing': False, 'label': 5},
    {'id': 4, 'name': 'bus', 'isthing': True, 'label': 2},
    {'id': 6, 'name': 'cow', 'isthing': True, 'label': 3},
]
LABEL = {category['id']: category['label'] for category in CATEGORIES}


def counts_of(relabel, images=6):
    """Images with one segment of each class, each found; ``relabel``: label -> written label, or None for none."""
    ids = np.repeat(np.arange(1, 7), 10)[None]
    gt = [{'id': k + 1, 'label': k, 'iscrowd': 0, 'area': 10} for k in range(6)]
    kept = [k for k in range(6) if relabel(k) is not None]
    pred = np.where(np.isin(ids - 1, kept), ids, 0)
    case = Case(ids, gt, pred, [{'id': k + 1, 'label': relabel(k)} for k in kept])
    return join_counts([count_segments(*case)] * images)


def written(order, first):
    """Labels of predictions whose ids count from ``first`` on in an order of the categories."""
    id_of = {category['label']: first + place for place, category in enumerate(order)}
    return lambda label: LABEL.get(id_of[label])


THINGS_FIRST = sorted(CATEGORIES, key=lambda category: category['label'])


@pytest.mark.parametrize(
    ('relabel', 'words'),
    [
        (written(CATEGORIES, 0), 'numbers from 0 on, in the order of `categories`'),
        (written(THINGS_FIRST, 1), 'numbers from 1 on, things first'),
        (written(THINGS_FIRST, 0), 'numbers from 0 on, things first'),
        (lambda label: (label + 2) % 6, r'such as \d for \w+, \d for \w+, \d for \w+'),
    ],
)
def test_another_numbering_is_named(relabel, words):
    with pytest.raises(UserError, match=rf'^pred\.json: .* of \d+ segments .* have the right class.*{words}.*') as info:
        check_numbering(counts_of(relabel), CATEGORIES, 'pred.json')
    assert info.value.argument == 'trust_categories'
    assert '\n' not in str(info.value)


@pytest.mark.parametrize(
    'relabel',
    [
        lambda label: label,
        lambda label: 0,  # a model that knows one class
        lambda label: {0: 1, 1: 0}.get(label, label),  # two classes confused
        lambda label: label if label < 3 else 0,
        lambda label: None,
    ],
)
def test_wrong_predictions_are_no_other_numbering(relabel):
    check_numbering(counts_of(relabel), CATEGORIES, 'pred.json')


def test_few_segments_say_nothing():
    check_numbering(counts_of(lambda label: (label + 2) % 6, images=3), CATEGORIES, 'pred.json')


def test_confusion():
    table = confusion(count_segments(*scene(['none', 'thing as thing', 'stuff as thing', 'drop', 'on a crowd'])), 6)
    assert {(int(a), int(b)): int(table[a, b]) for a, b in zip(*np.nonzero(table), strict=True)} == {
        (0, 0): 1,
        (0, 1): 1,
        (4, 2): 1,
        (3, 3): 1,
    }
