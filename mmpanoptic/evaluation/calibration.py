"""Whether scores are probabilities: of the segments with a score of 0.7, seven in ten should be right."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from .panoptic_quality import Matching, match_counts
from .segment_counts import Counts


class Reliability(NamedTuple):
    """What came of the scores of each bin, arrays of shape (bins,).

    Attributes:
        count: How many scores there are.
        score: Their mean; NaN where there is none.
        share: How much of what they are about was right; NaN where there is none.
    """

    count: np.ndarray
    score: np.ndarray
    share: np.ndarray

    @property
    def error(self) -> float:
        """The expected calibration error: the mean distance of score and share, by count; NaN without scores.

        Source: Guo et al., On Calibration of Modern Neural Networks, equation 3, https://arxiv.org/abs/1706.04599
        """
        filled = self.count > 0
        if not filled.any():
            return float('nan')
        return float(np.average(np.abs(self.score - self.share)[filled], weights=self.count[filled]))


def reliability(scores: Sequence[float], right: Sequence[float], bins: int = 10) -> Reliability:
    """Sort scores into bins of one width, and average what is in each.

    Args:
        scores: From 0 to 1, n of them; 1 is in the last bin.
        right: Whether each is right, or how much of it is, 0 to 1.
        bins: Number of bins.
    """
    scores, right = np.asarray(scores, float), np.asarray(right, float)
    place = np.minimum((scores * bins).astype(int), bins - 1)
    count, *sums = (np.bincount(place, values, bins) for values in (None, scores, right))
    with np.errstate(invalid='ignore'):
        return Reliability(count.astype(int), *(total / count for total in sums))


class Rated(NamedTuple):
    """Predicted segments that have a score, n of them, by rising image and id.

    Attributes:
        label: Contiguous class of each, int64.
        score: Its score.
        matched: Whether it matches a segment of the ground truth (IoU above 0.5).
        purity: How much of it is of its class in the ground truth, void left out.
    """

    label: np.ndarray
    score: np.ndarray
    matched: np.ndarray
    purity: np.ndarray


def rated_segments(counts: Counts, scores: Mapping[tuple[Any, int], float], image_ids: Sequence[Any]) -> Rated:
    """Segments with what is to be thought of them; those that void and crowds excuse are left out.

    Args:
        counts: Of ground truth and predictions.
        scores: By id of the image and of the segment.
        image_ids: Ids of the images that ``counts`` numbers.
    """
    matching: Matching = match_counts(counts)
    overlaps = counts.overlaps
    matched = np.zeros(len(counts.pred_id), bool)
    matched[overlaps.pred[matching.pair]] = True
    same = np.bincount(overlaps.pred, overlaps.pixels * counts.same_class, len(matched))
    seen = np.bincount(overlaps.pred, overlaps.pixels * (overlaps.gt > 0), len(matched))
    keys = [(image_ids[image], int(one)) for image, one in zip(counts.pred_image, counts.pred_id, strict=True)]
    kept = [
        place
        for place in range(2, len(keys))
        if keys[place] in scores and not matching.is_ignored[place] and seen[place] > 0
    ]
    found = np.array([scores[keys[place]] for place in kept])
    return Rated(counts.pred_label[kept], found, matched[kept], same[kept] / seen[kept])
