"""The best query of every pixel of an embedding map, without making that map or its scores at the size of the image.

The embedding of a pixel is interpolated bilinearly between four centres of the network's map, and normalising it does
not change which query it is most similar to. So similarities are computed between the queries and the network's own
map, and a **cell**, the pixels between four neighbouring centres, is decided as a whole where possible:

1. If one query wins at all four corners and its window holds all of the cell's pixels, it wins in the whole cell: at a
   pixel, the score of every query is the same convex combination of the query's scores at the corners.
2. Otherwise two of the corners' winners are compared at each pixel of the cell. The better one wins if its score is
   above the largest score of any other query at a corner.
3. The remaining pixels are compared with all queries.

The result is that of the plain computation (upsample, normalise, multiply, arg max) up to rounding. Everything is done
in pieces, so that the scores of all queries at all pixels are never held, however many cells are undecided.

Source of the task: Gao et al., Learning Category- and Instance-Aware Pixel Embedding for Fast Panoptic Segmentation,
section III-D, https://arxiv.org/abs/2009.13342
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from .query_map import Axis, QueryMap
from .scored_map import LOWEST, Candidates, ScoredMap, lowest_best, windows_hold, windows_miss


def search_coarse_to_fine(scored: ScoredMap, piece: int) -> QueryMap:
    """The best query of each pixel.

    Args:
        scored: The map, the queries and their windows.
        piece: Number of centres or pixels that are processed at once; bounds the memory.
    """
    cell_queries, undecided = _search_cells(scored, piece)
    pixels, pixel_queries = _search_pixels(scored, undecided, piece)
    return QueryMap(
        cell_queries, undecided.cell, pixels, pixel_queries, scored.rows, scored.columns, scored.num_queries
    )


# ------------------------------------------------------------------------------- step 1: whole cells, by their corners


class _UndecidedCells(NamedTuple):
    """The n cells that the corners do not decide.

    Attributes:
        cell: Index into the flattened grid of cells, of shape (n,).
        pair: Two queries that win at corners, the lower index first, of shape (2, n).
        pair_terms: Scores of the pair in the cell, as coefficients of 1, x, y and xy with x and y from 0 to 1, of shape
            (4, 2, n); LOWEST where the query's window does not hold the whole cell.
        bound: Upper bound of the scores of all other queries in the cell, of shape (n,).
    """

    cell: Tensor
    pair: Tensor
    pair_terms: Tensor
    bound: Tensor


class _Strip(NamedTuple):
    """Some rows of cells and the scores at the P centres that are their corners, row by row.

    Attributes:
        first, last: Range of rows, ``last`` exclusive for cells and inclusive for centres.
        candidates: C queries that may win in these cells.
        scores: Of shape (C, P); LOWEST or less where a candidate cannot win.
        best: The best score at each centre, of shape (P,).
        winner: The candidate with the best score, int64 of shape (P,); C for "no query".
    """

    first: int
    last: int
    candidates: Candidates
    scores: Tensor
    best: Tensor
    winner: Tensor


def _search_cells(scored: ScoredMap, piece: int) -> tuple[Tensor, _UndecidedCells]:
    """Step 1: query of each cell, of shape (cells down, cells across), and the undecided cells."""
    num_rows, step = len(scored.rows.start) - 1, max(1, piece // len(scored.columns.start))
    strips = [_search_strip(scored, first, min(first + step, num_rows)) for first in range(0, num_rows, step)]
    cell_queries, by_strip = zip(*strips, strict=True)
    undecided = _UndecidedCells(*(torch.cat(parts, dim=-1) for parts in zip(*by_strip, strict=True)))
    return torch.cat(cell_queries), undecided


def _search_strip(scored: ScoredMap, first: int, last: int) -> tuple[Tensor, _UndecidedCells]:
    """The same for the rows of cells from ``first`` to ``last`` (exclusive)."""
    strip = _score_corners(scored, first, last)
    upper_left = strip.winner.view(-1, len(scored.columns.start))[:-1, :-1]
    row, column = (~_is_decided(scored, strip)).nonzero().unbind(1)
    return strip.candidates.indices[upper_left], _describe_undecided(scored, strip, row, column)


def _score_corners(scored: ScoredMap, first: int, last: int) -> _Strip:
    """Score the centres around the rows of cells from ``first`` to ``last`` (exclusive)."""
    rows, columns = scored.rows, scored.columns
    candidates = scored.candidates(rows.start[first], rows.start[last])
    scores = scored.scores(candidates, scored.embedding[:, first : last + 1].flatten(1))
    # A query may win at a corner if its window has a pixel of a cell around the corner. A single cell may have fewer
    # candidates, but a query that wins against more candidates at all corners also wins in the cell.
    confined = scores[candidates.num_everywhere :].view(-1, last + 1 - first, len(columns.start))
    left, top, right, bottom = candidates.confined_windows[..., None]
    confined += _penalty_outside(top, bottom, rows, first, last)[:, :, None]
    confined += _penalty_outside(left, right, columns, 0, len(columns.start) - 1)[:, None]
    return _Strip(first, last, candidates, scores, *lowest_best(scores))


def _penalty_outside(start: Tensor, stop: Tensor, axis: Axis, first: int, last: int) -> Tensor:
    """Along one axis, LOWEST where a window has no pixel of the two cells around a centre, 0 elsewhere.

    Args:
        start, stop: First and last pixels (the last exclusive) of the windows, of shape (W, 1).
        axis: The axis.
        first, last: Range of the n centres, both inclusive.

    Returns:
        Penalties of shape (W, n).
    """
    padded = torch.cat([axis.start[:1], axis.start, axis.start[-1:]])
    before, after = padded[first : last + 1], padded[first + 2 : last + 3]
    return ((start >= after) | (stop <= before)) * LOWEST


def _is_decided(scored: ScoredMap, strip: _Strip) -> Tensor:
    """Whether one query wins in a whole cell, or the cell has no pixels, of shape (rows of cells, cells across)."""
    num_across = len(scored.columns.start)
    winner = strip.winner.view(-1, num_across)
    upper_left = winner[:-1, :-1]
    is_same = (upper_left == winner[:-1, 1:]) & (upper_left == winner[1:, :-1]) & (upper_left == winner[1:, 1:])
    row = torch.arange(strip.first, strip.last, device=winner.device)[:, None]
    column = torch.arange(num_across - 1, device=winner.device)
    left, top, right, bottom = bounds = scored.cell_bounds(row, column)
    is_held = windows_hold(strip.candidates.windows[:, upper_left], bounds)
    return (is_same & is_held) | (left == right) | (top == bottom)


def _describe_undecided(scored: ScoredMap, strip: _Strip, row: Tensor, column: Tensor) -> _UndecidedCells:
    """Describe the cells at rows of the strip and columns, both of shape (n,); the strip's scores are overwritten."""
    num_across = len(scored.columns.start)
    cell = (row + strip.first) * (num_across - 1) + column
    if not len(cell):
        return _UndecidedCells(cell, cell.expand(2, 0), strip.best.new_zeros(4, 2, 0), strip.best[:0])
    upper_left = row * num_across + column
    corners = torch.stack([upper_left, upper_left + 1, upper_left + num_across, upper_left + num_across + 1])
    winners = strip.winner[corners]
    pair = torch.stack([winners.amin(dim=0), winners.amax(dim=0)])
    windows, bounds = strip.candidates.windows[:, pair], scored.cell_bounds(row + strip.first, column)
    is_held = windows_hold(windows, bounds) & (pair < strip.candidates.num_candidates)
    pair_scores = strip.scores[pair.clamp(max=strip.candidates.num_candidates - 1), corners[:, None]]
    terms = _bilinear_terms(torch.where(is_held, pair_scores, LOWEST))
    # A query whose window holds only a part of the cell is not compared; it counts as one of the other queries.
    is_settled = is_held | windows_miss(windows, bounds)
    bound = _best_of_others(strip, corners, torch.where(is_settled, pair, -1))
    return _UndecidedCells(cell, strip.candidates.indices[pair], terms, bound)


def _bilinear_terms(corner_values: Tensor) -> Tensor:
    """Coefficients of 1, x, y and xy, along the first axis, from values at (0, 0), (1, 0), (0, 1) and (1, 1)."""
    upper_left, upper_right, lower_left, lower_right = corner_values
    by_x, by_y = upper_right - upper_left, lower_left - upper_left
    return torch.stack([upper_left, by_x, by_y, upper_left - upper_right - lower_left + lower_right])


def _best_of_others(strip: _Strip, corners: Tensor, pair: Tensor) -> Tensor:
    """Largest score of a query outside the pair at any of a cell's corners.

    Args:
        strip: Strip of the cells; the two best of its scores at each centre are overwritten.
        corners: Centres at the corners, of shape (4, n).
        pair: The candidates that do not count, of shape (2, n), -1 for none.

    Returns:
        Scores of shape (n,), LOWEST (or below) if there is no other query.
    """
    scores, last = strip.scores, strip.candidates.num_candidates - 1

    def counts(winner: Tensor) -> Tensor:
        at_corners = winner[corners]
        return (at_corners != pair[0]) & (at_corners != pair[1])

    bound = torch.where(counts(strip.winner), strip.best[corners], LOWEST)
    scores.scatter_(0, strip.winner.clamp(max=last)[None], LOWEST)
    second_best, second = lowest_best(scores)
    bound = torch.where(counts(second), torch.maximum(bound, second_best[corners]), bound)
    scores.scatter_(0, second.clamp(max=last)[None], LOWEST)
    # If the best or the second best counts, the third best is not above the bound; if neither counts, it counts itself.
    return torch.maximum(bound, scores.amax(dim=0)[corners]).amax(dim=0)


# ----------------------------------------------------------------------- steps 2 and 3: the pixels of undecided cells


class _Pixels(NamedTuple):
    """P pixels of some cells: index of each pixel's cell among these cells, column and row, each of shape (P,)."""

    owner: Tensor
    x: Tensor
    y: Tensor


def _search_pixels(scored: ScoredMap, undecided: _UndecidedCells, piece: int) -> tuple[Tensor, Tensor]:
    """All pixels of undecided cells: their indices into the flattened image, and their queries, of shape (P,)."""
    indices, queries = [undecided.cell[:0]], [undecided.cell[:0]]
    for cells, pixels in _pieces(scored, undecided, piece):
        winner, is_sure = _compare_pair(scored, cells, pixels)
        rest = (~is_sure).nonzero().flatten()
        if len(rest):
            winner[rest] = _compare_all(scored, pixels.x[rest], pixels.y[rest])
        indices.append(pixels.y * len(scored.columns.cell) + pixels.x)
        queries.append(winner)
    return torch.cat(indices), torch.cat(queries)


def _pieces(scored: ScoredMap, undecided: _UndecidedCells, piece: int) -> Iterator[tuple[_UndecidedCells, _Pixels]]:
    """Yield the cells in order, in pieces of about ``piece`` pixels, with their pixels row by row."""
    num_across = len(scored.columns.start) - 1
    row, column = undecided.cell.div(num_across, rounding_mode='floor'), undecided.cell % num_across
    left, top, right, bottom = scored.cell_bounds(row, column)
    width = right - left
    num_pixels = (bottom - top) * width
    seen = num_pixels.cumsum(0)
    total = int(seen[-1]) if len(seen) else 0
    ends = torch.searchsorted(seen, torch.arange(piece, total + piece, piece, device=seen.device))
    ends = (ends + 1).clamp(max=len(seen)).unique().tolist()
    for chosen in map(slice, [0, *ends], ends):
        owner = torch.repeat_interleave(num_pixels[chosen])
        seen_before = seen[chosen] - num_pixels[chosen]
        place = torch.arange(len(owner), device=owner.device) - (seen_before - seen_before[0])[owner]
        down = place.div(width[chosen][owner], rounding_mode='floor')
        x = left[chosen][owner] + place - down * width[chosen][owner]
        yield _UndecidedCells(*(part[..., chosen] for part in undecided)), _Pixels(owner, x, top[chosen][owner] + down)


def _compare_pair(scored: ScoredMap, cells: _UndecidedCells, pixels: _Pixels) -> tuple[Tensor, Tensor]:
    """Step 2: the better query of the cell's pair at each pixel, and whether no other query is as good, both (P,)."""
    across, down = scored.columns.weight[pixels.x], scored.rows.weight[pixels.y]
    constant, by_x, by_y, by_xy = cells.pair_terms.index_select(2, pixels.owner)
    first, second = by_xy.mul_(down).add_(by_x).mul_(across).add_(by_y.mul_(down)).add_(constant)
    winner = torch.where(second > first, cells.pair[1, pixels.owner], cells.pair[0, pixels.owner])
    best = torch.maximum(first, second)
    return winner, (best > cells.bound[pixels.owner]) & (best > LOWEST / 2)


def _compare_all(scored: ScoredMap, x: Tensor, y: Tensor) -> Tensor:
    """Step 3: the best of all queries at the pixels (x, y), of shape (P,)."""
    candidates = scored.candidates(y.min(), y.max() + 1)
    scores = scored.scores(candidates, scored.embeddings_at(x, y))
    left, top, right, bottom = candidates.confined_windows[..., None]
    is_outside = (x < left) | (x >= right) | (y < top) | (y >= bottom)
    scores[candidates.num_everywhere :].masked_fill_(is_outside, LOWEST)
    return candidates.indices[lowest_best(scores)[1]]
