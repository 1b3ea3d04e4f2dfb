"""Polygons along the borders of a mask's pixels; pycocotools fills them to exactly the same mask.

Coordinates are COCO's: pixel (x, y) covers [x, x + 1] times [y, y + 1].
"""

import numpy as np


def mask_loops(mask: np.ndarray) -> list[np.ndarray]:
    """The closed lines that bound a mask.

    Args:
        mask: bool of shape (H, W).

    Returns:
        Corners of every line, int64 of shape (corners, 2) as (x, y). Lines around parts run clockwise on the screen,
        lines around holes counterclockwise. Where two pixels touch only at a corner, two lines touch there.
    """
    in_rows, in_columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(in_rows):
        return []
    top, left = in_rows[0], in_columns[0]  # only the mask's bounding box is searched
    padded = np.pad(mask[top : in_rows[-1] + 1, left : in_columns[-1] + 1], 1).astype(np.int8)
    corners = padded[:-1, :-1] + padded[:-1, 1:] + padded[1:, :-1] + padded[1:, 1:]
    touching = (corners == 2) & (padded[:-1, :-1] == padded[1:, 1:])  # two diagonal pixels: two lines share the corner
    counts = np.where(touching, 2, corners % 2)
    rows, columns = np.nonzero(counts)
    repeats = counts[rows, columns]
    ys, xs = np.repeat(rows, repeats), np.repeat(columns, repeats)
    # Along a row or a column, edges begin and end at alternate corners. Where two lines share a corner, the first of
    # its two entries is the end of the left and of the upper edge.
    along_rows = _partners(np.arange(len(xs)))
    along_columns = _partners(np.lexsort((ys, xs)))
    loops, seen = [], np.zeros(len(xs), bool)
    for start in range(len(xs)):
        if seen[start]:
            continue
        loop, here = [], start
        while not seen[here]:
            there = along_rows[here]
            seen[[here, there]] = True
            loop += [here, there]
            here = along_columns[there]
        x, y = min(xs[loop[0]], xs[loop[1]]), ys[loop[0]]
        inside_below = bool(padded[y + 1, x + 1])
        to_the_right = xs[loop[1]] > xs[loop[0]]
        if inside_below != to_the_right:
            loop.reverse()
        loops.append(np.stack([xs[loop] + left, ys[loop] + top], axis=1))
    return loops


def _partners(order: np.ndarray) -> np.ndarray:
    """For each corner, the other end of its edge; in ``order``, edges begin and end at alternate corners."""
    partners = np.empty(len(order), np.int64)
    partners[order[0::2]], partners[order[1::2]] = order[1::2], order[0::2]
    return partners


def mask_polygon(mask: np.ndarray) -> list[int]:
    """One polygon for a mask of any number of parts and holes.

    Bridges join its lines. The polygon passes each bridge once in either direction, so that bridges enclose nothing.

    Args:
        mask: bool of shape (H, W).

    Returns:
        [x1, y1, x2, y2, ...], which pycocotools fills to exactly this mask; empty for a mask without pixels.
    """
    loops = mask_loops(mask)
    if not loops:
        return []
    bridge = loops[0][:1]
    points = [loops[0]]
    for loop in loops[1:]:
        points += [bridge, loop, loop[:1]]
    return np.concatenate(points).ravel().tolist()
