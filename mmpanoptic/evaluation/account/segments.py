"""A list of all segments that lose points, with the cause and the points of each."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from mmpanoptic.evaluation.panoptic_quality import Matching
from mmpanoptic.evaluation.segment_counts import Counts

from .causes import CAUSES, Causes
from .ledger import Ledger


def lost_segments(
    counts: Counts,
    matching: Matching,
    causes: Causes,
    ledger: Ledger,
    categories: Sequence[Mapping[str, Any]],
    images: Sequence[Mapping[str, Any]],
) -> Iterator[dict[str, Any]]:
    """All matches, missed segments and false positives.

    Args:
        counts: Segments of all images.
        matching: Their matches.
        causes: Causes of the segments that do not match.
        ledger: Losses by class.
        categories: Categories with ``id`` and ``label``.
        images: Images in the order of the counts, with ``id``.

    Yields:
        A dict with:

        - ``image_id`` and ``category_id``;
        - ``kind``: 'match', 'missed' or 'extra';
        - ``gt_id`` and ``pred_id``: ids of the segment and of the one that it matches or that its cause involves, None
          if there is none;
        - ``iou``: of a match, else None;
        - ``cause``: None for a match;
        - ``points``: of PQ over all classes; their sum over all segments is 100 - PQ.
    """
    id_of = {category['label']: category['id'] for category in categories}
    worth = 100 / np.maximum(ledger.weight, 0.5) / max(int((ledger.weight > 0).sum()), 1)  # of a whole match, by label

    def row(kind: str, image: int, label: int, gt: int, pred: int, iou: float | None, cause: int) -> dict[str, Any]:
        return {
            'image_id': images[image]['id'],
            'kind': kind,
            'category_id': id_of[label],
            'gt_id': int(counts.gt_id[gt]) if gt else None,
            'pred_id': int(counts.pred_id[pred]) if pred else None,
            'iou': iou,
            'cause': None if cause < 0 else CAUSES[cause],
            'points': float(worth[label] * (0.5 if iou is None else 1 - iou)),
        }

    for pair, iou in zip(matching.pair.tolist(), matching.iou.tolist(), strict=True):
        gt, pred = int(counts.overlaps.gt[pair]), int(counts.overlaps.pred[pair])
        yield row('match', int(counts.gt_image[gt]), int(counts.gt_label[gt]), gt, pred, iou, -1)
    for gt in np.flatnonzero(matching.is_fn).tolist():
        partner, cause = int(causes.gt_partner[gt]), int(causes.gt[gt])
        yield row('missed', int(counts.gt_image[gt]), int(counts.gt_label[gt]), gt, partner, None, cause)
    for pred in np.flatnonzero(matching.is_fp).tolist():
        partner, cause = int(causes.pred_partner[pred]), int(causes.pred[pred])
        yield row('extra', int(counts.pred_image[pred]), int(counts.pred_label[pred]), partner, pred, None, cause)
