"""The segments of a panoptic map: their ids and ``segments_info``.

A panoptic map here is int32 of shape (H, W): ``label + INSTANCE_OFFSET * k`` for the k-th thing (k = 1, 2, ...), the
contiguous label ``num_things + s`` for stuff class s, and ``void = num_things + num_stuff`` for void. Item k - 1 of the
list ``pasted`` is the index of the k-th thing among the given instances.
"""

from collections.abc import Mapping, Sequence

from mmpanoptic.structures import INSTANCE_OFFSET


def thing_id(label: int, k: int) -> int:
    """Id in a panoptic map of the k-th thing, k = 1, 2, ..."""
    return label + INSTANCE_OFFSET * k


def list_segments(
    pasted: Sequence[int],
    labels: Sequence[int],
    scores: Sequence[float],
    stuff_labels: Sequence[int],
    more: Mapping[str, Sequence[float]] | None = None,
) -> list[dict]:
    """The ``segments_info`` of a panoptic map.

    Args:
        pasted: Indices of the instances that the map holds, in the order of k.
        labels: Contiguous label of each instance, N of them.
        scores: Confidence of each instance, N of them.
        stuff_labels: Contiguous labels of the stuff that the map holds.
        more: Further values of the instances by name, N values each.

    Returns:
        One dict per segment, things first, with ``id`` in the map, ``label``, ``score`` (None for stuff), ``instance``
        (index among the N instances, None for stuff) and, for things, the values in ``more``.
    """
    things = [
        {'id': thing_id(labels[index], k), 'label': labels[index], 'score': scores[index], 'instance': index}
        | {name: values[index] for name, values in (more or {}).items()}
        for k, index in enumerate(pasted, 1)
    ]
    return things + [{'id': label, 'label': label, 'score': None, 'instance': None} for label in stuff_labels]
