"""Why segments do not match: one cause for each false positive and each missed segment (docs/pq_account.md)."""

from typing import NamedTuple

import numpy as np

from mmpanoptic.evaluation.panoptic_quality import MATCH_IOU, Matching, pair_iou
from mmpanoptic.evaluation.segment_counts import Counts, shared_with

NEAR_IOU = 0.25  # our choice: below it, two segments are unrelated
MOSTLY = 0.5  # share of a segment's pixels; more than this can lie in one other segment only

# In the order of the tests; each segment gets the first cause that applies.
CAUSES = (
    'thing as thing',
    'stuff as stuff',
    'thing as stuff',
    'stuff as thing',
    'hidden',
    'split',
    'merged',
    'nearly',
    'crowd',
    'missed',
    'hallucinated',
)
NO_CAUSE = -1
_INDEX = {name: index for index, name in enumerate(CAUSES)}


class Causes(NamedTuple):
    """The cause of each segment's loss and the other segment involved; int64 arrays by place.

    Causes are indices into :data:`CAUSES`, -1 where nothing is lost. Places are those of
    :class:`~mmpanoptic.evaluation.overlaps.Overlaps`.

    Attributes:
        gt: Cause for each segment of the ground truth.
        pred: Cause for each predicted segment.
        gt_partner: For each segment of the ground truth, place of the predicted segment involved; 0 if there is none.
        pred_partner: For each predicted segment, place of the ground-truth segment involved; 0 if there is none.
    """

    gt: np.ndarray
    pred: np.ndarray
    gt_partner: np.ndarray
    pred_partner: np.ndarray


def find_causes(counts: Counts, matching: Matching, isthing: np.ndarray, was_found: np.ndarray | None = None) -> Causes:
    """Find the cause of every false positive and every missed segment.

    Args:
        counts: Segments of any number of images.
        matching: Their matches.
        isthing: Whether each label is a thing class, bool of shape (num_classes,).
        was_found: Whether each ground-truth segment had an instance of its class with an IoU above 0.5 before the
            fusion, bool by place. None if that is not known; then no cause is 'hidden'.
    """
    search = _Search(counts, matching)
    search.wrong_classes(isthing)
    if was_found is not None:
        search.hidden(was_found)
    search.split()
    search.merged()
    search.nearly()
    search.on_crowds()
    search.rest()
    return search.found


class _Search:
    """Pairs of overlapping segments, and the causes found so far. Each public method assigns one kind of cause."""

    def __init__(self, counts: Counts, matching: Matching) -> None:
        self.counts, self.matching = counts, matching
        overlaps = counts.overlaps
        real = np.flatnonzero((overlaps.gt > 0) & (overlaps.pred > 1) & ~counts.is_crowd[overlaps.gt])
        self.gt, self.pred, self.pixels = overlaps.gt[real], overlaps.pred[real], overlaps.pixels[real]
        self.iou = pair_iou(counts, real)
        self.same_class = counts.same_class[real]
        self.seen_area = overlaps.pred_area - counts.void_area  # of predictions, without void of the ground truth
        self.part = 1.0 * self.pixels > MOSTLY * self.seen_area[self.pred]  # prediction mostly in the gt segment
        self.inside = 1.0 * self.pixels > MOSTLY * overlaps.gt_area[self.gt]  # gt segment mostly in the prediction
        self.is_unmatched = np.arange(len(counts.pred_id)) > 1
        self.is_unmatched[overlaps.pred[matching.pair]] = False
        self.found = Causes(
            np.full(len(counts.gt_id), NO_CAUSE),
            np.full(len(counts.pred_id), NO_CAUSE),
            np.zeros(len(counts.gt_id), np.int64),
            np.zeros(len(counts.pred_id), np.int64),
        )

    @property
    def open_gt(self) -> np.ndarray:
        """Missed segments without a cause, bool by place."""
        return self.matching.is_fn & (self.found.gt == NO_CAUSE)

    @property
    def open_pred(self) -> np.ndarray:
        """False positives without a cause, bool by place."""
        return self.matching.is_fp & (self.found.pred == NO_CAUSE)

    def _blame_gt(self, pairs: np.ndarray, cause: int | np.ndarray) -> None:
        """Give the missed segments of the chosen pairs (bool) a cause, unless they have one."""
        chosen = self._by_iou(pairs & self.open_gt[self.gt])
        self.found.gt[self.gt[chosen]] = cause if isinstance(cause, int) else cause[chosen]
        self.found.gt_partner[self.gt[chosen]] = self.pred[chosen]

    def _blame_pred(self, pairs: np.ndarray, cause: int | np.ndarray) -> None:
        """Give the false positives of the chosen pairs (bool) a cause, unless they have one."""
        chosen = self._by_iou(pairs & self.open_pred[self.pred])
        self.found.pred[self.pred[chosen]] = cause if isinstance(cause, int) else cause[chosen]
        self.found.pred_partner[self.pred[chosen]] = self.gt[chosen]

    def _by_iou(self, pairs: np.ndarray) -> np.ndarray:
        """Indices of the chosen pairs (bool) by ascending IoU: the last assignment, of the highest IoU, is kept."""
        chosen = np.flatnonzero(pairs)
        return chosen[np.argsort(self.iou[chosen], kind='stable')]

    def wrong_classes(self, isthing: np.ndarray) -> None:
        """Pairs that would match if their classes were equal."""
        wrong = ~self.same_class & (self.iou > MATCH_IOU)
        of_gt, of_pred = isthing[self.counts.gt_label[self.gt]], isthing[self.counts.pred_label[self.pred]]
        names = np.array([[_INDEX[f'{of} as {as_}'] for as_ in ('stuff', 'thing')] for of in ('stuff', 'thing')])
        cause = names[of_gt.astype(int), of_pred.astype(int)]
        self._blame_gt(wrong, cause)
        self._blame_pred(wrong, cause)

    def hidden(self, was_found: np.ndarray) -> None:
        """Segments of which an instance would have matched, but the fusion gave its pixels to other segments."""
        is_hidden = self.open_gt & was_found
        self._blame_pred(self.same_class & is_hidden[self.gt] & (self.part | (self.iou >= NEAR_IOU)), _INDEX['hidden'])
        self._blame_gt(self.same_class & is_hidden[self.gt], _INDEX['hidden'])
        self.found.gt[is_hidden] = _INDEX['hidden']  # also where no pixel of the instance is left

    def split(self) -> None:
        """Several predictions lie in one segment: their union would match it, or one matches and the others remain."""
        part = self.same_class & self.part & self.is_unmatched[self.pred]
        size = len(self.counts.gt_id)
        number = np.bincount(self.gt[part], minlength=size)
        shared = np.bincount(self.gt[part], self.pixels[part], size)
        area = np.bincount(self.gt[part], self.seen_area[self.pred[part]], size)
        iou = shared / np.maximum(self.counts.overlaps.gt_area + area - shared, 1)
        is_split = self.open_gt & (number > 1) & (iou > MATCH_IOU)
        is_matched = ~self.matching.is_fn & ~self.counts.is_crowd
        self._blame_pred(part & (is_split | is_matched)[self.gt], _INDEX['split'])
        self._blame_gt(part & is_split[self.gt], _INDEX['split'])

    def merged(self) -> None:
        """Several segments lie in one prediction: their union would match it, or one matches and the others remain."""
        inside = self.same_class & self.inside & self.open_gt[self.gt]
        size = len(self.counts.pred_id)
        number = np.bincount(self.pred[inside], minlength=size)
        shared = np.bincount(self.pred[inside], self.pixels[inside], size)
        area = np.bincount(self.pred[inside], self.counts.overlaps.gt_area[self.gt[inside]], size)
        iou = shared / np.maximum(self.seen_area + area - shared, 1)
        is_merged = self.is_unmatched & (number > 1) & (iou > MATCH_IOU)
        self._blame_gt(inside & (is_merged | ~self.is_unmatched)[self.pred], _INDEX['merged'])
        self._blame_pred(inside & is_merged[self.pred], _INDEX['merged'])

    def nearly(self) -> None:
        """Pairs of the same class, neither matched, with an IoU of 0.25 to 0.5."""
        near = self.same_class & (self.iou >= NEAR_IOU)
        near &= self.matching.is_fn[self.gt] & self.matching.is_fp[self.pred]
        self._blame_gt(near, _INDEX['nearly'])
        self._blame_pred(near, _INDEX['nearly'])

    def on_crowds(self) -> None:
        """Predictions mostly on void and crowds, not excused: the crowd has another class or is not listed last."""
        overlaps = self.counts.overlaps
        area = shared_with(overlaps, (overlaps.gt == 0) | self.counts.is_crowd[overlaps.gt])
        self.found.pred[self.open_pred & (area > MOSTLY * overlaps.pred_area)] = _INDEX['crowd']

    def rest(self) -> None:
        """Segments that no other segment explains."""
        self.found.gt[self.open_gt] = _INDEX['missed']
        self.found.pred[self.open_pred] = _INDEX['hallucinated']
