"""Pixels that segments of the ground truth and of a prediction share."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mmpanoptic.structures import MAX_ID, VOID_ID
from mmpanoptic.structures.panoptic_map import look_up_ids, run_starts
from mmpanoptic.utils import DatasetError, UserError

_BITS = MAX_ID.bit_length()
_MAX_TABLE = 2**20  # cells of a dense table of pairs; above, only the pairs that occur are kept


class Overlaps(NamedTuple):
    """Pairs of a ground-truth and a predicted segment that share pixels, ascending by (ground-truth id, predicted id).

    Attributes:
        gt: Place of the ground-truth segment. Places follow ascending ids and begin at 1; 0 is void.
        pred: Place of the predicted segment. Places follow ascending ids and begin at 2; 1 is void, 0 does not occur.
        pixels: Number of pixels that the two share.
        gt_area: Pixels of each ground-truth segment by its place, one longer than the list of segments.
        pred_area: Pixels of each predicted segment by its place, two longer than the list of segments.
    """

    gt: np.ndarray
    pred: np.ndarray
    pixels: np.ndarray
    gt_area: np.ndarray
    pred_area: np.ndarray


def find_overlaps(
    gt_ids: np.ndarray | Tensor,
    gt_segments_by_id: Sequence[Mapping[str, Any]],
    pred_map: np.ndarray | Tensor,
    pred_segments_by_id: Sequence[Mapping[str, Any]],
    void: int,
    name: str,
) -> Overlaps:
    """Count the pixels that segments share, and check that maps and lists agree.

    Args:
        gt_ids: Segment ids of the ground truth, shape (H, W).
        gt_segments_by_id: Its segments by ascending ``id``.
        pred_map: Predicted segment ids, shape (H, W); both maps are arrays, or both are tensors on one device.
        pred_segments_by_id: The predicted segments by ascending ``id``.
        void: The value of ``pred_map`` that belongs to no segment.
        name: What to call the image in an error.

    Raises:
        DatasetError: If the ground truth's map and list disagree, or ids repeat or do not fit into 24 bits.
        UserError: If those of the prediction do.
    """
    gt_known = _checked_ids(gt_segments_by_id, VOID_ID, f'ground truth of {name}', DatasetError)
    pred_known = _checked_ids(pred_segments_by_id, void, f'prediction for {name}', UserError)
    if isinstance(gt_ids, Tensor) and isinstance(pred_map, Tensor):
        gt_values, pred_values, lengths = _pairs(gt_ids, pred_map)
    else:
        gt_values, pred_values, lengths = _runs(np.asarray(gt_ids), np.asarray(pred_map))
    rows = _indices(gt_values, gt_known, f'ground truth of {name}', DatasetError)
    # Index 1 is void. Index 0 is a segment id 0 that is not listed; it cannot occur if void is 0.
    columns = _indices(pred_values, [void, *pred_known], f'prediction for {name}', UserError)
    num_columns = len(pred_known) + 2
    gt, pred, pixels = _count_pairs(rows, columns, lengths, len(gt_known) + 1, num_columns)

    pred_area = sum_by(pred, pixels, num_columns)
    if pred_area[0]:
        raise UserError(f'prediction for {name} holds segment id 0 that its segments_info lacks: add it there')
    if not pred_area[2:].all():
        missing = pred_known[int(np.flatnonzero(pred_area[2:] == 0)[0])]
        raise UserError(f'prediction for {name} lists segment id {missing} that its map lacks: drop it from the list')
    return Overlaps(gt, pred, pixels, sum_by(gt, pixels, len(gt_known) + 1), pred_area)


def _runs(gt_ids: np.ndarray, pred_map: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Runs of pixels over which both maps are constant: the two ids and the number of pixels of each run."""
    gt_ids, pred_map = gt_ids.ravel(), pred_map.ravel()
    starts = run_starts(gt_ids, pred_map)
    return gt_ids[starts], pred_map[starts], np.diff(starts, append=gt_ids.size)


def _pairs(gt_ids: Tensor, pred_map: Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs of ids that occur: the two ids and the number of pixels of each pair.

    Pixels are counted on the maps' device, and only the counts are copied to the CPU: three synchronisations.
    """
    maps = torch.stack([gt_ids.flatten().long(), pred_map.flatten().long()])
    is_start = torch.ones_like(maps[0], dtype=torch.bool)
    is_start[1:] = (maps[:, 1:] != maps[:, :-1]).any(dim=0)
    starts = is_start.nonzero().flatten()  # of runs, of which there are far fewer to sort than pixels
    lengths = torch.diff(starts, append=starts.new_full((1,), is_start.numel()))
    pairs, pair_of_run = maps[:, starts].unique(dim=1, return_inverse=True)
    pixels = lengths.new_zeros(pairs.shape[1]).scatter_add_(0, pair_of_run, lengths)
    return tuple(torch.cat([pairs, pixels[None]]).cpu().numpy())


def _checked_ids(segments: Sequence[Mapping[str, Any]], void: int, whose: str, error: type[UserError]) -> list[int]:
    """Ids of segments that are sorted by id; checks that they are distinct, fit into 24 bits and are not void."""
    ids = [s['id'] for s in segments]
    for before, segment_id in zip([None, *ids], ids, strict=False):
        if segment_id == before:
            raise error(f'{whose} lists segment id {segment_id} twice: give every segment an id of its own')
        if segment_id == void or not 0 <= segment_id <= MAX_ID:
            raise error(f'{whose} lists segment id {segment_id}: ids lie between 0 and {MAX_ID}, and {void} is void')
    return ids


def _indices(ids: np.ndarray, known: Sequence[int], whose: str, error: type[UserError]) -> np.ndarray:
    try:
        if (ids >> _BITS).any():  # negative ones too
            raise KeyError(int(ids.min() if ids.min() < 0 else ids.max()))
        return look_up_ids(ids, known)
    except KeyError as stranger:
        raise error(f'{whose} holds segment id {stranger.args[0]} that its segments_info lacks: add it there') from None


def _count_pairs(
    rows: np.ndarray, columns: np.ndarray, lengths: np.ndarray, num_rows: int, num_columns: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs (row, column) that occur, in ascending order, and the pixels of each."""
    pairs = rows.astype(np.int64)
    pairs *= num_columns
    pairs += columns
    if num_rows * num_columns > _MAX_TABLE:
        occurring, pairs = np.unique(pairs, return_inverse=True)
        pixels = sum_by(pairs, lengths, len(occurring))
    else:
        table = sum_by(pairs, lengths, num_rows * num_columns)
        occurring = np.flatnonzero(table)
        pixels = table[occurring]
    return *np.divmod(occurring, num_columns), pixels


def sum_by(index: np.ndarray, pixels: np.ndarray, size: int) -> np.ndarray:
    """Number of pixels by index, int64 of shape (size,). Sums are float64, which is exact below 2**53."""
    return np.bincount(index, pixels, size).astype(np.int64)
