"""PQ if causes of its losses were mended, computed from the counts (docs/pq_account.md)."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from .causes import CAUSES
from .ledger import LOSSES, MASKS, Ledger


def mended(ledger: Ledger, causes: Collection[str]) -> tuple[np.ndarray, np.ndarray]:
    """Quality of each class with some causes mended.

    Missed segments with such a cause become matches, and false positives with such a cause are dropped. A new match has
    the mean IoU of its class's matches or, if the class has none, of all matches. A mended fault of masks gives matches
    back the IoU that it takes from them.

    Args:
        ledger: The losses.
        causes: Names from :data:`mmpanoptic.evaluation.account.ledger.LOSSES`.

    Returns:
        PQ in percent, float64 of shape (C,), and the new TP + FP / 2 + FN / 2 of the same shape, 0 for a class that
        does not occur.
    """
    kept = np.array([name not in causes for name in CAUSES], float)
    fault = np.array([name in causes for name in MASKS], float)
    iou_sum = ledger.iou_sum + ledger.masks @ fault
    found = ledger.fn @ (1 - kept)
    overall = iou_sum.sum() / ledger.tp.sum() if ledger.tp.any() else 1.0
    mean_iou = np.where(ledger.tp > 0, iou_sum / np.maximum(ledger.tp, 1), overall)
    weight = ledger.tp + found + 0.5 * (ledger.fp @ kept) + 0.5 * (ledger.fn @ kept)
    return 100 * (iou_sum + found * mean_iou) / np.where(weight > 0, weight, 1), weight


def oracle_table(
    ledger: Ledger, categories: Sequence[Mapping[str, Any]], bundles: Mapping[str, Collection[str]] | None = None
) -> dict[str, dict[str, float]]:
    """PQ with each bundle of causes mended, alone and together with each other bundle.

    Args:
        ledger: The losses.
        categories: Categories with ``label``, to average over those that occur.
        bundles: Causes that are mended together, by the bundle's name; None: :data:`BUNDLES`.

    Returns:
        ``table[first][second]``: PQ in percent with both bundles mended; ``table[first][first]`` with one alone.
        Bundles that lose nothing are left out.
    """
    bundles = BUNDLES if bundles is None else bundles
    labels = [category['label'] for category in categories]
    lost = dict(zip(LOSSES, [*ledger.masks[labels].sum(0), *(ledger.fn + ledger.fp)[labels].sum(0)], strict=True))
    names = [name for name, causes in bundles.items() if any(lost[cause] for cause in causes)]

    def quality(*chosen: str) -> float:
        pq, weight = mended(ledger, {cause for name in chosen for cause in bundles[name]})
        occurring = [label for label in labels if weight[label] > 0]
        return float(pq[occurring].mean()) if occurring else 0.0

    return {first: {second: quality(first, second) for second in names} for first in names}


# Causes that one kind of ground truth mends: outlines, classes, numbers of segments.
BUNDLES: dict[str, tuple[str, ...]] = {
    'masks': MASKS,
    'wrong class': tuple(name for name in CAUSES if ' as ' in name),
    **{name: (name,) for name in CAUSES if ' as ' not in name},
}
