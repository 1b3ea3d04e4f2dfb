"""Confidence intervals of scores by bootstrap over images.

Source: Efron and Tibshirani, An Introduction to the Bootstrap, chapter 13 (percentile intervals). Images are drawn with
replacement. Classes that occur in no drawn image are left out of a mean, as in the official tool.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from .panoptic_quality import Matching
from .segment_counts import Counts

_CHUNK = 64  # resamples at a time: 3 MB of draws for 5000 images
MEASURES = ('pq', 'sq', 'rq')


class ImageStats(NamedTuple):
    """Sums by image and contiguous label, float64 of shape (images, classes).

    Attributes:
        iou_sum: Sum of the IoUs of matched pairs.
        tp: Number of matched pairs.
        weight: TP + FP / 2 + FN / 2.
    """

    iou_sum: np.ndarray
    tp: np.ndarray
    weight: np.ndarray


def image_stats(counts: Counts, matching: Matching, num_images: int, num_classes: int) -> ImageStats:
    """Sums of each image and class."""

    def table(image: np.ndarray, label: np.ndarray, values: np.ndarray | None = None) -> np.ndarray:
        size = num_images * num_classes
        return np.bincount(image * num_classes + label, values, size).reshape(num_images, num_classes)

    gt = counts.overlaps.gt[matching.pair]
    matched = counts.gt_image[gt], counts.gt_label[gt]
    tp = table(*matched).astype(np.float64)
    fp = table(counts.pred_image[matching.is_fp], counts.pred_label[matching.is_fp])
    fn = table(counts.gt_image[matching.is_fn], counts.gt_label[matching.is_fn])
    return ImageStats(table(*matched, matching.iou), tp, tp + 0.5 * fp + 0.5 * fn)


def resample(
    sets: Sequence[ImageStats], categories: Sequence[Mapping[str, Any]], number: int, seed: int = 0
) -> list[dict[Any, np.ndarray]]:
    """Scores of random sets of images. All sets of predictions are scored on the same draws.

    Args:
        sets: Sums of one or more sets of predictions for the same images.
        categories: Categories with ``id``, ``label`` and ``isthing``.
        number: Number of draws.
        seed: Seed of the draws.

    Returns:
        For each set of predictions, by group (``All``, ``Things``, ``Stuff``) and by category id: PQ, SQ and RQ (0 to
        1) of each draw, float64 of shape (number, 3); NaN where no drawn image has the class or group.
    """
    rng = np.random.default_rng(seed)
    num_images = len(sets[0].weight)
    isthing = np.zeros(len(categories), bool)
    isthing[[c['label'] for c in categories if c['isthing']]] = True
    groups = {'All': np.ones_like(isthing), 'Things': isthing, 'Stuff': ~isthing}
    rows: list[dict[Any, list]] = [{} for _ in sets]
    for start in range(0, number, _CHUNK):
        size = min(_CHUNK, number - start)
        drawn = rng.integers(0, num_images, (size, num_images)) + num_images * np.arange(size)[:, None]
        times = np.bincount(drawn.ravel(), minlength=size * num_images).reshape(size, num_images).astype(np.float64)
        for stats, kept in zip(sets, rows, strict=True):
            quality = _qualities(*(times @ values for values in stats))
            for name, members in groups.items():
                kept.setdefault(name, []).append(_mean(quality[:, members]))
            for category in categories:
                kept.setdefault(category['id'], []).append(quality[:, category['label']])
    return [{name: np.concatenate(parts) for name, parts in kept.items()} for kept in rows]


def _qualities(iou_sum: np.ndarray, tp: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """PQ, SQ and RQ in the last axis; NaN where a class does not occur, SQ 0 where it has no match."""
    measures = iou_sum / np.maximum(weight, 0.5), iou_sum / np.maximum(tp, 1), tp / np.maximum(weight, 0.5)
    return np.where(weight[..., None] > 0, np.stack(measures, -1), np.nan)


def _mean(quality: np.ndarray) -> np.ndarray:
    """Mean over the classes (axis 1) that occur; NaN where none does."""
    occurs = ~np.isnan(quality)
    number = occurs.sum(1)
    return np.where(number > 0, np.where(occurs, quality, 0).sum(1) / np.maximum(number, 1), np.nan)


def interval(values: np.ndarray, confidence: float = 0.95) -> tuple[float, float] | None:
    """Bounds of the central interval of some values without NaN; None if there are no values."""
    values = values[~np.isnan(values)]
    if not len(values):
        return None
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def intervals(draws: Mapping[Any, np.ndarray], confidence: float = 0.95) -> dict[Any, dict[str, Any]]:
    """Interval of each measure by group and category id, see :func:`resample`."""
    return {
        name: {key: interval(values[:, k], confidence) for k, key in enumerate(MEASURES)}
        for name, values in draws.items()
    }


def differences(
    first: Mapping[Any, np.ndarray], second: Mapping[Any, np.ndarray], confidence: float = 0.95
) -> dict[Any, dict[str, Any]]:
    """Compare two sets of predictions on the same draws.

    Returns:
        By group or category id and by measure: ``interval`` of the first set's score minus the second's, and
        ``better``, the share of the draws in which the first set is better; ties count half.
    """
    result: dict[Any, dict[str, Any]] = {}
    for name in first:
        result[name] = {}
        for k, key in enumerate(MEASURES):
            gain = first[name][:, k] - second[name][:, k]
            gain = gain[~np.isnan(gain)]
            better = float((np.sign(gain).mean() + 1) / 2) if len(gain) else None
            result[name][key] = {'interval': interval(gain, confidence), 'better': better}
    return result
