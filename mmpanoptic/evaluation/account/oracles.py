"""What PQ would be if a cause of its losses were mended, from the counts (docs/pq_account.md)."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from .causes import CAUSES
from .ledger import LOSSES, MASKS, Ledger


def mended(ledger: Ledger, causes: Collection[str]) -> tuple[np.ndarray, np.ndarray]:
    """Quality of each class with some causes mended.

    A missed segment becomes a match, a false positive goes. The new match is as good as the matches of its class are,
    or, where there is none, as all matches are. A fault of masks that is mended adds what it takes from matches.

    Args:
        ledger: What is lost.
        causes: Names out of :data:`~.ledger.LOSSES`.

    Returns:
        PQ in percent, float64 of shape (C,), and TP + FP / 2 + FN / 2 then, of the same shape; where that is 0 the
        class does not occur.
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
    """PQ with each cause mended, alone and on top of each other one.

    Args:
        ledger: What is lost.
        categories: Categories with ``label``: those to average over, if they occur.
        bundles: Causes by a name that is mended as a whole; None: :data:`BUNDLES`.

    Returns:
        ``table[first][second]``: PQ in percent with both mended; ``table[first][first]`` with the one alone. Only what
        loses anything is in it.
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


# As ground truth would mend them: its classes, its numbers of segments, its outlines.
BUNDLES: dict[str, tuple[str, ...]] = {
    'masks': MASKS,
    'wrong class': tuple(name for name in CAUSES if ' as ' in name),
    **{name: (name,) for name in CAUSES if ' as ' not in name},
}
