"""Compare two results for one image, such as those of a model and of its ONNX file."""

from collections.abc import Callable, Iterable
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
    """Counts and differences of the segments of two results, for one image or for many.

    Segments match if their IoU is above 0.5, whatever their classes are. A segment has at most one match.

    Attributes:
        in_both: Number of matches with the same class.
        other_class: Number of matches with different classes.
        first_alone: Number of segments of the first result without a match.
        second_alone: Number of segments of the second result without a match.
        scored: Number of matches with the same class and a score in both results.
        score: Largest difference between the scores of these matches.
        box: Largest difference between the left, top, right or bottom sides of the boxes of matches with the same
            class, in pixels.
    """

    in_both: int = 0
    other_class: int = 0
    first_alone: int = 0
    second_alone: int = 0
    scored: int = 0
    score: float = 0.0
    box: int = 0

    def __add__(self, other: 'Agreement') -> 'Agreement':
        """Agreement for the images of both: sums of counts, maxima of differences."""
        total = {name: count + getattr(other, name) for name, count in asdict(self).items()}
        return Agreement(**total | dict(score=max(self.score, other.score), box=max(self.box, other.box)))


class Comparison(NamedTuple):
    """Comparison of two results for one image.

    Attributes:
        pixels: Share of pixels with the same id.
        same_segments: Whether the segments have the same ids and classes, in the same order.
        things: Agreement of things. Matches with different classes count by the class in the first result.
        stuff: Agreement of stuff.
    """

    pixels: float
    same_segments: bool
    things: Agreement
    stuff: Agreement

    def plain(self) -> dict[str, Any]:
        """The comparison as plain Python values, for a JSON file."""
        return self._asdict() | dict(things=asdict(self.things), stuff=asdict(self.stuff))


def compare(first: PanopticResult, second: PanopticResult, name: str = 'image') -> Comparison:
    """Compare two results for one image.

    Args:
        first: Result with a panoptic map, such as that of a model.
        second: Result with a panoptic map, such as that of the model's ONNX file.
        name: Name of the image in errors.

    Raises:
        UserError: If a result has no panoptic map, or the maps differ in size.
    """
    if first.id_map is None or second.id_map is None:
        raise UserError(f'{name}: results without a panoptic map cannot be compared: use a panoptic model')
    if first.id_map.shape != second.id_map.shape:
        raise UserError(
            f'{name}: maps of {first.id_map.shape} and {second.id_map.shape} (height, width) cannot be compared: give '
            'both the same image'
        )
    by_id = [sorted(result.segments, key=lambda segment: segment.id) for result in (first, second)]
    matches, alone = _match((first.id_map, by_id[0]), (second.id_map, by_id[1]), name)
    things, stuff = (
        _agreement(
            [pair for pair in matches if pair[0].isthing == isthing],
            *([segment for segment in segments if segment.isthing == isthing] for segments in alone),
        )
        for isthing in (True, False)
    )
    return Comparison(
        pixels=float(np.mean(first.id_map == second.id_map)),
        same_segments=[(segment.id, segment.label) for segment in first.segments]
        == [(segment.id, segment.label) for segment in second.segments],
        things=things,
        stuff=stuff,
    )


def agreement_table(things: Agreement, stuff: Agreement) -> str:
    """Agreement of a model and its file as a text table; '-' if there is nothing to compare."""
    table = Table('segments')
    for kind in ('things', 'stuff'):
        table.add_column(kind, justify='right')
    rows: tuple[tuple[str, Callable[[Agreement], str]], ...] = (
        ('in both', lambda found: str(found.in_both)),
        ('of another class', lambda found: str(found.other_class)),
        ('in the model alone', lambda found: str(found.first_alone)),
        ('in the file alone', lambda found: str(found.second_alone)),
        ('scored in both', lambda found: str(found.scored)),
        ('largest difference of a score', lambda found: f'{found.score:.1e}' if found.scored else '-'),
        ('largest difference of a side of a box, pixels', lambda found: str(found.box) if found.in_both else '-'),
    )
    for title, cell in rows:
        table.add_row(title, cell(things), cell(stuff))
    return render(table)


def _match(
    first: tuple[np.ndarray, list[Segment]], second: tuple[np.ndarray, list[Segment]], name: str
) -> tuple[list[tuple[Segment, Segment]], tuple[list[Segment], list[Segment]]]:
    """Match segments with an IoU above :data:`MATCH_IOU`.

    Args:
        first, second: Panoptic map of a result, and its segments sorted by id.
        name: Name of the image in errors.

    Returns:
        Pairs of segments that match, and the other segments of both results.
    """
    by_id = first[1], second[1]
    listed = [[dict(id=segment.id) for segment in segments] for segments in by_id]
    found = find_overlaps(first[0], listed[0], second[0], listed[1], 0, name)
    iou = found.pixels / (found.gt_area[found.gt] + found.pred_area[found.pred] - found.pixels)
    # Void is at place 0 of the first result and at place 1 of the second one.
    is_match = (iou > MATCH_IOU) & (found.gt > 0) & (found.pred > 1)
    places = found.gt[is_match] - 1, found.pred[is_match] - 2
    matches = [(by_id[0][place], by_id[1][other]) for place, other in zip(*places, strict=True)]
    first_alone, second_alone = (
        [segment for place, segment in enumerate(segments) if place not in matched]
        for segments, matched in zip(by_id, (set(found_places.tolist()) for found_places in places), strict=True)
    )
    return matches, (first_alone, second_alone)


def _agreement(
    matches: Iterable[tuple[Segment, Segment]], first_alone: list[Segment], second_alone: list[Segment]
) -> Agreement:
    """Agreement of segments of one kind."""
    total = Agreement(first_alone=len(first_alone), second_alone=len(second_alone))
    for segment, other in matches:
        if segment.label != other.label:
            total += Agreement(other_class=1)
            continue
        sides = np.abs(np.subtract(_sides(segment), _sides(other)))
        pair = Agreement(in_both=1, box=int(sides.max()))
        if segment.score is not None and other.score is not None:
            pair = replace(pair, scored=1, score=abs(segment.score - other.score))
        total += pair
    return total


def _sides(segment: Segment) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of a segment's box."""
    left, top, width, height = segment.bbox
    return left, top, left + width, top + height
