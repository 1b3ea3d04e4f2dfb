"""The account of lost points: 100 - PQ of each class and overall as a sum over causes (docs/pq_account.md)."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from mmpanoptic.evaluation.panoptic_quality import MATCH_IOU, Matching, stat_of
from mmpanoptic.evaluation.segment_counts import Counts

from .causes import CAUSES, Causes

MASKS = ('mask too small', 'mask too large')
LOSSES = (*MASKS, *CAUSES)


class Ledger(NamedTuple):
    """Losses by contiguous label; C classes, M = 2 faults of masks, K causes.

    Attributes:
        iou_sum: Sum of the IoUs of the matched pairs, float64 of shape (C,).
        tp: Number of matched pairs, int64 of shape (C,).
        masks: Sums of 1 - IoU over the matched pairs in two parts, float64 of shape (C, M): the share of the union that
            the prediction lacks, and the share by which it is too large.
        fn: Missed segments by cause, int64 of shape (C, K).
        fp: False positives by cause, int64 of shape (C, K).
        excused: Predicted segments that are no false positives because of void and crowds, int64 of shape (C,).
        crowds: Crowd segments of the ground truth, which are neither matched nor missed, int64 of shape (C,).
        strict_iou_sum: Sum of the IoUs of the pairs that still match if void counts in the union, float64 of shape
            (C,).
    """

    iou_sum: np.ndarray
    tp: np.ndarray
    masks: np.ndarray
    fn: np.ndarray
    fp: np.ndarray
    excused: np.ndarray
    crowds: np.ndarray
    strict_iou_sum: np.ndarray

    @property
    def weight(self) -> np.ndarray:
        """TP + FP / 2 + FN / 2 of each class, float64 of shape (C,)."""
        return self.tp + 0.5 * self.fp.sum(1) + 0.5 * self.fn.sum(1)


def ledger_of(counts: Counts, matching: Matching, causes: Causes, num_classes: int) -> Ledger:
    """Add up the losses by class and cause.

    Raises:
        UserError: If a label is not in [0, num_classes).
    """
    stat = stat_of(counts, matching, num_classes)
    overlaps = counts.overlaps
    gt, pred, shared = (values[matching.pair] for values in (overlaps.gt, overlaps.pred, overlaps.pixels))
    label = counts.gt_label[gt]
    seen = overlaps.pred_area[pred] - counts.void_area[pred]
    union = seen + overlaps.gt_area[gt] - shared
    masks = [
        np.bincount(label, lacking / union, num_classes) for lacking in (overlaps.gt_area[gt] - shared, seen - shared)
    ]
    strict_iou = shared / (overlaps.pred_area[pred] + overlaps.gt_area[gt] - shared)
    strict = strict_iou > MATCH_IOU

    def by_cause(labels: np.ndarray, cause: np.ndarray) -> np.ndarray:
        lost = cause >= 0
        index = labels[lost] * len(CAUSES) + cause[lost]
        return np.bincount(index, minlength=num_classes * len(CAUSES)).reshape(num_classes, len(CAUSES))

    return Ledger(
        stat.iou_sum,
        stat.tp,
        np.stack(masks, 1),
        by_cause(counts.gt_label, causes.gt),
        by_cause(counts.pred_label, causes.pred),
        np.bincount(counts.pred_label[matching.is_ignored], minlength=num_classes),
        np.bincount(counts.gt_label[counts.is_crowd], minlength=num_classes),
        np.bincount(label[strict], strict_iou[strict], num_classes),
    )


def points_of(ledger: Ledger) -> np.ndarray:
    """Points of PQ that each class loses by each of :data:`LOSSES`, float64 of shape (C, M + K); rows sum to 100 - PQ.

    A match loses 1 - IoU; a false positive and a missed segment lose 1 / 2 each. These are divided by TP + FP / 2 +
    FN / 2. The row of a class that does not occur is 0.
    """
    lost = np.concatenate([ledger.masks, 0.5 * (ledger.fn + ledger.fp)], 1)
    return 100 * lost / np.where(ledger.weight > 0, ledger.weight, 1)[:, None]


def balance(ledger: Ledger, categories: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The account as plain values.

    Args:
        ledger: The losses.
        categories: Categories in the order of the JSON: ``id``, ``name``, ``label``, ``isthing``.

    Returns:
        By group (``All``, ``Things``, ``Stuff``) and, under ``per_class``, by category id:

        - ``pq``: the official PQ in percent; 0 if the class or group does not occur.
        - ``points``: points of PQ lost by each cause, with the sum 100 - ``pq``; all 0 if it does not occur.
        - ``fn`` and ``fp``: missed segments and false positives by cause.
        - ``excused`` and ``crowds``: numbers of segments that the rules leave out.
        - ``strict_pq``: PQ if void counted in unions and no prediction were excused.
        - ``n``: number of classes.
    """
    points, weight = points_of(ledger), ledger.weight
    pq = _quality(ledger.iou_sum, weight)
    # A lost match becomes a false positive and a missed segment, which together have the same weight.
    strict_pq = _quality(ledger.strict_iou_sum, weight + 0.5 * ledger.excused)

    def entry(labels: Sequence[int]) -> dict[str, Any]:
        occurring = [label for label in labels if weight[label] > 0]
        rows = points[occurring].mean(0) if occurring else np.zeros(len(LOSSES))
        present = [label for label in labels if weight[label] + ledger.excused[label] > 0]
        return {
            'pq': float(pq[occurring].mean()) if occurring else 0.0,
            'points': dict(zip(LOSSES, rows.tolist(), strict=True)),
            'fn': dict(zip(CAUSES, ledger.fn[labels].sum(0).tolist(), strict=True)),
            'fp': dict(zip(CAUSES, ledger.fp[labels].sum(0).tolist(), strict=True)),
            'excused': int(ledger.excused[labels].sum()),
            'crowds': int(ledger.crowds[labels].sum()),
            'strict_pq': float(strict_pq[present].mean()) if present else 0.0,
            'n': len(occurring),
        }

    groups = {'All': (True, False), 'Things': (True,), 'Stuff': (False,)}
    result: dict[str, Any] = {
        name: entry([c['label'] for c in categories if c['isthing'] in kinds]) for name, kinds in groups.items()
    }
    return result | {'per_class': {c['id']: entry([c['label']]) for c in categories}}


def _quality(iou_sum: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Panoptic quality in percent; 0 where nothing occurs."""
    return 100 * iou_sum / np.where(weight > 0, weight, 1)
