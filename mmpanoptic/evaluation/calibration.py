"""Calibration of scores: of the segments with a score of 0.7, seven in ten should be right."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from .panoptic_quality import Matching, match_counts
from .segment_counts import Counts


@dataclass(frozen=True, eq=False)
class Reliability:
    """Scores and results by bin, arrays of shape (bins,).

    Attributes:
        count: Number of scores.
        score: Mean score; NaN in an empty bin.
        share: Mean of what was right; NaN in an empty bin.
    """

    count: np.ndarray
    score: np.ndarray
    share: np.ndarray

    @property
    def error(self) -> float:
        """Expected calibration error, the mean distance of score and share weighted by count; NaN without scores.

        Source: Guo et al., On Calibration of Modern Neural Networks, equation 3, https://arxiv.org/abs/1706.04599
        """
        filled = self.count > 0
        if not filled.any():
            return float('nan')
        return float(np.average(np.abs(self.score - self.share)[filled], weights=self.count[filled]))


def reliability(scores: Sequence[float], right: Sequence[float], bins: int = 10) -> Reliability:
    """Sort scores into bins of equal width and average each bin.

    Args:
        scores: n scores from 0 to 1; 1 is in the last bin.
        right: Whether the segment of each score is right, or which part of it, 0 to 1.
        bins: Number of bins.
    """
    score_values, right_values = np.asarray(scores, float), np.asarray(right, float)
    place = np.minimum((score_values * bins).astype(int), bins - 1)
    count = np.bincount(place, minlength=bins)
    sums = [np.bincount(place, values, bins) for values in (score_values, right_values)]
    with np.errstate(invalid='ignore'):
        return Reliability(count, sums[0] / count, sums[1] / count)


class Rated(NamedTuple):
    """Predicted segments that have a score, ascending by image and id; arrays of shape (n,).

    Attributes:
        label: Contiguous class, int64.
        score: The segment's score.
        matched: Whether the segment matches one of the ground truth (IoU above 0.5).
        purity: Share of its pixels, without void, that have its class in the ground truth.
    """

    label: np.ndarray
    score: np.ndarray
    matched: np.ndarray
    purity: np.ndarray


def rated_segments(counts: Counts, scores: Mapping[tuple[Any, int], float], image_ids: Sequence[Any]) -> Rated:
    """Compare the predicted segments with the ground truth. Segments that void and crowds excuse are left out.

    Args:
        counts: Counts of ground truth and predictions.
        scores: Scores by (image id, segment id).
        image_ids: Ids of the images in the order of ``counts``.
    """
    matching: Matching = match_counts(counts)
    overlaps = counts.overlaps
    matched = np.zeros(len(counts.pred_id), bool)
    matched[overlaps.pred[matching.pair]] = True
    same = np.bincount(overlaps.pred, overlaps.pixels * counts.same_class, len(matched))
    seen = np.bincount(overlaps.pred, overlaps.pixels * (overlaps.gt > 0), len(matched))
    keys = [(image_ids[image], int(segment)) for image, segment in zip(counts.pred_image, counts.pred_id, strict=True)]
    kept = [
        place
        for place in range(2, len(keys))
        if keys[place] in scores and not matching.is_ignored[place] and seen[place] > 0
    ]
    found = np.array([scores[keys[place]] for place in kept])
    return Rated(counts.pred_label[kept], found, matched[kept], same[kept] / seen[kept])
