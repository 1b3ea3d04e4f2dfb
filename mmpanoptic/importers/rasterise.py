"""Masks of shapes by the rules of pycocotools, which also apply in training."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from pycocotools import mask as rle

from mmpanoptic.formats.masks import check_mask
from mmpanoptic.results.coco import CompressedMask
from mmpanoptic.utils import DatasetError

_DOUBT = 0.05  # largest share of a polygon's pixels whose filling depends on the rule
_LONGEST = 2**25  # pixels along an outline
_ROWS = 2**22  # rows that the edges of one step may cross


def encode(mask: np.ndarray) -> CompressedMask:
    """Encode a mask, bool of shape (H, W), as COCO's compressed RLE."""
    encoded = rle.encode(np.asfortranarray(mask, np.uint8))
    return CompressedMask(size=list(mask.shape), counts=encoded['counts'].decode())


def placed(part: np.ndarray, left: int, top: int, size: tuple[int, int], where: str) -> CompressedMask:
    """Encode a mask that is given as a crop and its position.

    Args:
        part: The crop, bool of shape (h, w).
        left: Column of its first pixel.
        top: Row of its first pixel.
        size: Height and width of the whole mask.
        where: What to call the mask in an error.

    Raises:
        DatasetError: If the crop leaves the mask.
    """
    bottom, right = top + part.shape[0], left + part.shape[1]
    if min(left, top) < 0 or bottom > size[0] or right > size[1]:
        raise DatasetError(
            f'{where} has a mask in rows {top} to {bottom} and columns {left} to {right}, and its image is '
            f'{size[0]}x{size[1]} (height x width): export it again'
        )
    whole = np.zeros(size, bool)
    whole[top:bottom, left:right] = part
    return encode(whole)


def flat(points: Iterable[Sequence[float]], where: str) -> list[float]:
    """Flatten points [x, y] to a polygon [x1, y1, x2, y2, ...].

    Raises:
        DatasetError: If a point does not have two numbers.
    """
    points = list(points)
    if any(len(point) != 2 for point in points):
        raise DatasetError(f'{where} has points that are no x, y: draw it again')
    return [float(value) for point in points for value in point]


def with_holes(outline: list[float], holes: Sequence[list[float]]) -> list[float]:
    """Join an outline and its holes to one polygon; it passes every joining line once in either direction."""
    start = outline[:2]
    joined = _directed(outline, 1) + (start if holes else [])
    for hole in holes:
        turned = _directed(hole, -1)
        joined += [*turned, *turned[:2], *start]
    return joined


def _directed(polygon: list[float], sign: int) -> list[float]:
    """The polygon in the direction that gives its area this sign, with the same first corner."""
    points = [polygon[i : i + 2] for i in range(0, len(polygon), 2)]
    area = sum(a[0] * b[1] - b[0] * a[1] for a, b in pairwise([*points, *points[:1]]))
    if area * sign < 0:
        points = [*points[:1], *points[:0:-1]]
    return [value for point in points for value in point]


def rasterise(
    mask: list[list[float]] | Mapping[str, Any], size: tuple[int, int], where: str
) -> tuple[CompressedMask, str | None]:
    """The mask of a shape at the size of its image.

    If a polygon crosses itself, the filling of some pixels depends on the rule: those with a winding number other than
    0 and that of the polygon's direction. If these are more than a twentieth of its pixels, the mask is not valid.

    Args:
        mask: Polygons or COCO's RLE.
        size: Height and width of the image.
        where: What to call the shape in an error.

    Returns:
        The mask as COCO's compressed RLE, and None or the reason why it is not valid. A mask that is not valid holds
        all pixels that the object may cover.

    Raises:
        DatasetError: If it is malformed, see :func:`~mmpanoptic.formats.masks.check_mask`.
    """
    check_mask(mask, *size, where)
    reason = None
    encoded: Any  # its counts are a str or, from pycocotools, bytes
    if not isinstance(mask, list):
        counts = mask['counts']
        encoded = mask if isinstance(counts, str) else rle.frPyObjects(mask, *size)
        encoded = dict(size=list(size), counts=encoded['counts'])
    else:
        polygons = [[float(value) for value in polygon] for polygon in mask if len(polygon) >= 6]
        if any(len(polygon) % 2 for polygon in mask):
            raise DatasetError(f'{where} has a polygon of an odd number of values: write [x1, y1, x2, y2, ...]')
        if not polygons:
            return encode(np.zeros(size, bool)), 'it has no polygon of three points: draw it again'
        for polygon in polygons:
            _check_length(polygon, where)
        filled = rle.merge(rle.frPyObjects(polygons, *size))
        encoded = dict(size=list(size), counts=filled['counts'])
        doubtful = np.logical_or.reduce([_doubt(polygon, size) for polygon in polygons])
        if (number := np.count_nonzero(doubtful)) > _DOUBT * rle.area(encoded):
            encoded = encode(rle.decode(encoded).astype(bool) | doubtful)
            reason = f'its outline crosses itself, and {number} pixels are inside or outside by the rule: draw it again'
    if isinstance(encoded['counts'], bytes):
        encoded['counts'] = encoded['counts'].decode()
    if reason is None and not rle.area(encoded):
        reason = 'it has no pixel in the image: draw it again'
    return encoded, reason


def _check_length(polygon: list[float], where: str) -> None:
    """Refuse an outline so long that pycocotools could not allocate its steps.

    Raises:
        DatasetError: Naming its length.
    """
    points = np.asarray(polygon, float).reshape(-1, 2)
    length = np.abs(np.roll(points, -1, axis=0) - points).max(axis=1).sum()
    if length > _LONGEST:
        raise DatasetError(f'{where} has an outline of {length:.0f} pixels: draw it again')


def _doubt(polygon: list[float], size: tuple[int, int]) -> np.ndarray:
    """Pixels whose winding number is neither 0 nor once in the polygon's direction; bool of shape (H, W)."""
    points = np.asarray(polygon, float).reshape(-1, 2)
    left, top = (int(np.clip(np.floor(points[:, axis].min()), 0, size[1 - axis])) for axis in (0, 1))
    right, bottom = (int(np.clip(np.ceil(points[:, axis].max()), 0, size[1 - axis])) for axis in (0, 1))
    doubtful = np.zeros(size, bool)
    if right > left and bottom > top:
        winding, direction = _winding(points - [left, top], (bottom - top, right - left))
        doubtful[top:bottom, left:right] = (winding != 0) & (winding != direction)
    return doubtful


def _winding(points: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, int]:
    """Winding numbers of a polygon (N, 2) at the centres of pixels, (H, W); and the number inside a simple polygon."""
    x1, y1 = points.T
    x2, y2 = np.roll(points, -1, axis=0).T
    area = (x1 * y2 - x2 * y1).sum()
    down = y2 > y1  # an edge gives the same rows and columns in both directions, so that bridges cancel
    xa, ya, xb, yb = (np.where(down, a, b) for a, b in ((x1, x2), (y1, y2), (x2, x1), (y2, y1)))
    first = np.clip(np.ceil(ya - 0.5), 0, size[0]).astype(int)
    last = np.clip(np.ceil(yb - 0.5), 0, size[0]).astype(int)
    with np.errstate(divide='ignore', invalid='ignore'):
        slope = (xb - xa) / (yb - ya)
    crossings = np.zeros(size[0] * (size[1] + 1), np.int64)
    at_once = max(1, _ROWS // size[0])  # edges per step; each may cross all rows
    for start in range(0, len(points), at_once):
        part = slice(start, start + at_once)
        lengths = (last - first)[part]
        edge = np.repeat(np.arange(len(points))[part], lengths)
        row = np.arange(len(edge)) - np.repeat(np.cumsum(lengths) - lengths, lengths) + first[edge]
        column = np.ceil(xa[edge] + (row + 0.5 - ya[edge]) * slope[edge] - 0.5)
        place = row * (size[1] + 1) + np.clip(column, 0, size[1]).astype(int)
        np.add.at(crossings, place, np.where(down, 1, -1)[edge])
    winding = np.cumsum(crossings.reshape(size[0], size[1] + 1), axis=1)[:, :-1]
    # A downward edge adds 1 to the pixels on its right; the inside of a polygon of positive area is on its left.
    return winding, -1 if area > 0 else 1
