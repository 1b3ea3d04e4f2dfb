"""A network's map whose pixels are scored by queries, each query within its window."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from .query_map import Axis

LOWEST = -1e30  # score of a query outside its window; finite, because weight 0 times infinity would be NaN


class Candidates(NamedTuple):
    """The C queries that may win somewhere in an area, followed by "no query" at place C.

    Attributes:
        indices: Indices of the candidates among all queries, ascending, int64 of shape (C + 1,).
        windows: Windows (left, top, right, bottom) of the candidates, int64 of shape (4, C + 1).
        num_everywhere: Number of candidates, the first ones, that may win anywhere in the image.
    """

    indices: Tensor
    windows: Tensor
    num_everywhere: int

    @property
    def num_candidates(self) -> int:
        """C, the number of candidates and the place of "no query"."""
        return len(self.indices) - 1

    @property
    def confined_windows(self) -> Tensor:
        """Windows of the candidates that are confined to a window, of shape (4, C - num_everywhere)."""
        return self.windows[:, self.num_everywhere : -1]


@dataclass(frozen=True)
class ScoredMap:
    """A network's map, the queries that score it and the pixels that read it.

    A pixel that is in no window belongs to "no query". This is treated as an additional query, the last one, whose
    window is the whole image and whose score is below all others, so that cells and pixels without a query need no
    special case.

    Attributes:
        embedding: Network's map of shape (D, h, w): the centres that pixels read, at least two per axis.
        queries: Of shape (Q, D); None: the map's channels are the scores of the queries, D = Q.
        windows: (left, top, right, bottom) in pixels, right and bottom exclusive, int64 of shape (Q + 1, 4).
        num_everywhere: Number of queries, the first ones, that may win anywhere in the image.
        rows, columns: Where the image's pixels read the map.
        has_repeats: Whether two queries are equal.
    """

    embedding: Tensor
    queries: Tensor | None
    windows: Tensor
    num_everywhere: int
    rows: Axis
    columns: Axis
    has_repeats: bool = False

    @classmethod
    def of(
        cls, embedding: Tensor, queries: Tensor | None, confined_windows: Tensor, rows: Axis, columns: Axis
    ) -> 'ScoredMap':
        """Make a scored map from a network's map of any size and precision and the windows of the last queries."""
        embedding = centres_read(embedding, rows, columns)
        num_everywhere = len(embedding if queries is None else queries) - len(confined_windows)
        image = torch.tensor([[0, 0, len(columns.cell), len(rows.cell)]], device=embedding.device)
        windows = torch.cat([image.expand(num_everywhere, 4), confined_windows.to(embedding.device), image])
        queries = None if queries is None else queries.to(embedding)
        has_repeats = queries is not None and bool((first_equals(queries) < torch.arange(len(queries))).any())
        return cls(embedding, queries, windows, num_everywhere, rows, columns, has_repeats)

    @property
    def num_queries(self) -> int:
        """Q, which is also the index of "no query"."""
        return len(self.windows) - 1

    def candidates(self, top: Tensor, bottom: Tensor) -> Candidates:
        """Queries that may win in the rows of pixels from ``top`` to ``bottom`` (exclusive)."""
        left, upper, right, lower = self.windows.unbind(1)
        may_win = (left < right) & (upper < lower) & (upper < bottom) & (lower > top)
        may_win[-1] = True
        indices = may_win.nonzero().flatten()
        return Candidates(indices, self.windows[indices].T, int((indices < self.num_everywhere).sum()))

    def scores(self, candidates: Candidates, points: Tensor) -> Tensor:
        """Scores of C candidates, of shape (C, P), at points of shape (D, P), regardless of windows."""
        queries = candidates.indices[:-1]
        if self.queries is None:
            return points[queries]
        with torch.autocast(points.device.type, enabled=False):  # half precision cannot represent LOWEST
            scores = self.queries[queries] @ points
        return scores[first_equals(self.queries[queries])] if self.has_repeats else scores

    def embeddings_at(self, x: Tensor, y: Tensor) -> Tensor:
        """Embeddings of shape (D, P) of the pixels in columns ``x`` and rows ``y``, both of shape (P,)."""
        upper_left = self.rows.cell[y] * len(self.columns.start) + self.columns.cell[x]
        centres = self.embedding.flatten(1)
        across, down = self.columns.weight[x], self.rows.weight[y]
        upper, lower = (
            torch.lerp(centres.index_select(1, left), centres.index_select(1, left + 1), across)
            for left in (upper_left, upper_left + len(self.columns.start))
        )
        return torch.lerp(upper, lower, down)

    def cell_bounds(self, row: Tensor, column: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Left, top, right and bottom pixels (right and bottom exclusive) of the cells in these rows and columns."""
        down, across = self.rows.start, self.columns.start
        return across[column], down[row], across[column + 1], down[row + 1]


def first_equals(queries: Tensor) -> Tensor:
    """Index of the first query that equals each query, int64 of shape (Q,), for queries of shape (Q, D).

    A location that is detected as two classes gives equal queries, and of equal scores the first one wins. But a
    product of matrices with several threads may round equal rows in different ways, so they take the first one's row.
    """
    is_equal = (queries[:, None] == queries[None]).all(dim=2)
    before = (is_equal.int().cumsum(dim=1) == 0).sum(dim=1)
    return torch.minimum(before, torch.arange(queries.shape[0]))  # NaN does not equal itself


def centres_read(embedding: Tensor, rows: Axis, columns: Axis) -> Tensor:
    """The centres of a network's map that pixels read, at least two per axis, float32; the rest is padding."""
    height, width = embedding.shape[1:]
    embedding = embedding.float().expand(-1, max(height, 2), max(width, 2))
    return embedding[:, : len(rows.start), : len(columns.start)].contiguous()


def windows_hold(windows: Iterable[Tensor], bounds: Sequence[Tensor]) -> Tensor:
    """Whether windows hold all pixels within bounds; both are (left, top, right, bottom) of broadcastable shapes."""
    left, top, right, bottom = windows
    return (left <= bounds[0]) & (top <= bounds[1]) & (right >= bounds[2]) & (bottom >= bounds[3])


def windows_miss(windows: Iterable[Tensor], bounds: Sequence[Tensor]) -> Tensor:
    """Whether windows hold no pixel within bounds; arguments are those of :func:`windows_hold`."""
    left, top, right, bottom = windows
    return (left >= bounds[2]) | (right <= bounds[0]) | (top >= bounds[3]) | (bottom <= bounds[1])


def lowest_best(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Best candidate at each point.

    Args:
        scores: Of C candidates at P points, of shape (C, P).

    Returns:
        The largest scores, of shape (P,), and the places of the candidates that have them, int64 of shape (P,). Ties go
        to the lowest place; the place is C where all scores are LOWEST or there is no candidate.
    """
    count = len(scores)
    if not count:
        return scores.new_full(scores.shape[1:], LOWEST), scores.new_zeros(scores.shape[1:], dtype=torch.int64)
    if scores.device.type == 'cpu':  # three passes that are vectorised: ``max(dim=0)`` takes three times as long
        best = scores.amax(dim=0)
        is_best = torch.eq(scores, best, out=torch.empty_like(scores))
        falling = torch.arange(count, 0, -1, device=scores.device)[:, None]
        place = count - is_best.mul_(falling).amax(dim=0).long()
    else:
        best, place = scores.max(dim=0)
    return best, place.masked_fill_(~(best >= LOWEST / 2), count)  # of NaN, too
