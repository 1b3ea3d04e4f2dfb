"""Panoptic quality by the rules of COCO's evaluation, on arrays.

PQ = sum of IoUs of matched pairs / (TP + FP / 2 + FN / 2) for each class, averaged over the classes (Kirillov et al.,
Panoptic Segmentation, section 4, https://arxiv.org/abs/1801.00868). What the paper leaves open is settled as the
official tool settles it (https://cocodataset.org/#panoptic-eval):

- two segments match if they are of the same class and their IoU exceeds 0.5; void in the ground truth is taken out of
  the union;
- areas are counted; where the ground truth's JSON states another one, the official tool takes it, and a PQ above 1 can
  come out: that is an error here;
- a crowd segment is neither matched nor missed;
- an unmatched prediction is no false positive if more than half of it lies on void and on the crowd segment of its own
  class; of several such crowd segments in an image the last listed one is taken;
- IoUs are added up one by one in float64, images in the order of the ground truth's ``annotations``, within an image by
  ascending (ground-truth id, predicted id); class values in the order of the JSON's ``categories``.

The last rule makes results equal to the official tool's (run in one process) to the last bit.
"""

from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from mmpanoptic.structures import VOID_ID
from mmpanoptic.utils import DatasetError, UserError

from .overlaps import Overlaps, find_overlaps, sum_by

MATCH_IOU = 0.5  # matching is unique only above one half (section 4.1 of the paper), so this is no parameter
IGNORED_SHARE = 0.5


class ImageMatches(NamedTuple):
    """What one image adds to the score; plain Python values, cheap to pickle.

    Attributes:
        tp: (label, IoU) of every matched pair, ascending by (ground-truth id, predicted id).
        fp: Labels of the false positives.
        fn: Labels of the missed ground-truth segments.
    """

    tp: list[tuple[int, float]]
    fp: list[int]
    fn: list[int]


class PQStat(NamedTuple):
    """Sums over a dataset by contiguous label; arrays of shape (num_classes,).

    Attributes:
        iou_sum: Sum of the IoUs of the matched pairs, float64.
        tp: Number of matched pairs, int64.
        fp: Number of false positives, int64.
        fn: Number of missed ground-truth segments, int64.
    """

    iou_sum: np.ndarray
    tp: np.ndarray
    fp: np.ndarray
    fn: np.ndarray


def match_segments(
    gt_ids: np.ndarray | Tensor,
    gt_segments: Sequence[Mapping[str, Any]],
    pred_map: np.ndarray | Tensor,
    pred_segments: Sequence[Mapping[str, Any]],
    void: int = VOID_ID,
    name: str = 'image',
) -> ImageMatches:
    """Match the predicted segments of one image with those of the ground truth.

    Args:
        gt_ids: Segment ids as in the panoptic PNG, any integer type, shape (H, W); 0 is void.
        gt_segments: Ground-truth segments in the order of the JSON: ``id``, ``label``, ``area`` (pixels), ``iscrowd``.
        pred_map: Predicted segment ids, any integer type, shape (H, W). If both maps are tensors on one device, pixels
            are counted there, and counts alone are brought to the CPU.
        pred_segments: Predicted segments: ``id`` and ``label``.
        void: The value of ``pred_map`` that belongs to no segment: 0 in files, ``num_classes`` in memory.
        name: What to call the image in an error.

    Returns:
        Matched pairs, false positives and missed segments.

    Raises:
        DatasetError: If the ground truth's map has an id that ``gt_segments`` lacks, ids repeat or do not fit into 24
            bits, or an area is not the number of pixels of the segment.
        UserError: If the maps differ in shape, the predicted map has an id that ``pred_segments`` lacks or the other
            way round, or predicted ids repeat.
    """
    if gt_ids.shape != pred_map.shape:
        raise UserError(
            f'{name}: the prediction is {tuple(pred_map.shape)} (height, width), the ground truth '
            f'{tuple(gt_ids.shape)}: '
            'predict at the original image size'
        )
    gt_segments_by_id = sorted(gt_segments, key=itemgetter('id'))
    pred_segments_by_id = sorted(pred_segments, key=itemgetter('id'))
    overlaps = find_overlaps(gt_ids, gt_segments_by_id, pred_map, pred_segments_by_id, void, name)

    _check_areas(overlaps, gt_segments_by_id, name)

    gt_label = np.array([-1, *(s['label'] for s in gt_segments_by_id)])
    pred_label = np.array([-2, -2, *(s['label'] for s in pred_segments_by_id)])
    is_crowd = np.array([False, *(s['iscrowd'] == 1 for s in gt_segments_by_id)])
    same_class = gt_label[overlaps.gt] == pred_label[overlaps.pred]
    matched, iou = _match(overlaps, same_class & ~is_crowd[overlaps.gt])
    gt_matched, pred_matched = overlaps.gt[matched], overlaps.pred[matched]

    is_fp = ~_is_ignored(overlaps, same_class, gt_segments, gt_segments_by_id)
    is_fp[pred_matched] = False
    is_fn = ~is_crowd
    is_fn[0] = False
    is_fn[gt_matched] = False
    return ImageMatches(
        tp=list(zip(gt_label[gt_matched].tolist(), iou.tolist(), strict=True)),
        fp=pred_label[2:][is_fp[2:]].tolist(),
        fn=gt_label[is_fn].tolist(),
    )


def _check_areas(overlaps: Overlaps, gt_segments_by_id: Sequence[Mapping[str, Any]], name: str) -> None:
    """Refuse a ground truth that states other areas than those of its map: IoUs would be wrong, even above 1."""
    for segment, pixels in zip(gt_segments_by_id, overlaps.gt_area[1:].tolist(), strict=True):
        if segment['area'] != pixels:
            raise DatasetError(
                f'ground truth of {name}: segment id {segment["id"]} has area {segment["area"]} in the JSON and '
                f'{pixels} pixels in the map: write the number of pixels there'
            )


def _match(overlaps: Overlaps, is_candidate: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs whose IoU exceeds one half.

    Args:
        overlaps: Pairs that share pixels.
        is_candidate: Which of them may match: those of the same class, without crowds.

    Returns:
        The places of these pairs among all, ascending, and their IoUs.
    """
    on_void = overlaps.gt == 0
    void_area = sum_by(overlaps.pred[on_void], overlaps.pixels[on_void], len(overlaps.pred_area))
    candidates = np.flatnonzero(is_candidate)
    gt, pred, shared = overlaps.gt[candidates], overlaps.pred[candidates], overlaps.pixels[candidates]
    iou = shared / (overlaps.pred_area[pred] + overlaps.gt_area[gt] - shared - void_area[pred])
    matched = iou > MATCH_IOU
    return candidates[matched], iou[matched]


def _is_ignored(
    overlaps: Overlaps,
    same_class: np.ndarray,
    gt_segments: Sequence[Mapping[str, Any]],
    gt_segments_by_id: Sequence[Mapping[str, Any]],
) -> np.ndarray:
    """Whether more than half of a predicted segment lies on void and on the last listed crowd segment of its class.

    Returns:
        bool by place as in :class:`Overlaps`; of no meaning in the first two, which are no segments.
    """
    last_crowd = {s['label']: s['id'] for s in gt_segments if s['iscrowd'] == 1}
    takes_crowd = np.array([False, *(last_crowd.get(s['label']) == s['id'] for s in gt_segments_by_id)])
    ignored = (overlaps.gt == 0) | (same_class & takes_crowd[overlaps.gt])
    ignored_area = sum_by(overlaps.pred[ignored], overlaps.pixels[ignored], len(overlaps.pred_area))
    return ignored_area > IGNORED_SHARE * overlaps.pred_area


def accumulate(matches: Iterable[ImageMatches], num_classes: int) -> PQStat:
    """Add up the images of a dataset, in their given order, which has to be that of the ground truth's annotations.

    Raises:
        UserError: If a label is not in [0, num_classes).
    """
    iou_sum = [0.0] * num_classes
    counts = {kind: [0] * num_classes for kind in ('tp', 'fp', 'fn')}
    for image in matches:
        for label, iou in image.tp:
            _check_label(label, num_classes)
            iou_sum[label] += iou
            counts['tp'][label] += 1
        for kind in ('fp', 'fn'):
            for label in getattr(image, kind):
                _check_label(label, num_classes)
                counts[kind][label] += 1
    return PQStat(np.array(iou_sum, np.float64), **{k: np.array(v, np.int64) for k, v in counts.items()})


def _check_label(label: int, num_classes: int) -> None:
    if not 0 <= label < num_classes:
        raise UserError(f'a segment has label {label}, but there are {num_classes} classes: check the class list')


def per_class(stat: PQStat, categories: Sequence[Mapping[str, Any]]) -> dict[Any, dict[str, float | int]]:
    """Quality of every class.

    Args:
        stat: Sums by label.
        categories: Categories with ``id`` and ``label``.

    Returns:
        By category id, in the order given: ``pq``, ``sq``, ``rq`` (0 to 1; 0.0 for a class that occurs neither in the
        ground truth nor in the predictions), ``iou_sum``, ``tp``, ``fp``, ``fn``.
    """
    results = {}
    for category in categories:
        iou_sum, tp, fp, fn = (values[category['label']].item() for values in stat)
        weight = tp + 0.5 * fp + 0.5 * fn
        results[category['id']] = {
            'pq': iou_sum / weight if weight else 0.0,
            'sq': iou_sum / tp if tp else 0.0,
            'rq': tp / weight if weight else 0.0,
            'iou_sum': iou_sum,
            'tp': tp,
            'fp': fp,
            'fn': fn,
        }
    return results


def average(
    stat: PQStat, categories: Sequence[Mapping[str, Any]], isthing: bool | None = None
) -> dict[str, float | int]:
    """Mean quality over the classes that occur in the ground truth or in the predictions.

    Args:
        stat: Sums by label.
        categories: Categories in the order of the JSON: ``id``, ``label``, ``isthing``.
        isthing: Things only (True), stuff only (False) or all classes (None).

    Returns:
        ``pq``, ``sq``, ``rq`` (0 to 1) and ``n``, the number of classes averaged; with n = 0 the others are 0.0.
    """
    chosen = [c for c in categories if isthing is None or bool(c['isthing']) == isthing]
    occurring = [r for r in per_class(stat, chosen).values() if r['tp'] + r['fp'] + r['fn']]
    n = len(occurring)
    result: dict[str, float | int] = {}
    for key in ('pq', 'sq', 'rq'):
        total = 0.0
        for values in occurring:  # one by one: the built-in sum compensates rounding from Python 3.12 on
            total += values[key]
        result[key] = total / n if n else 0.0
    return result | {'n': n}
