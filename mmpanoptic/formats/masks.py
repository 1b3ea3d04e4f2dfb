"""COCO's masks of instances, polygons and run-length encodings, before pycocotools takes them.

It believes what it is given: a polygon far outside of its image ends the process, and an encoding of too few pixels
gives a mask of whatever the memory holds.

Format: https://cocodataset.org/#format-data (1. Object Detection).
"""

import math

import numpy as np

from mmpanoptic.utils import DatasetError

_REACH = 10  # polygons of published datasets leave their images by pixels; pycocotools makes room for every step


def check_mask(mask: object, height: int, width: int, where: str, compressed: bool = True) -> None:
    """Refuse a mask that is none, or none of an image of that size (pixels).

    Args:
        mask: A list of polygons [x1, y1, x2, y2, ...], or ``size`` and ``counts``, a list or compressed.
        height: Of its image.
        width: Of its image.
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


def _check_polygon(polygon: object, height: int, width: int, where: str) -> None:
    reach = _REACH * max(height, width)
    try:
        right = isinstance(polygon, list) and math.isfinite(sum(polygon))
        right = right and (not polygon or -reach <= min(polygon) <= max(polygon) <= reach)
    except (TypeError, OverflowError):  # not of numbers, or of numbers that no float can be
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
    """Pixels of compressed runs; None if they are no such thing.

    A character holds 5 bits of a number, the lowest first, and whether there are more; the last one has the sign too.
    From the fourth on, numbers are differences to the run before the last.
    """
    characters = np.frombuffer(counts.encode('utf-8', 'replace'), np.uint8).astype(np.int64) - 48
    if not len(characters) or characters.min() < 0 or characters.max() >= 64 or characters[-1] & 32:
        return None
    ends = np.flatnonzero((characters & 32) == 0)
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    if lengths.max() > 7:  # a run has 32 bits
        return None
    shifts = 5 * (np.arange(len(characters)) - np.repeat(starts, lengths))
    runs = np.add.reduceat((characters & 31) << shifts, starts)
    runs -= ((characters[ends] & 16) > 0) << (5 * lengths)
    for first in (1, 2):
        runs[first::2] = np.cumsum(runs[first::2])
    return int(runs.sum()) if runs.min() >= 0 else None
