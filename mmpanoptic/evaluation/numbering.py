"""Detection of predictions whose category ids follow another numbering than the ground truth's."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mmpanoptic.utils import UserError

from .panoptic_quality import MATCH_IOU, pair_iou
from .segment_counts import Counts

# Our choice. The numbering is blamed, and not the model, if at least _LEAST_PAIRS segments are found in any class, and
# another numbering explains at least half of them and twice as many as the present one.
_LEAST_PAIRS = 20
_LEAST_CLASSES = 3


def confusion(counts: Counts, num_classes: int) -> np.ndarray:
    """Pairs of segments with an IoU above 0.5, of any classes: int64 of shape (C, C), ground truth by row."""
    overlaps = counts.overlaps
    pairs = np.flatnonzero((overlaps.gt > 0) & (overlaps.pred > 1) & ~counts.is_crowd[overlaps.gt])
    pairs = pairs[pair_iou(counts, pairs) > MATCH_IOU]
    cells = counts.gt_label[overlaps.gt[pairs]] * num_classes + counts.pred_label[overlaps.pred[pairs]]
    return np.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes)


def check_numbering(counts: Counts, categories: Sequence[Mapping[str, Any]], name: str) -> None:
    """Refuse predictions whose classes match another numbering of the categories much better.

    Args:
        counts: Segments of all images.
        categories: Categories in the order of the JSON: ``id``, ``name``, ``label``, ``isthing``.
        name: The predictions' file.

    Raises:
        UserError: Naming the numbering, or the classes that seem to be exchanged.
    """
    table = confusion(counts, len(categories))
    total, right = int(table.sum()), int(np.trace(table))
    if total < _LEAST_PAIRS or 2 * right > total:  # no numbering can explain twice as many
        return
    from scipy.optimize import linear_sum_assignment  # half a second and 50 MB, and seldom needed

    numberings = _numberings(categories)
    found = {words: int(sum(table[of, as_] for of, as_ in pairs)) for words, pairs in numberings.items()}
    rows, columns = linear_sum_assignment(table, maximize=True)
    moved = [(int(of), int(as_)) for of, as_ in zip(rows, columns, strict=True) if of != as_ and table[of, as_]]
    by_label = {category['label']: category for category in categories}
    if len(moved) >= _LEAST_CLASSES:
        most = sorted(moved, key=lambda cell: -table[cell])[:3]
        listed = ', '.join(f'{by_label[as_]["id"]!r} for {by_label[of]["name"]}' for of, as_ in most)
        found.setdefault(f'such as {listed}', int(table[rows, columns].sum()))
    best = max(found, key=found.__getitem__, default=None)
    if best is not None and found[best] >= max(2 * right, total / 2):
        raise UserError(
            f'{name}: its category ids seem to be of another numbering: of {total} segments that are found {right} '
            f'have the right class, and {found[best]} would with another one ({best}): write the category ids of the '
            "ground truth's `categories`, or, if this is what the model says, pass trust_categories",
            argument='trust_categories',
        )


def _numberings(categories: Sequence[Mapping[str, Any]]) -> dict[str, list[tuple[int, int]]]:
    """Usual wrong numberings by their names: pairs (true label, label that the wrong id stands for)."""
    label_of = {category['id']: category['label'] for category in categories}
    orders = {
        'in the order of `categories`': list(categories),
        'things first': sorted(categories, key=lambda category: category['label']),
        'stuff first': sorted(categories, key=lambda category: bool(category['isthing'])),
    }
    found = {}
    for words, order in orders.items():
        for first in (0, 1):
            written = {category['label']: first + place for place, category in enumerate(order)}
            found[f'numbers from {first} on, {words}'] = written
    for shift in (-1, 1):
        if all(isinstance(category['id'], int) for category in categories):
            found[f'each id {shift:+d}'] = {category['label']: category['id'] + shift for category in categories}
    return {
        words: [(label, label_of[id]) for label, id in written.items() if id in label_of]
        for words, written in found.items()
        if any(label_of.get(id) != label for label, id in written.items())
    }
