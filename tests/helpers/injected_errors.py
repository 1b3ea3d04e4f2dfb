"""Predictions made from a ground truth by errors of known kinds in known numbers, and what they have to cost.

A scene is a row of cells on a background of sky (label 3); in each cell one thing goes wrong, or nothing. What that
costs is written beside it, by hand.
"""

from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from helpers.pq_cases import Case

CAT, DOG, CUP, SKY, ROAD = range(5)
ISTHING = np.array([True, True, True, False, False, False])
CELL = 12  # pixels wide and twice as high; objects are 6 rows high, so that the sky is always found


class Cost(NamedTuple):
    """What an error costs.

    Attributes:
        tp: Label of each match in the cell, with the shares of the union that it leaves out and has too much.
        fn: (label, cause) of each missed segment.
        fp: (label, cause) of each false positive.
        excused: Labels of predictions that do not count.
    """

    tp: Sequence[tuple[int, Fraction | int, Fraction | int]] = ()
    fn: Sequence[tuple[int, str]] = ()
    fp: Sequence[tuple[int, str]] = ()
    excused: Sequence[int] = ()


# One segment of a cell: label, first and last column (exclusive), and for the ground truth whether it is a crowd.
Part = tuple


def part(label: int, left: int, right: int, crowd: int = 0) -> Part:
    return label, left, right, crowd


def _relabelled(of: int, as_: int, cause: str) -> tuple:
    return [part(of, 2, 10)], [part(as_, 2, 10)], Cost(fn=[(of, cause)], fp=[(as_, cause)])


F = Fraction
# kind -> (ground truth, prediction, cost); objects stand on the sky, later ones in front.
ERRORS: dict[str, tuple[list[Part], list[Part], Cost]] = {
    'none': ([part(CAT, 2, 10)], [part(CAT, 2, 10)], Cost(tp=[(CAT, 0, 0)])),
    'empty': ([], [], Cost()),
    'drop': ([part(DOG, 2, 10)], [], Cost(fn=[(DOG, 'missed')])),
    'thing as thing': _relabelled(CAT, DOG, 'thing as thing'),
    'stuff as stuff': _relabelled(ROAD, 5, 'stuff as stuff'),
    'thing as stuff': _relabelled(CUP, ROAD, 'thing as stuff'),
    'stuff as thing': _relabelled(ROAD, CUP, 'stuff as thing'),
    'split': (
        [part(CAT, 0, 12)],
        [part(CAT, 0, 4), part(CAT, 4, 8), part(CAT, 8, 12)],
        Cost(fn=[(CAT, 'split')], fp=[(CAT, 'split')] * 3),
    ),
    'split in halves': (
        [part(ROAD, 2, 10)],
        [part(ROAD, 2, 6), part(ROAD, 6, 10)],
        Cost(fn=[(ROAD, 'split')], fp=[(ROAD, 'split')] * 2),
    ),
    'a piece left over': (
        [part(CUP, 2, 10)],
        [part(CUP, 2, 8), part(CUP, 8, 10)],
        Cost(tp=[(CUP, F(1, 4), 0)], fp=[(CUP, 'split')]),
    ),
    'merge': (
        [part(DOG, 2, 6), part(DOG, 6, 10)],
        [part(DOG, 2, 10)],
        Cost(fn=[(DOG, 'merged')] * 2, fp=[(DOG, 'merged')]),
    ),
    'merge three': (
        [part(CUP, 0, 4), part(CUP, 4, 8), part(CUP, 8, 12)],
        [part(CUP, 0, 12)],
        Cost(fn=[(CUP, 'merged')] * 3, fp=[(CUP, 'merged')]),
    ),
    'swallow': (
        [part(CAT, 2, 8), part(CAT, 8, 10)],
        [part(CAT, 2, 10)],
        Cost(tp=[(CAT, 0, F(1, 4))], fn=[(CAT, 'merged')]),
    ),
    'shift': ([part(CAT, 0, 8)], [part(CAT, 4, 12)], Cost(fn=[(CAT, 'nearly')], fp=[(CAT, 'nearly')])),
    'shift far': ([part(DOG, 0, 6)], [part(DOG, 6, 12)], Cost(fn=[(DOG, 'missed')], fp=[(DOG, 'hallucinated')])),
    'erode': ([part(CAT, 2, 10)], [part(CAT, 2, 8)], Cost(tp=[(CAT, F(1, 4), 0)])),
    'erode much': ([part(CAT, 2, 10)], [part(CAT, 2, 6)], Cost(fn=[(CAT, 'nearly')], fp=[(CAT, 'nearly')])),
    'dilate': ([part(DOG, 2, 10)], [part(DOG, 1, 11)], Cost(tp=[(DOG, 0, F(1, 5))])),
    'shift a little': ([part(CUP, 2, 10)], [part(CUP, 3, 11)], Cost(tp=[(CUP, F(1, 9), F(1, 9))])),
    'add': ([], [part(DOG, 2, 10)], Cost(fp=[(DOG, 'hallucinated')])),
    'on a crowd': ([part(CAT, 2, 10, 1)], [part(CAT, 2, 10)], Cost(excused=[CAT])),
    "on another class's crowd": ([part(CAT, 2, 10, 1)], [part(CUP, 2, 10)], Cost(fp=[(CUP, 'crowd')])),
    'on void': ([part(-1, 2, 10)], [part(DOG, 2, 10)], Cost(excused=[DOG])),
    'too large on void': ([part(-1, 0, 12), part(CAT, 2, 10)], [part(CAT, 1, 11)], Cost(tp=[(CAT, 0, 0)])),
}


def scene(kinds: Sequence[str]) -> Case:
    """An image with one cell for each kind; what the sky behind them gains or loses is not in their costs."""
    width = CELL * len(kinds)
    maps, segments = np.ones((2, 2 * CELL, width), np.int64), ([(1, SKY, 0)], [(1, SKY, 0)])
    for place, kind in enumerate(kinds):
        for ids, listed, parts in zip(maps, segments, ERRORS[kind][:2], strict=True):
            for label, left, right, crowd in parts:
                number = 0 if label < 0 else len(listed) + 1
                ids[3:9, CELL * place + left : CELL * place + right] = number
                if number:
                    listed.append((number, label, crowd))
    gt = [
        {'id': number, 'label': label, 'iscrowd': crowd, 'area': int((maps[0] == number).sum())}
        for number, label, crowd in segments[0]
    ]
    return Case(maps[0], gt, maps[1], [{'id': number, 'label': label} for number, label, _ in segments[1]])


def costs(kinds: Sequence[str]) -> Cost:
    """The costs of all cells together."""
    return Cost(*([item for kind in kinds for item in ERRORS[kind][2][k]] for k in range(4)))
