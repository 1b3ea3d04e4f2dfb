"""Panoptic maps and their ids: the only module that converts between pixel values and segment ids.

There are two encodings. In COCO's files a segment has an id of 24 bits, its colour in the PNG (R + 256 G + 65536 B, 0
is void), and ``segments_info`` gives its category. In memory a prediction follows mmdet: ``label +
INSTANCE_OFFSET * k`` with k = 0 for stuff and 1, 2, ... for things; void is ``num_classes``.

Format: https://cocodataset.org/#format-data (4. Panoptic Segmentation).
"""

from collections.abc import Sequence

import cv2
import numpy as np

from mmpanoptic.results.coco import Id, WrittenSegment
from mmpanoptic.results.ids import INSTANCE_OFFSET, MAX_ID, VOID_ID

_index_of_id: np.ndarray | None = None  # (2**24,) uint16, all zero between calls; 32 MiB, made on first use


def rgb_to_id(rgb: np.ndarray) -> np.ndarray:
    """Colours of a panoptic PNG, uint8 of shape (H, W, 3) in RGB order, to segment ids, int32 of shape (H, W)."""
    return channels_to_id(rgb, cv2.COLOR_RGB2RGBA)


def channels_to_id(image: np.ndarray, to_rgba: int) -> np.ndarray:
    """Colours in any order of channels to segment ids, int32 of shape (H, W).

    Args:
        image: uint8 of shape (H, W, 3 or 4).
        to_rgba: OpenCV's code of the conversion of ``image`` to RGBA, such as ``cv2.COLOR_BGR2RGBA``.
    """
    # One vectorised pass adds a fourth byte; the four are then read as one little-endian integer.
    ids = cv2.cvtColor(image, to_rgba).view('<i4')[..., 0]
    ids &= MAX_ID
    return ids


def run_starts(*maps: np.ndarray) -> np.ndarray:
    """First pixels of the runs, in reading order, over which all maps are constant.

    A map has about a hundred times fewer runs than pixels, and comparing neighbours is the cheapest pass over pixels.

    Args:
        maps: Flat maps of the same size.

    Returns:
        Indices of pixels, ascending, int64 of shape (runs,).
    """
    begins = np.empty(maps[0].size, bool)
    begins[:1] = True
    np.not_equal(maps[0][1:], maps[0][:-1], out=begins[1:])
    for other in maps[1:]:
        begins[1:] |= other[1:] != other[:-1]
    return np.flatnonzero(begins)


def look_up_ids(ids: np.ndarray, known: Sequence[int]) -> np.ndarray:
    """Replace segment ids by their positions in a list, pixel by pixel.

    :func:`ids_to_indices` is faster if neighbours are often equal, as in a map.

    Args:
        ids: Segment ids of any shape, at most 24 bits each.
        known: The ids that may occur besides void, without repetition.

    Returns:
        See :func:`ids_to_indices`, which raises the same errors.
    """
    if len(known) > np.iinfo(np.uint16).max:
        raise ValueError(f'{len(known)} segments in one map: at most 65535 can be told apart')
    global _index_of_id
    if _index_of_id is None:
        _index_of_id = np.zeros(MAX_ID + 1, np.uint16)
    known_ids = np.asarray(known, np.int64)
    _index_of_id[known_ids] = np.arange(1, len(known) + 1)
    try:
        indices = _index_of_id.take(ids.astype(np.intp, copy=False))  # half the time of _index_of_id[ids]
    finally:
        _index_of_id[known_ids] = 0
    is_unknown = (indices == 0) & (ids != VOID_ID)
    if is_unknown.any():
        raise KeyError(int(ids[is_unknown].min()))
    return indices.astype(np.uint8) if len(known) < 255 else indices


def ids_to_runs(ids: np.ndarray, known: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Replace segment ids by their positions in a list, as runs of pixels; see :func:`ids_to_indices`.

    Returns:
        Index and length of each run in reading order, both of shape (runs,). ``np.repeat(*runs)`` is the flat map.
    """
    values = ids.ravel()
    starts = run_starts(values)
    return look_up_ids(values[starts], known), np.diff(starts, append=ids.size)


def ids_to_indices(ids: np.ndarray, known: Sequence[int]) -> np.ndarray:
    """Replace segment ids by their positions in a list.

    Args:
        ids: Segment ids of shape (H, W), at most 24 bits each.
        known: The ids that may occur besides void, without repetition.

    Returns:
        Map of shape (H, W), uint8 (uint16 from 255 ids on), 0 where void and i + 1 where ``ids == known[i]``.

    Raises:
        KeyError: If an id occurs that is neither void nor known; its argument is the smallest such id.
        ValueError: If more than 65535 ids are known.
    """
    return np.repeat(*ids_to_runs(ids, known)).reshape(ids.shape)


def segments_of_map(panoptic: np.ndarray, void: int) -> list[dict]:
    """Segments of a map in mmdet's encoding.

    Args:
        panoptic: Values ``label + INSTANCE_OFFSET * k``, shape (H, W).
        void: The value that belongs to no segment, ``num_classes``.

    Returns:
        One dict per segment with ``id`` (the value) and ``label``, ascending by id.
    """
    values = np.flatnonzero(np.bincount(panoptic.ravel()))
    return [dict(id=int(value), label=int(value % INSTANCE_OFFSET)) for value in values if value != void]


def panoptic_to_coco(
    panoptic: np.ndarray, segments: Sequence[dict], category_ids: Sequence[Id], void: int
) -> tuple[np.ndarray, list[WrittenSegment]]:
    """Convert a map in mmdet's encoding to COCO's ids and ``segments_info``.

    Args:
        panoptic: Values ``label + INSTANCE_OFFSET * k``, shape (H, W).
        segments: Its segments, with ``id`` and ``label``.
        category_ids: The JSON's category id of every label.
        void: The value that belongs to no segment.

    Returns:
        Ids of shape (H, W), void 0, ready for :func:`id_to_rgb`; and for every segment ``id``, ``category_id``,
        ``area`` (pixels), ``bbox`` ([x, y, width, height], pixels) and ``iscrowd`` 0.
    """
    ids = np.where(panoptic == void, VOID_ID, panoptic.astype(np.int32) + 1)  # + 1: a label may be 0, an id may not
    areas, boxes = areas_and_boxes(ids, [segment['id'] + 1 for segment in segments])
    return ids, [
        {
            'id': segment['id'] + 1,
            'category_id': category_ids[segment['label']],
            'area': area,
            'bbox': box,
            'iscrowd': 0,
        }
        for segment, area, box in zip(segments, areas.tolist(), boxes.tolist(), strict=True)
    ]


def areas_and_boxes(ids: np.ndarray, known: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Areas and bounding boxes of segments, by one pass over the pixels whatever the number of segments.

    Args:
        ids: Segment ids of shape (H, W), 0 where void.
        known: The n ids that occur besides void, without repetition.

    Returns:
        Areas in pixels, int64 of shape (n,), and boxes, x, y, width and height in pixels, int64 of shape (n, 4).

    Raises:
        KeyError: If an id occurs that is neither void nor known.
    """
    height, width = ids.shape
    row_of_pixel = np.broadcast_to(np.arange(height, dtype=np.int32)[:, None], ids.shape).ravel()
    values = ids.ravel()
    starts = run_starts(values, row_of_pixel)  # a run ends at the end of a row
    lengths = np.diff(starts, append=values.size)
    places = look_up_ids(values[starts], known)
    rows, columns = np.divmod(starts, max(width, 1))
    low = np.full((2, len(known) + 1), max(height, width))
    high = np.full((2, len(known) + 1), -1)
    for axis, (first, last) in enumerate(((columns, columns + lengths - 1), (rows, rows))):
        np.minimum.at(low[axis], places, first)
        np.maximum.at(high[axis], places, last)
    areas = np.bincount(places, lengths, minlength=len(known) + 1).astype(np.int64)
    return areas[1:], np.concatenate([low, high - low + 1])[:, 1:].T


def labels_of_ids(ids: np.ndarray, segments: Sequence[dict], void: int) -> np.ndarray:
    """Contiguous labels, int64 of shape (H, W), of a map of segment ids; ``void`` where the map is void.

    Raises:
        KeyError: If an id occurs that is neither void nor the id of a segment.
    """
    indices = ids_to_indices(ids, [segment['id'] for segment in segments])
    return np.array([void] + [segment['label'] for segment in segments], np.int64)[indices]
