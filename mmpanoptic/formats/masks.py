"""Checks of COCO's masks of instances, polygons and run-length encodings, before pycocotools takes them.

Pycocotools checks nothing: a polygon far outside of its image ends the process, and an encoding of too few pixels gives
a mask with arbitrary memory in it.

Format: https://cocodataset.org/#format-data (1. Object Detection).
"""

import math
from typing import Any

import numpy as np

from mmpanoptic.utils import DatasetError

# Times the image's longer side. Polygons of published datasets leave their images by some pixels; pycocotools allocates
# memory for every pixel along a line.
_REACH = 10


def check_mask(mask: object, height: int, width: int, where: str, compressed: bool = True) -> None:
    """Refuse a malformed mask, or one that does not fit its image.

    Args:
        mask: A list of polygons [x1, y1, x2, y2, ...], or an RLE with ``size`` and ``counts`` (a list, or compressed).
        height: Height of its image in pixels.
        width: Width of its image in pixels.
        where: What to call the annotation in an error.
        compressed: Whether to add up compressed runs too. That takes as long as reading their JSON does.

    Raises:
        DatasetError: If a type is wrong, a polygon lies far outside, or runs do not add up to the image.
    """
    if isinstance(mask, list):
        for polygon in mask:
            _check_polygon(polygon, height, width, where)
    elif isinstance(mask, dict):
        _check_runs(mask, height, width, where, compressed)
    else:
        raise DatasetError(f'{where} has segmentation {mask!r}: write polygons or an RLE')


def _check_polygon(polygon: Any, height: int, width: int, where: str) -> None:
    reach = _REACH * max(height, width)
    try:
        right = isinstance(polygon, list) and math.isfinite(sum(polygon))
        right = right and (not polygon or -reach <= min(polygon) <= max(polygon) <= reach)
    except (TypeError, OverflowError):  # not numbers, or numbers too large for a float
        right = False
    if not right:
        shown = repr(polygon)
        raise DatasetError(
            f'{where} has a polygon {shown[:60] + "..." * (len(shown) > 60)}: write [x1, y1, x2, y2, ...] in pixels of '
            f'its image, which is {height}x{width} (height x width)'
        )


def _check_runs(mask: dict, height: int, width: int, where: str, compressed: bool) -> None:
    size, counts = mask.get('size'), mask.get('counts')
    if size != [height, width]:
        raise DatasetError(
            f'{where} has a mask (RLE) of size {size!r}, its image is {height}x{width} (height x width): encode it at '
            'the size of the image'
        )
    pixels: int | None
    if isinstance(counts, str):
        pixels = _sum_of_runs(counts) if compressed else height * width
    elif isinstance(counts, list) and all(type(count) is int and count >= 0 for count in counts):
        pixels = sum(counts)
    else:
        pixels = None
    if pixels != height * width:
        raise DatasetError(
            f'{where} has a mask (RLE) whose `counts` do not add up to the {height * width} pixels of its image: '
            'encode it again'
        )


def _sum_of_runs(counts: str) -> int | None:
    """The number of pixels of compressed runs; None if the string is no valid encoding.

    Each character holds 5 bits of a number, lowest bits first, and a bit that tells whether more characters follow. The
    last character of a number holds its sign too. From the fourth number on, each is a difference to the second run
    before it.
    """
    characters = np.frombuffer(counts.encode('utf-8', 'replace'), np.uint8).astype(np.int64) - 48
    if not len(characters) or characters.min() < 0 or characters.max() >= 64 or characters[-1] & 32:
        return None
    ends = np.flatnonzero((characters & 32) == 0)
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    if lengths.max() > 7:  # runs have at most 32 bits
        return None
    shifts = 5 * (np.arange(len(characters)) - np.repeat(starts, lengths))
    runs = np.add.reduceat((characters & 31) << shifts, starts)
    runs -= ((characters[ends] & 16) > 0) << (5 * lengths)
    for first in (1, 2):
        runs[first::2] = np.cumsum(runs[first::2])
    return int(runs.sum()) if runs.min() >= 0 else None
