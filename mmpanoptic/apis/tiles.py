"""One panoptic map of many tiles of an image: pure functions, and a map that takes the tiles one by one.

A pixel's thing is that of the tile whose border is furthest away. Two things of one class in overlapping tiles are one
if they agree where both tiles look. Stuff is decided once: where tiles overlap, on the mean of their logits. How sure
the model is of a pixel's class comes of the same evidence. Only what waits for other tiles is kept, so that memory does
not grow with the number of tiles.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from mmpanoptic.models.fusion.stuff import paste_stuff
from mmpanoptic.models.fusion.transfer import fetch
from mmpanoptic.structures import INSTANCE_OFFSET, StuffLogits
from mmpanoptic.utils import UserError

from .tile_stuff import as_steps, decide, mean_by_label

Span = tuple[int, int]


def spans(length: int, tile: int, overlap: int) -> list[Span]:
    """Where tiles begin and end along one side of an image.

    Args:
        length: Of the image, in pixels.
        tile: Of a tile; the last one overlaps more than the others if need be, and an image that is shorter is one.
        overlap: Least number of pixels that neighbours share.

    Raises:
        UserError: If the overlap is negative or not below the tile.
    """
    if not 0 <= overlap < tile:
        raise UserError(f'overlap {overlap} does not go with tiles of {tile} pixels: it must be less, best a quarter')
    starts = range(0, max(length - overlap, 1), tile - overlap)
    return [(min(start, max(length - tile, 0)), min(start + tile, length)) for start in starts]


def cores(sides: Sequence[Span]) -> list[Span]:
    """The part of each span that is its own: neighbours share what they overlap in by halves."""
    cuts = [(left[1] + right[0]) // 2 for left, right in itertools.pairwise(sides)]
    return list(itertools.pairwise([sides[0][0], *cuts, sides[-1][1]]))


def cells(sides: Sequence[Span]) -> list[tuple[Span, int]]:
    """Pieces of a side that the same spans cover, and how many these are."""
    cuts = sorted({cut for side in sides for cut in side})
    return [
        (cell, sum(start <= cell[0] and cell[1] <= end for start, end in sides)) for cell in itertools.pairwise(cuts)
    ]


def ramp(length: int) -> np.ndarray:
    """Weights of a tile's pixels along one side, higher the further its border is away; float32 of shape (length,)."""
    return np.minimum(np.arange(1, length + 1), np.arange(length, 0, -1)).astype(np.float32)


def same_things(one: np.ndarray, other: np.ndarray, iou_thr: float) -> list[tuple[int, int]]:
    """Pairs of numbers whose pixels have an IoU above ``iou_thr``.

    Args:
        one: Numbers of things in two tiles where both look, integers of shape (h, w); 0 is none.
        other: The same of the other tile.
        iou_thr: Between 0 and 1.
    """
    base = int(other.max(initial=0)) + 1
    pairs, counts = np.unique(one.astype(np.int64) * base + other, return_counts=True)
    areas = [dict(zip(*np.unique(values, return_counts=True), strict=True)) for values in (one, other)]
    return [
        (int(first), int(second))
        for first, second, inside in zip(pairs // base, pairs % base, counts, strict=True)
        if first and second and inside > iou_thr * (areas[0][first] + areas[1][second] - inside)
    ]


@dataclass(frozen=True)
class FusedTile:
    """What a tile says.

    Attributes:
        things: 1 + index into ``labels`` of the thing at each pixel, int32 of shape (h, w), 0 for none.
        labels: Class of each thing.
        scores: Score of each thing, or None.
        stuff: Logits, which are merged with those of other tiles; or stuff classes, integers of shape (h, w), S for
            none, which count in the tile's core.
        confidences: Of each stuff class in the tile's core, float32 of shape (S + 1,), if ``stuff`` are classes; None
            if they are not known.
    """

    things: np.ndarray
    labels: Sequence[int]
    scores: Sequence[float | None]
    stuff: StuffLogits | Tensor
    confidences: np.ndarray | None = None


@dataclass
class TiledMap:
    """A panoptic map that grows tile by tile.

    Attributes:
        rows: Spans of the tiles, from the top to the bottom.
        columns: From left to right.
        num_things: Number of thing classes T.
        num_stuff: Number of stuff classes S.
        iou_thr: Things of overlapping tiles are one if their IoU where both look is above.
    """

    rows: Sequence[Span]
    columns: Sequence[Span]
    num_things: int
    num_stuff: int
    iou_thr: float = 0.5
    _labels: list[int] = field(default_factory=list, init=False)
    _scores: list[float | None] = field(default_factory=list, init=False)
    _pairs: list[tuple[int, int]] = field(default_factory=list, init=False)
    _shown: list[int] = field(default_factory=list, init=False)
    _recent: dict[tuple[int, int], np.ndarray] = field(default_factory=dict, init=False)
    _waiting: dict[tuple[int, int], tuple[Tensor, Tensor, int]] = field(default_factory=dict, init=False)
    _is_rated: bool = field(default=True, init=False)

    def __post_init__(self) -> None:
        size = self.rows[-1][1], self.columns[-1][1]
        self._things = np.zeros(size, np.int32)
        self._stuff = np.full(size, self.num_stuff, np.uint8 if self.num_stuff < 255 else np.uint16)
        self._confidence = np.zeros(size, np.int16)  # in steps: the map is what memory grows with
        self._cores = cores(self.rows), cores(self.columns)
        self._cells = cells(self.rows), cells(self.columns)

    def add(self, row: int, column: int, tile: FusedTile) -> None:
        """Take the next tile: row by row, each from left to right."""
        numbers = np.where(tile.things, tile.things + len(self._labels), 0)
        self._labels += tile.labels
        self._scores += tile.scores
        for place, before in self._recent.items():
            self._match(place, before, (row, column), numbers)
        self._recent[row, column] = numbers
        top = self.rows[row][0]  # no later tile looks further up
        self._recent = {at: found for at, found in self._recent.items() if self.rows[at[0]][1] > top}
        core, inner = self._core(row, column), self.core(row, column)
        self._things[core] = numbers[inner]
        self._shown += np.unique(numbers[inner]).tolist()
        if isinstance(tile.stuff, StuffLogits):
            self._add_logits(row, column, tile.stuff)
            return
        classes = tile.stuff[inner].cpu().numpy()
        self._stuff[core] = classes
        if tile.confidences is None:
            self._is_rated = False
        else:
            self._confidence[core] = as_steps(torch.from_numpy(tile.confidences)).numpy()[classes]

    def core(self, row: int, column: int) -> tuple[slice, slice]:
        """The part of a tile that is its own, in the coordinates of the tile."""
        return self._inside(self._core(row, column), row, column)

    def finish(self, area_limit: float, area_mode: str) -> tuple[np.ndarray, list[dict]]:
        """The map of all tiles.

        Args:
            area_limit, area_mode: As in :func:`~mmpanoptic.models.fusion.stuff.paste_stuff`, of the whole image.

        Returns:
            Panoptic map in mmdet's encoding, int32 of shape (H, W), and its segments: ``id``, ``label`` and ``score``.
            That of a thing is the highest of its tiles. That of stuff is the mean of its pixels, or None where a tile
            does not tell.
        """
        number = len(self._labels)
        one, other = np.array(self._pairs, int).reshape(-1, 2).T
        graph = coo_array((np.ones(len(one), bool), (one, other)), shape=(number + 1, number + 1))
        _, group = connected_components(graph, directed=False)
        void = self.num_things + self.num_stuff
        values, segments = np.full(number + 1, void, np.int32), {}
        for thing in dict.fromkeys(self._shown):
            if thing:
                label, of_group = self._labels[thing - 1], group[thing]
                if of_group not in segments:
                    segments[of_group] = dict(id=label + INSTANCE_OFFSET * (len(segments) + 1), label=label, score=None)
                values[thing] = segments[of_group]['id']
        for thing, score in enumerate(self._scores, 1):
            segment = segments.get(group[thing])
            if segment and score is not None:
                segment['score'] = max(score, segment['score'] or 0.0)
        panoptic, stuff = paste_stuff(
            torch.from_numpy(values[self._things]),
            torch.from_numpy(self._stuff),
            self.num_things,
            self.num_stuff,
            area_limit,
            area_mode,
        )
        panoptic = panoptic.numpy()
        scores = mean_by_label(panoptic, self._confidence, void) if self._is_rated else [None] * void
        segments = [*segments.values(), *(dict(id=label, label=label, score=scores[label]) for label in stuff)]
        return panoptic, segments

    def _core(self, row: int, column: int) -> tuple[slice, slice]:
        """The part of the image that is a tile's own."""
        return tuple(slice(*sides[index]) for sides, index in zip(self._cores, (row, column), strict=True))

    def _inside(self, region: tuple[slice, slice], row: int, column: int) -> tuple[slice, slice]:
        """A region of the image in the coordinates of a tile."""
        starts = self.rows[row][0], self.columns[column][0]
        return tuple(slice(side.start - start, side.stop - start) for side, start in zip(region, starts, strict=True))

    def _match(self, place: tuple[int, int], before: np.ndarray, here: tuple[int, int], numbers: np.ndarray) -> None:
        """Find the things that an earlier tile and this one share."""
        region = []
        for sides, one, other in zip((self.rows, self.columns), place, here, strict=True):
            region.append(slice(max(sides[one][0], sides[other][0]), min(sides[one][1], sides[other][1])))
            if region[-1].start >= region[-1].stop:
                return
        found = same_things(before[self._inside(region, *place)], numbers[self._inside(region, *here)], self.iou_thr)
        self._pairs += [pair for pair in found if self._labels[pair[0] - 1] == self._labels[pair[1] - 1]]

    def _add_logits(self, row: int, column: int, stuff: StuffLogits) -> None:
        """Decide about stuff where no later tile looks; add up the logits elsewhere."""
        logits = stuff.logits
        (top, bottom), (left, right) = self.rows[row], self.columns[column]
        weights = torch.from_numpy(np.outer(ramp(bottom - top), ramp(right - left))).to(logits.device)
        decided = torch.empty(logits.shape[1:], dtype=torch.int16, device=logits.device)
        confidence, finished = torch.empty_like(decided), []
        for i, (vertical, several) in enumerate(self._cells[0]):
            for j, (horizontal, beside) in enumerate(self._cells[1]):
                inside = (
                    top <= vertical[0] and vertical[1] <= bottom and left <= horizontal[0] and horizontal[1] <= right
                )
                if not inside:
                    continue
                region = slice(*vertical), slice(*horizontal)
                inner = self._inside(region, row, column)
                piece, coverage = logits[(slice(None), *inner)], several * beside
                total = None
                if coverage > 1:  # a sum of so many is a mean as far as the largest is asked for
                    before, weighed, seen = self._waiting.pop((i, j), (0, 0, 0))
                    piece, total = before + piece * weights[inner], weighed + weights[inner]
                    if seen + 1 < coverage:
                        self._waiting[i, j] = piece, total, seen + 1
                        continue
                merged = StuffLogits(piece, stuff.channels)
                decided[inner], of_best = decide(merged, total, self.num_things, self.num_stuff)
                confidence[inner] = as_steps(of_best)
                finished.append((region, inner))
        on_cpu = [values.numpy() for values in fetch(decided, confidence)]
        for region, inner in finished:
            self._stuff[region], self._confidence[region] = on_cpu[0][inner], on_cpu[1][inner]
