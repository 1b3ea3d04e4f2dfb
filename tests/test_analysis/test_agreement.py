"""What two results for one image agree in, against what was changed in one of them."""

from dataclasses import replace

import numpy as np
import pytest

from mmpanoptic.analysis.agreement import Agreement, agreement_table, compare
from mmpanoptic.results import Instances, PanopticResult, Segment
from mmpanoptic.utils import UserError

CATEGORIES = [dict(id=label, name=f'class {label}', isthing=int(label < 2), color=[0, 0, 0]) for label in range(4)]
NONE = Instances(np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, np.float32))


def result(*shapes: tuple[int, int, float | None, tuple[int, int, int, int]]) -> PanopticResult:
    """Of rectangles (label, k, score, (left, top, width, height)), each laid over those before it."""
    ids = np.zeros((40, 60), np.int32)
    for label, k, _, (left, top, width, height) in shapes:
        ids[top : top + height, left : left + width] = label + 1 + 1000 * k
    segments = []
    for label, k, score, _ in shapes:
        number = label + 1 + 1000 * k
        rows, columns = np.nonzero(ids == number)
        box = columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1
        box = tuple(int(side) for side in box)
        segments.append(Segment(number, label, f'class {label}', label < 2, score, len(rows), box, None))
    return PanopticResult(None, np.zeros((40, 60, 3), np.uint8), ids, segments, NONE, CATEGORIES)


SKY = (2, 0, 0.75, (0, 0, 60, 40))
CAR = (0, 1, 0.5, (5, 5, 20, 10))
DOG = (1, 2, 0.25, (40, 20, 10, 10))


def test_the_same_result():
    found = compare(result(SKY, CAR, DOG), result(SKY, CAR, DOG))
    assert found.pixels == 1.0 and found.same_segments
    assert found.things == Agreement(in_both=2, scored=2)
    assert found.stuff == Agreement(in_both=1, scored=1)


def test_scores_and_sides_of_boxes():
    """The car's left side is 3 pixels, its lower one 2 further; of the sky only the score is another."""
    moved = (0, 1, 0.53125, (8, 5, 17, 12))
    found = compare(result(SKY, CAR, DOG), result((2, 0, 0.5, SKY[3]), moved, DOG))
    assert found.same_segments
    assert found.things == Agreement(in_both=2, scored=2, score=0.03125, box=3)
    assert found.stuff == Agreement(in_both=1, scored=1, score=0.25)
    lower = compare(result(SKY, CAR), result(SKY, (0, 1, 0.5, (5, 5, 20, 15))))
    assert lower.things.box == 5
    assert lower.pixels == 1 - 20 * 5 / 2400


def test_a_score_that_one_lacks_is_not_compared():
    found = compare(result(SKY, CAR), result((2, 0, None, SKY[3]), CAR))
    assert found.stuff == Agreement(in_both=1)
    assert found.things == Agreement(in_both=1, scored=1)


def test_another_class_is_another_segment():
    found = compare(result(SKY, CAR, DOG), result(SKY, (1, 1, 0.5, CAR[3]), DOG))
    assert not found.same_segments
    assert found.things == Agreement(in_both=1, scored=1, other_class=1)
    assert found.pixels == 1 - 200 / 2400
    as_stuff = compare(result(SKY, CAR), result(SKY, (3, 0, 0.5, CAR[3])))
    assert (as_stuff.things, as_stuff.stuff) == (Agreement(other_class=1), Agreement(in_both=1, scored=1))


def test_segments_that_one_has_alone():
    found = compare(result(SKY, CAR, DOG), result(SKY, CAR))
    assert found.things == Agreement(in_both=1, scored=1, first_alone=1)
    found = compare(result(SKY, CAR), result(SKY, CAR, DOG))
    assert found.things == Agreement(in_both=1, scored=1, second_alone=1)
    half = compare(result(SKY, CAR), result(SKY, (0, 1, 0.5, (15, 5, 20, 10))))  # an IoU of a third
    assert half.things == Agreement(first_alone=1, second_alone=1)


def test_numbers_of_things_do_not_matter_to_segments():
    """Two of one class that change places in the order are found, and the ids are others."""
    one, other = (0, 1, 0.9, (0, 0, 10, 10)), (0, 2, 0.8, (30, 0, 10, 10))
    found = compare(result(one, other), result((0, 1, 0.8, other[3]), (0, 2, 0.9, one[3])))
    assert found.things == Agreement(in_both=2, scored=2)
    assert found.pixels == 1 - 200 / 2400


def test_void_is_no_segment():
    found = compare(result(CAR), result(CAR))
    assert (found.things, found.stuff) == (Agreement(in_both=1, scored=1), Agreement())
    nothing = compare(result(), result())
    assert nothing.pixels == 1.0 and nothing.same_segments and nothing.things == nothing.stuff == Agreement()


def test_they_add_up():
    total = Agreement(2, 1, 0, 3, 1, 0.5, 2) + Agreement(1, 0, 2, 1, 1, 0.25, 7)
    assert total == Agreement(3, 1, 2, 4, 2, 0.5, 7)


def test_sizes_that_differ():
    small = replace(result(CAR), id_map=np.zeros((4, 5), np.int32))
    with pytest.raises(UserError, match=r'a\.png: maps of \(40, 60\) and \(4, 5\)'):
        compare(result(CAR), small, 'a.png')


def test_results_without_a_map():
    """Models of instances give none."""
    without = replace(result(CAR), id_map=None, segments=[])
    for pair in ((result(CAR), without), (without, result(CAR))):
        with pytest.raises(UserError, match=r'a\.png: results without a panoptic map'):
            compare(*pair, 'a.png')


def test_the_table():
    """Each count and difference in its row; a difference of nothing is none."""
    total = Agreement(in_both=12, other_class=3, first_alone=4, second_alone=5, scored=12, score=0.00025, box=7)
    rows = [
        [cell.strip() for cell in line.strip('│┃').split('│')]
        for line in agreement_table(total, Agreement()).split('\n')
    ]
    cells = {row[0]: row[1:] for row in rows if len(row) == 3}
    assert cells == {
        'in both': ['12', '0'],
        'of another class': ['3', '0'],
        'in the model alone': ['4', '0'],
        'in the file alone': ['5', '0'],
        'scored in both': ['12', '0'],
        'largest difference of a score': ['2.5e-04', '-'],
        'largest difference of a side of a box, pixels': ['7', '-'],
    }
