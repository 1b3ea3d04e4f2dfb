"""The best query of every pixel of an embedding map, without making that map or its scores at the size of the image.

The embedding of a pixel is interpolated bilinearly between four centres of the network's map, and what it is divided by
to have length 1 does not change which query it is most similar to. So similarities are computed between the queries
and the network's own map alone, and a **cell**, the pixels between four neighbouring centres, is looked at as a whole:

1. One query wins at all four corners, and its window holds all of the cell's pixels: it wins in the whole cell, since
   the score of a query at a pixel is the same convex combination of its scores at the corners for every query.
2. Else two of the corners' winners are compared at each pixel of the cell. The better one wins if its score is above
   the largest one that any other query has at a corner.
3. What then is left is compared with all queries, pixel by pixel.

The result is that of the plain computation (upsample, normalise, multiply, arg max) but for rounding. Everything is
done in pieces, so that there never is a score of every query at every pixel, however many cells are undecided.

Source of the task: Gao et al., Learning Category- and Instance-Aware Pixel Embedding for Fast Panoptic Segmentation,
section III-D, https://arxiv.org/abs/2009.13342
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from .query_map import Axis, QueryMap

LOWEST = -1e30  # finite, unlike -inf: a corner of weight 0 must not make a NaN


def pixel_windows(boxes: Tensor, size: tuple[int, int], box_scale: float | None = 1.0) -> Tensor:
    """Which pixels boxes hold: those of which the centre (x + .5, y + .5) has left <= x + .5 < right, and so with y.

    Args:
        boxes: Boxes (left, top, right, bottom) in pixels, of shape (N, 4).
        size: Height and width of the image.
        box_scale: Boxes are enlarged by this factor about their centres before; None: they hold the whole image.

    Returns:
        (left, top, right, bottom) of the pixels, the last two exclusive, int64 of shape (N, 4), clipped to the image. A
        box without pixels has right <= left or bottom <= top.
    """
    height, width = size
    limits = torch.tensor([width, height, width, height], device=boxes.device)
    if box_scale is None:
        return torch.tensor([0, 0, width, height], device=boxes.device).expand(len(boxes), 4)
    boxes = boxes.detach().double()
    if box_scale != 1:
        centres, halves = (boxes[:, 2:] + boxes[:, :2]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2 * box_scale
        boxes = torch.cat([centres - halves, centres + halves], dim=1)
    return torch.minimum((boxes - 0.5).ceil().clamp(min=0), limits.double()).long()


@torch.no_grad()
def best_queries(
    embedding: Tensor,
    queries: Tensor | None,
    windows: Tensor,
    size: tuple[int, int],
    scale: tuple[float, float] = (1.0, 1.0),
    stride: int = 4,
    piece: int | None = None,
) -> QueryMap:
    """The query of the largest cosine similarity at each pixel, the lowest index of equals.

    Args:
        embedding: Network's map of shape (D, h, w), any length of vectors; pixel (x, y) reads it bilinearly at
            ((x + .5) * scale_x / stride - .5, (y + .5) * scale_y / stride - .5), clamped to the map.
        queries: Of shape (Q, D), of length 1 (or any, if the scalar product is to decide). None: the map's channels are
            the scores of the queries themselves, D = Q.
        windows: Of shape (N, 4), see :func:`pixel_windows`: the pixels that the last N of the queries are restricted
            to. The Q - N others may win anywhere.
        size: Height and width of the image.
        scale: Pixels of the network's input for one of the image, across and down.
        stride: Pixels of the network's input for a step of the map.
        piece: How many centres or pixels are worked on at once; None: 2 ** 14 on the CPU, which fits in its caches,
            2 ** 20 elsewhere.

    Returns:
        The best query of each pixel, on the device of the embedding.
    """
    height, width = embedding.shape[1:]
    device = embedding.device
    rows = Axis.of(size[0], scale[1], stride, height, device)
    columns = Axis.of(size[1], scale[0], stride, width, device)
    embedding = embedding.float().expand(-1, max(height, 2), max(width, 2))
    embedding = embedding[:, : len(rows.start), : len(columns.start)].contiguous()  # the rest is padding
    num_queries = len(embedding if queries is None else queries)
    everywhere = torch.tensor([0, 0, size[1], size[0]], device=device).expand(num_queries - len(windows), 4)
    windows = torch.cat([everywhere, windows.to(device), everywhere.new_tensor([[0, 0, size[1], size[0]]])])
    queries = None if queries is None else queries.to(embedding)
    search = _Search(embedding, queries, windows, rows, columns, len(everywhere))

    piece = piece or (2**14 if device.type == 'cpu' else 2**20)
    last, step = len(rows.start) - 1, max(1, piece // len(columns.start))
    strips, undecided = zip(*(search.corners(i, min(i + step, last)) for i in range(0, last, step)), strict=True)
    undecided = _Undecided(*(torch.cat(parts, dim=-1) for parts in zip(*undecided, strict=True)))
    pixels, winners = [windows.new_zeros(0)], [windows.new_zeros(0)]
    for some, of, x, y in search.pixels(undecided.cell, piece):
        winner, sure = search.among_winners(_Undecided(*(part[..., some] for part in undecided)), of, x, y)
        rest = (~sure).nonzero().flatten()
        if len(rest):
            winner[rest] = search.among_all(x[rest], y[rest])
        pixels.append(y * size[1] + x)
        winners.append(winner)
    return QueryMap(
        torch.cat(strips), undecided.cell, torch.cat(pixels), torch.cat(winners), rows, columns, num_queries
    )


class _Undecided(NamedTuple):
    """Cells that the corners do not decide, n of them, and what is known about each.

    Attributes:
        cell: Index into the flattened grid of cells, of shape (n,).
        winner: Two winners of corners, the first not above the second, of shape (2, n).
        score: Their scores in the cell, as coefficients of 1, x, y and xy, of shape (4 terms, 2, n); LOWEST where the
            query's window does not hold the whole cell.
        bound: What no other query's score is above anywhere in the cell, of shape (n,).
    """

    cell: Tensor
    winner: Tensor
    score: Tensor
    bound: Tensor


@dataclass(frozen=True)
class _Search:
    """What the steps of :func:`best_queries` have in common. ``windows`` has one more, for pixels without a query."""

    embedding: Tensor
    queries: Tensor | None
    windows: Tensor
    rows: Axis
    columns: Axis
    num_everywhere: int

    def candidates(self, top: Tensor, bottom: Tensor) -> Tensor:
        """Queries that may win between two rows of pixels, rising."""
        left, upper, right, lower = self.windows[:-1].unbind(1)
        return ((left < right) & (upper < lower) & (upper < bottom) & (lower > top)).nonzero().flatten()

    def scores(self, candidates: Tensor, points: Tensor) -> Tensor:
        """Scores of shape (candidates, P) at points of shape (D, P), a new tensor."""
        if self.queries is None:
            return points[candidates]
        with torch.autocast(points.device.type, enabled=False):  # in half precision, LOWEST does not exist
            return self.queries[candidates] @ points

    def corners(self, first: int, last: int) -> tuple[Tensor, _Undecided]:
        """Winners of the cells in the rows of cells from ``first`` to ``last``, and the cells that need more."""
        down, across = self.rows.start, self.columns.start
        candidates = self.candidates(down[first], down[last])
        everywhere = int((candidates < self.num_everywhere).sum())
        names = torch.cat([candidates, candidates.new_tensor([len(self.windows) - 1])])
        windows = self.windows[names].T
        scores = self.scores(candidates, self.embedding[:, first : last + 1].flatten(1))
        # A query may win at a corner if its window has a pixel of a cell around it. That may be more queries than in
        # one of the cells, but one that wins against more of them in all corners wins.
        grid = scores[everywhere:].view(-1, last + 1 - first, len(across))
        left, top, right, bottom = windows[:, everywhere:-1, None]
        grid += _outside(top, bottom, *_around(down, first, last))[:, :, None]
        grid += _outside(left, right, *_around(across, 0, len(across) - 1))[:, None]
        best, winner = _lowest_best(scores)

        corner = winner.view(last + 1 - first, len(across))
        cells = corner[:-1, :-1]
        bounds = (across[None, :-1], down[first:last, None], across[None, 1:], down[first + 1 : last + 1, None])
        decided = (cells == corner[:-1, 1:]) & (cells == corner[1:, :-1]) & (cells == corner[1:, 1:])
        decided &= _holds(windows[:, cells], bounds)
        decided |= (bounds[0] == bounds[2]) | (bounds[1] == bounds[3])  # no pixels
        row, column = (~decided).nonzero().unbind(1)
        cell = (row + first) * (len(across) - 1) + column
        if not len(cell):
            return names[cells], _Undecided(cell, cell.expand(2, 0), best.new_zeros(4, 2, 0), best[:0])

        at = row * len(across) + column
        at = torch.stack([at, at + 1, at + len(across), at + len(across) + 1])
        pair = torch.stack([winner[at].amin(dim=0), winner[at].amax(dim=0)])
        bounds = (across[column], down[first + row], across[column + 1], down[first + row + 1])
        left, top, right, bottom = windows[:, pair]
        held = _holds((left, top, right, bottom), bounds) & (pair < len(candidates))
        apart = (left >= bounds[2]) | (right <= bounds[0]) | (top >= bounds[3]) | (bottom <= bounds[1])
        one, x, y, xy = torch.where(held, scores[pair.clamp(max=len(candidates) - 1), at[:, None]], LOWEST)
        score = torch.stack([one, x - one, y - one, one - x - y + xy])
        bound = _best_but(scores, best, winner, at, torch.where(held | apart, pair, -1))
        return names[cells], _Undecided(cell, names[pair], score, bound)

    def pixels(self, cell: Tensor, piece: int) -> Iterator[tuple[slice, Tensor, Tensor, Tensor]]:
        """Pixels of cells, about ``piece`` of them at once.

        Yields:
            Which cells, and for each of their pixels the index of its cell among these, its column and its row.
        """
        row, column = cell.div(len(self.columns.start) - 1, rounding_mode='floor'), cell % (len(self.columns.start) - 1)
        top, left = self.rows.start[row], self.columns.start[column]
        width = self.columns.start[column + 1] - left
        count = (self.rows.start[row + 1] - top) * width
        total = count.cumsum(0)
        num_pixels = int(total[-1]) if len(total) else 0
        ends = torch.searchsorted(total, torch.arange(piece, num_pixels + piece, piece, device=cell.device))
        ends = (ends + 1).clamp(max=len(cell)).unique().tolist()
        for some in map(slice, [0, *ends], ends):
            of = torch.repeat_interleave(count[some])
            before = total[some] - count[some]
            index = torch.arange(len(of), device=cell.device) - (before - before[0])[of]
            down = index.div(width[some][of], rounding_mode='floor')
            yield some, of, left[some][of] + index - down * width[some][of], top[some][of] + down

    def among_winners(self, cells: _Undecided, of: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Better of the two winners of a cell at pixels (x, y) of the cells with index ``of``.

        Returns:
            The queries, and whether no other is as good, both of shape (P,).
        """
        across, down = self.columns.weight[x], self.rows.weight[y]
        one, by_x, by_y, by_xy = cells.score.index_select(2, of)
        lower, higher = by_xy.mul_(down).add_(by_x).mul_(across).add_(by_y.mul_(down)).add_(one)
        winner = torch.where(higher > lower, cells.winner[1, of], cells.winner[0, of])
        best = torch.maximum(lower, higher)
        return winner, (best > cells.bound[of]) & (best > LOWEST / 2)

    def among_all(self, x: Tensor, y: Tensor) -> Tensor:
        """Best query at pixels (x, y), of shape (P,)."""
        candidates = self.candidates(y.min(), y.max() + 1)
        everywhere = int((candidates < self.num_everywhere).sum())
        names = torch.cat([candidates, candidates.new_tensor([len(self.windows) - 1])])
        at = self.rows.cell[y] * len(self.columns.start) + self.columns.cell[x]
        points = self.embedding.flatten(1)
        across, down = self.columns.weight[x], self.rows.weight[y]
        upper, lower = (
            torch.lerp(points.index_select(1, at + row), points.index_select(1, at + row + 1), across)
            for row in (0, len(self.columns.start))
        )
        scores = self.scores(candidates, torch.lerp(upper, lower, down))
        left, top, right, bottom = self.windows[candidates[everywhere:]].T[..., None]
        scores[everywhere:].masked_fill_((x < left) | (x >= right) | (y < top) | (y >= bottom), LOWEST)
        return names[_lowest_best(scores)[1]]


def _around(start: Tensor, first: int, last: int) -> tuple[Tensor, Tensor]:
    """First and last pixel (exclusive) of the two cells around each centre from ``first`` to ``last``."""
    padded = torch.cat([start[:1], start, start[-1:]])
    return padded[first : last + 1], padded[first + 2 : last + 3]


def _outside(start: Tensor, stop: Tensor, first: Tensor, last: Tensor) -> Tensor:
    """LOWEST where the pixels from ``start`` to ``stop`` and those from ``first`` to ``last`` are apart, 0 else."""
    return ((start >= last) | (stop <= first)) * LOWEST


def _holds(windows: Tensor, bounds: Sequence[Tensor]) -> Tensor:
    """Whether windows, (left, top, right, bottom) in the first dimension, hold all pixels within bounds."""
    left, top, right, bottom = windows
    return (left <= bounds[0]) & (top <= bounds[1]) & (right >= bounds[2]) & (bottom >= bounds[3])


def _best_but(scores: Tensor, best: Tensor, winner: Tensor, at: Tensor, pair: Tensor) -> Tensor:
    """Largest score that a query other than two has at any of a cell's corners.

    Args:
        scores: Of shape (Q, P); the two best at each point are overwritten.
        best: The best score at each point and ...
        winner: ... the query that has it, both of shape (P,).
        at: Points at the corners, of shape (4, n).
        pair: The queries that do not count, of shape (2, n), -1 for none.

    Returns:
        Scores of shape (n,), LOWEST (or below) if there is no other query.
    """
    last = len(scores) - 1
    query = winner[at]
    bound = torch.where((query != pair[0]) & (query != pair[1]), best[at], LOWEST)
    scores.scatter_(0, winner.clamp(max=last)[None], LOWEST)
    best, winner = _lowest_best(scores)
    query = winner[at]
    bound = torch.where((query != pair[0]) & (query != pair[1]), torch.maximum(bound, best[at]), bound)
    scores.scatter_(0, winner.clamp(max=last)[None], LOWEST)
    # The third best is not above the bound if one of the two before counts, and counts itself if neither does.
    return torch.maximum(bound, scores.amax(dim=0)[at]).amax(dim=0)


def _lowest_best(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Largest of Q scores, of shape (Q, P), and its index, the lowest of equals; Q if all are LOWEST or none is there.

    Three passes that are vectorised: on a CPU, ``max(dim=0)`` takes three times as long.
    """
    num = len(scores)
    if not num:
        return scores.new_full(scores.shape[1:], LOWEST), scores.new_zeros(scores.shape[1:], dtype=torch.int64)
    best = scores.amax(dim=0)
    hit = torch.eq(scores, best, out=torch.empty_like(scores))
    index = num - hit.mul_(torch.arange(num, 0, -1, device=scores.device)[:, None]).amax(dim=0).long()
    return best, index.masked_fill_(best < LOWEST / 2, num)
