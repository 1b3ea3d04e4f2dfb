"""Panoptic quality by the rules of COCO's evaluation, on arrays.

PQ = sum of IoUs of matched pairs / (TP + FP / 2 + FN / 2) for each class, averaged over the classes (Kirillov et al.,
Panoptic Segmentation, section 4, https://arxiv.org/abs/1801.00868). Where the paper leaves a choice, the rules are
those of the official tool (https://cocodataset.org/#panoptic-eval):

- Two segments match if they have the same class and their IoU exceeds 0.5. Void in the ground truth is taken out of the
  union.
- Areas are counted in the map. The official tool takes the area in the ground truth's JSON; if that differs, PQ can
  exceed 1. Here a different area is an error.
- A crowd segment is neither matched nor missed.
- An unmatched prediction is no false positive if more than half of it lies on void and on the crowd segment of its own
  class. If an image has several such crowd segments, the last listed one counts.
- IoUs are added one by one in float64: images in the order of the ground truth's ``annotations``, pairs within an image
  by ascending (ground-truth id, predicted id). Class values are added in the order of the JSON's ``categories``.

The last rule makes results equal to the official tool's (run in one process) to the last bit.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from mmpanoptic.structures import VOID_ID
from mmpanoptic.utils import UserError

from .segment_counts import Counts, count_segments, shared_with

MATCH_IOU = 0.5  # matching is unique only above one half (section 4.1 of the paper), so this is no parameter
IGNORED_SHARE = 0.5


class ImageMatches(NamedTuple):
    """Matches of one image; plain Python values, cheap to pickle.

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


class Matching(NamedTuple):
    """Matches among the segments of :class:`~.segment_counts.Counts`.

    Attributes:
        pair: Indices of the matched pairs among all pairs, ascending.
        iou: Their IoUs, float64.
        is_fp: Whether each predicted segment is a false positive, bool by place.
        is_ignored: Whether each predicted segment is excused by void and crowds, bool by place.
        is_fn: Whether each segment of the ground truth is missed, bool by place.
    """

    pair: np.ndarray
    iou: np.ndarray
    is_fp: np.ndarray
    is_ignored: np.ndarray
    is_fn: np.ndarray


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
            are counted there, and only the counts are copied to the CPU.
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
    counts = count_segments(gt_ids, gt_segments, pred_map, pred_segments, void, name)
    matching = match_counts(counts)
    gt_label = counts.gt_label[counts.overlaps.gt[matching.pair]]
    return ImageMatches(
        tp=list(zip(gt_label.tolist(), matching.iou.tolist(), strict=True)),
        fp=counts.pred_label[matching.is_fp].tolist(),
        fn=counts.gt_label[matching.is_fn].tolist(),
    )


def match_counts(counts: Counts) -> Matching:
    """Match the predicted segments with those of the ground truth, of one image or of many at once."""
    overlaps, same_class = counts.overlaps, counts.same_class
    candidates = np.flatnonzero(same_class & ~counts.is_crowd[overlaps.gt])
    iou = pair_iou(counts, candidates)
    matched = iou > MATCH_IOU
    pair = candidates[matched]

    is_fp = np.arange(len(counts.pred_id)) > 1
    is_fp[overlaps.pred[pair]] = False
    ignored_area = shared_with(overlaps, (overlaps.gt == 0) | (same_class & counts.excuses[overlaps.gt]))
    is_ignored = is_fp & (ignored_area > IGNORED_SHARE * overlaps.pred_area)
    is_fn = ~counts.is_crowd
    is_fn[0] = False
    is_fn[overlaps.gt[pair]] = False
    return Matching(pair, iou[matched], is_fp & ~is_ignored, is_ignored, is_fn)


def pair_iou(counts: Counts, pairs: np.ndarray) -> np.ndarray:
    """IoU of some pairs of segments, given by their indices, without void of the ground truth; float64."""
    overlaps, void_area = counts.overlaps, counts.void_area
    gt, pred, shared = overlaps.gt[pairs], overlaps.pred[pairs], overlaps.pixels[pairs]
    return shared / (overlaps.pred_area[pred] + overlaps.gt_area[gt] - shared - void_area[pred])


def stat_of(counts: Counts, matching: Matching, num_classes: int) -> PQStat:
    """The sums of :func:`accumulate`, equal to the last bit, for all images at once.

    Raises:
        UserError: If a label is not in [0, num_classes).
    """
    for labels in (counts.gt_label[1:], counts.pred_label[2:]):
        for label in (labels.min(initial=0), labels.max(initial=0)):
            _check_label(int(label), num_classes)
    label = counts.gt_label[counts.overlaps.gt[matching.pair]]
    return PQStat(
        # bincount adds values one by one, as the official tool does.
        iou_sum=np.bincount(label, matching.iou, num_classes),
        tp=np.bincount(label, minlength=num_classes),
        fp=np.bincount(counts.pred_label[matching.is_fp], minlength=num_classes),
        fn=np.bincount(counts.gt_label[matching.is_fn], minlength=num_classes),
    )


def accumulate(matches: Iterable[ImageMatches], num_classes: int) -> PQStat:
    """Add up the images of a dataset, which must be in the order of the ground truth's annotations.

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
