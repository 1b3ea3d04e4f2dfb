"""What two results for one image agree in, such as that of a model and that of its ONNX file."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from rich.table import Table

from mmpanoptic.evaluation.overlaps import find_overlaps
from mmpanoptic.evaluation.panoptic_quality import MATCH_IOU
from mmpanoptic.evaluation.tables import render
from mmpanoptic.results import PanopticResult, Segment
from mmpanoptic.utils import UserError


@dataclass(frozen=True)
class Agreement:
    """Segments of two results, for one image or for many.

    Segments match if their IoU is above 0.5, whatever their classes are. A segment has at most one match.

    Attributes:
        in_both: Matches of one class.
        other_class: Matches of two classes.
        first_alone: Segments of the first result without a match.
        second_alone: Segments of the second result without a match.
        scored: Matches of one class that have a score in both results.
        score: Largest difference of their scores.
        box: Largest difference of the left, top, right or bottom side of a box, over all matches of one class, in
            pixels.
    """

    in_both: int = 0
    other_class: int = 0
    first_alone: int = 0
    second_alone: int = 0
    scored: int = 0
    score: float = 0.0
    box: int = 0

    def __add__(self, other: 'Agreement') -> 'Agreement':
        """The agreement for the images of both: sums of counts, the larger differences."""
        total = {name: count + getattr(other, name) for name, count in asdict(self).items()}
        return Agreement(**total | dict(score=max(self.score, other.score), box=max(self.box, other.box)))


class Comparison(NamedTuple):
    """What two results for one image agree in.

    Attributes:
        pixels: Share of pixels with the same id.
        same_segments: Whether the segments have the same ids and classes, in the same order.
        things: Agreement of things. A match of two classes counts for what the first result says.
        stuff: Agreement of stuff.
    """

    pixels: float
    same_segments: bool
    things: Agreement
    stuff: Agreement

    def plain(self) -> dict[str, Any]:
        """The same as plain Python values, for a JSON file."""
        return self._asdict() | dict(things=asdict(self.things), stuff=asdict(self.stuff))


def compare(first: PanopticResult, second: PanopticResult, name: str = 'image') -> Comparison:
    """Compare two results for one image.

    Args:
        first: Such as a model's.
        second: Such as that of its ONNX file.
        name: What to call the image in an error.

    Raises:
        UserError: If the maps are of different sizes.
    """
    if first.id_map.shape != second.id_map.shape:
        raise UserError(
            f'{name}: maps of {first.id_map.shape} and {second.id_map.shape} (height, width) cannot be compared: give '
            'both the same image'
        )
    matches, alone = _match(first, second, name)
    things, stuff = (
        _agreement(
            [pair for pair in matches if pair[0].isthing == isthing],
            *([segment for segment in segments if segment.isthing == isthing] for segments in alone),
        )
        for isthing in (True, False)
    )
    return Comparison(
        pixels=float(np.mean(first.id_map == second.id_map)),
        same_segments=[(one.id, one.label) for one in first.segments]
        == [(one.id, one.label) for one in second.segments],
        things=things,
        stuff=stuff,
    )


def agreement_table(things: Agreement, stuff: Agreement) -> str:
    """The agreement of a model and its file as a text table; '-' where there is nothing to compare."""
    table = Table('segments')
    for kind in ('things', 'stuff'):
        table.add_column(kind, justify='right')
    for title, cell in (
        ('in both', lambda found: str(found.in_both)),
        ('of another class', lambda found: str(found.other_class)),
        ('in the model alone', lambda found: str(found.first_alone)),
        ('in the file alone', lambda found: str(found.second_alone)),
        ('scored in both', lambda found: str(found.scored)),
        ('largest difference of a score', lambda found: f'{found.score:.1e}' if found.scored else '-'),
        ('largest difference of a side of a box, pixels', lambda found: str(found.box) if found.in_both else '-'),
    ):
        table.add_row(title, cell(things), cell(stuff))
    return render(table)


def _match(
    first: PanopticResult, second: PanopticResult, name: str
) -> tuple[list[tuple[Segment, Segment]], tuple[list[Segment], list[Segment]]]:
    """Pairs of segments with an IoU above :data:`MATCH_IOU`, and the other segments of both results."""
    by_id = [sorted(result.segments, key=lambda one: one.id) for result in (first, second)]
    listed = [[dict(id=one.id) for one in segments] for segments in by_id]
    found = find_overlaps(first.id_map, listed[0], second.id_map, listed[1], 0, name)
    iou = found.pixels / (found.gt_area[found.gt] + found.pred_area[found.pred] - found.pixels)
    # Void is at place 0 of the first result and at place 1 of the second one.
    is_match = (iou > MATCH_IOU) & (found.gt > 0) & (found.pred > 1)
    places = found.gt[is_match] - 1, found.pred[is_match] - 2
    matches = [(by_id[0][one], by_id[1][other]) for one, other in zip(*places, strict=True)]
    alone = (
        [segment for place, segment in enumerate(segments) if place not in matched]
        for segments, matched in zip(by_id, (set(one.tolist()) for one in places), strict=True)
    )
    return matches, tuple(alone)


def _agreement(
    matches: Iterable[tuple[Segment, Segment]], first_alone: list[Segment], second_alone: list[Segment]
) -> Agreement:
    """The agreement of segments of one kind."""
    total = Agreement(first_alone=len(first_alone), second_alone=len(second_alone))
    for one, other in matches:
        if one.label != other.label:
            total += Agreement(other_class=1)
            continue
        sides = np.abs(np.subtract(_sides(one), _sides(other)))
        pair = Agreement(in_both=1, box=int(sides.max()))
        if one.score is not None and other.score is not None:
            pair = replace(pair, scored=1, score=abs(one.score - other.score))
        total += pair
    return total


def _sides(segment: Segment) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of a segment's box."""
    left, top, width, height = segment.bbox
    return left, top, left + width, top + height
