"""Merge overlapping tiles of an image into one panoptic map.

The thing at a pixel is taken from the tile whose border is furthest away. Two things of one class in overlapping tiles
are merged if they agree in the overlap. The class and the confidence of stuff in an overlap are those of the mean of
the tiles' logits. Only data that later tiles need is kept, so memory does not grow with the number of tiles.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

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
    """Begin and end of each tile along one side of an image.

    Args:
        length: Length of the image in pixels.
        tile: Length of a tile in pixels. The last tile may overlap more than the others. An image that is shorter is
            one tile.
        overlap: Least overlap of neighbouring tiles in pixels.

    Raises:
        UserError: If the overlap is negative or not smaller than the tile.
    """
    if not 0 <= overlap < tile:
        raise UserError(f'overlap {overlap} does not go with tiles of {tile} pixels: it must be less, best a quarter')
    starts = range(0, max(length - overlap, 1), tile - overlap)
    return [(min(start, max(length - tile, 0)), min(start + tile, length)) for start in starts]


def cores(sides: Sequence[Span]) -> list[Span]:
    """Core of each span: neighbours get half of their overlap each."""
    cuts = [(left[1] + right[0]) // 2 for left, right in itertools.pairwise(sides)]
    return list(itertools.pairwise([sides[0][0], *cuts, sides[-1][1]]))


def cells(sides: Sequence[Span]) -> list[tuple[Span, int]]:
    """Pieces of a side that are covered by the same spans, and the number of these spans."""
    cuts = sorted({cut for side in sides for cut in side})
    return [
        (cell, sum(start <= cell[0] and cell[1] <= end for start, end in sides)) for cell in itertools.pairwise(cuts)
    ]


def ramp(length: int) -> np.ndarray:
    """Weights of a tile's pixels along one side, float32 of shape (length,), growing with the distance to its ends."""
    return np.minimum(np.arange(1, length + 1), np.arange(length, 0, -1)).astype(np.float32)


def same_things(earlier: np.ndarray, later: np.ndarray, iou_thr: float) -> list[tuple[int, int]]:
    """Pairs of things of two tiles whose pixels have an IoU above ``iou_thr``.

    Args:
        earlier: Numbers of the things of one tile in the overlap, integers of shape (h, w); 0 for none.
        later: Numbers of the things of the other tile in the overlap.
        iou_thr: Between 0 and 1.
    """
    base = int(later.max(initial=0)) + 1
    pairs, counts = np.unique(earlier.astype(np.int64) * base + later, return_counts=True)
    areas = [dict(zip(*np.unique(values, return_counts=True), strict=True)) for values in (earlier, later)]
    return [
        (int(first), int(second))
        for first, second, inside in zip(pairs // base, pairs % base, counts, strict=True)
        if first and second and inside > iou_thr * (areas[0][first] + areas[1][second] - inside)
    ]


@dataclass(frozen=True)
class FusedTile:
    """Prediction for a tile.

    Attributes:
        things: 1 + index into ``labels`` of the thing at each pixel, int32 of shape (h, w), 0 for none.
        labels: Class of each thing.
        scores: Score of each thing, or None.
        stuff: Logits, which are merged with those of other tiles; or stuff classes, integers of shape (h, w), S for
            none, which are used only in the tile's core.
        confidences: If ``stuff`` holds classes, confidence of each class in the tile's core, float32 of shape (S + 1,);
            None if unknown.
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
        rows: Spans of the tiles from top to bottom.
        columns: Spans of the tiles from left to right.
        num_things: Number of thing classes T.
        num_stuff: Number of stuff classes S.
        iou_thr: Things of overlapping tiles are merged if their IoU in the overlap is higher.
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
        self._confidence = np.zeros(size, np.int16)  # in steps, to halve the memory of a large map
        self._cores = cores(self.rows), cores(self.columns)
        self._cells = cells(self.rows), cells(self.columns)

    def add(self, row: int, column: int, tile: FusedTile) -> None:
        """Add the next tile. Tiles come row by row, each row from left to right."""
        numbers = np.where(tile.things, tile.things + len(self._labels), 0)
        self._labels += tile.labels
        self._scores += tile.scores
        for place, earlier in self._recent.items():
            self._match(place, earlier, (row, column), numbers)
        self._recent[row, column] = numbers
        top = self.rows[row][0]  # no later tile begins further up
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
        """Core of a tile in the coordinates of the tile."""
        return self._inside(self._core(row, column), row, column)

    def finish(self, area_limit: float, area_mode: str) -> tuple[np.ndarray, list[dict[str, Any]]]:
        """Merge the things, and apply the area limit of stuff.

        Args:
            area_limit, area_mode: See :func:`~mmpanoptic.models.fusion.stuff.paste_stuff`; for the whole image.

        Returns:
            Panoptic map in mmdet's encoding, int32 of shape (H, W), and its segments with ``id``, ``label`` and
            ``score``. The score of a thing is the highest of its tiles. The score of stuff is the mean confidence of
            its pixels, where tiles without logits give all pixels of a class the mean of a sample; None if a tile had
            no confidences.
        """
        number = len(self._labels)
        earlier, later = np.array(self._pairs, int).reshape(-1, 2).T
        graph = coo_array((np.ones(len(earlier), bool), (earlier, later)), shape=(number + 1, number + 1))
        _, group = connected_components(graph, directed=False)
        void = self.num_things + self.num_stuff
        values = np.full(number + 1, void, np.int32)
        things: dict[int, dict[str, Any]] = {}
        for thing in dict.fromkeys(self._shown):
            if thing:
                label, of_group = self._labels[thing - 1], group[thing]
                if of_group not in things:
                    things[of_group] = dict(id=label + INSTANCE_OFFSET * (len(things) + 1), label=label, score=None)
                values[thing] = things[of_group]['id']
        for thing, score in enumerate(self._scores, 1):
            segment = things.get(group[thing])
            if segment and score is not None:
                segment['score'] = max(score, segment['score'] or 0.0)
        on_cpu, stuff = paste_stuff(
            torch.from_numpy(values[self._things]),
            torch.from_numpy(self._stuff),
            self.num_things,
            self.num_stuff,
            area_limit,
            area_mode,
        )
        panoptic = on_cpu.numpy()
        scores = mean_by_label(panoptic, self._confidence, void) if self._is_rated else [None] * void
        return panoptic, [*things.values(), *(dict(id=label, label=label, score=scores[label]) for label in stuff)]

    def _core(self, row: int, column: int) -> tuple[slice, slice]:
        """Core of a tile in the coordinates of the image."""
        return slice(*self._cores[0][row]), slice(*self._cores[1][column])

    def _inside(self, region: tuple[slice, slice], row: int, column: int) -> tuple[slice, slice]:
        """Convert a region of the image to the coordinates of a tile."""
        vertical, horizontal = region
        top, left = self.rows[row][0], self.columns[column][0]
        return slice(vertical.start - top, vertical.stop - top), slice(horizontal.start - left, horizontal.stop - left)

    def _match(self, place: tuple[int, int], earlier: np.ndarray, here: tuple[int, int], numbers: np.ndarray) -> None:
        """Find the things that an earlier tile and this one share."""
        rows, columns = (
            slice(max(sides[there][0], sides[now][0]), min(sides[there][1], sides[now][1]))
            for sides, there, now in zip((self.rows, self.columns), place, here, strict=True)
        )
        if rows.start >= rows.stop or columns.start >= columns.stop:
            return
        region = rows, columns
        found = same_things(earlier[self._inside(region, *place)], numbers[self._inside(region, *here)], self.iou_thr)
        self._pairs += [pair for pair in found if self._labels[pair[0] - 1] == self._labels[pair[1] - 1]]

    def _add_logits(self, row: int, column: int, stuff: StuffLogits) -> None:
        """Decide about stuff in cells that no later tile covers, and add up the logits of the other cells."""
        logits = stuff.logits
        (top, bottom), (left, right) = self.rows[row], self.columns[column]
        weights = torch.from_numpy(np.outer(ramp(bottom - top), ramp(right - left))).to(logits.device)
        decided = torch.empty(logits.shape[1:], dtype=torch.int16, device=logits.device)
        confidence, finished = torch.empty_like(decided), []
        for i, (vertical, covering_rows) in enumerate(self._cells[0]):
            for j, (horizontal, covering_columns) in enumerate(self._cells[1]):
                inside = (
                    top <= vertical[0] and vertical[1] <= bottom and left <= horizontal[0] and horizontal[1] <= right
                )
                if not inside:
                    continue
                region = slice(*vertical), slice(*horizontal)
                inner = self._inside(region, row, column)
                all_channels = (slice(None), *inner)
                piece, coverage = logits[all_channels], covering_rows * covering_columns
                total = None
                if coverage > 1:  # the sum has its maximum in the same channel as the mean
                    before, weighed, seen = self._waiting.pop((i, j), (0, 0, 0))
                    piece, total = before + piece * weights[inner], weighed + weights[inner]
                    if seen + 1 < coverage:
                        self._waiting[i, j] = piece, total, seen + 1
                        continue
                merged = StuffLogits(piece, stuff.channels)
                decided[inner], of_best = decide(merged, total, self.num_things, self.num_stuff)
                confidence[inner] = as_steps(of_best)
                finished.append((region, inner))
        classes, steps = (values.numpy() for values in fetch(decided, confidence))
        for region, inner in finished:
            self._stuff[region], self._confidence[region] = classes[inner], steps[inner]
