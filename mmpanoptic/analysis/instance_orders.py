"""Orders in which overlapping instances can be pasted, to compare a learned one with: pure functions on tensors."""

from collections.abc import Sequence

import torch
from torch import Tensor

MATCH_IOU = 0.5  # of an instance with what it is in the ground truth; more is needed
EXACT_CLASSES = 15  # half a second; twice the time for each more


def mask_iou(masks: Tensor, others: Tensor) -> Tensor:
    """IoU of every mask with every other, float32 of shape (N, M), for bool masks (N, H, W) and (M, H, W)."""
    flat, other_flat = masks.flatten(1).float(), others.flatten(1).float()
    shared = flat @ other_flat.T
    union = flat.sum(1)[:, None] + other_flat.sum(1)[None] - shared
    return shared / union.clamp(min=1)


def best_match(
    masks: Tensor, labels: Tensor, others: Tensor, other_labels: Tensor, least: float = 0.0, once: bool = False
) -> Tensor:
    """For each mask, the other of its class with the greatest IoU, or -1 where that is not above ``least``.

    Args:
        masks: bool of shape (N, H, W).
        labels: Their labels, (N,).
        others: bool of shape (M, H, W).
        other_labels: Their labels, (M,).
        least: IoU that has to be exceeded.
        once: Whether each of the others belongs to the mask that it overlaps best alone, -1 being all that is left
            to the masks which it would suit, too.

    Returns:
        Indices into ``others``, int64 of shape (N,).
    """
    if not len(masks) or not len(others):
        return torch.full((len(masks),), -1)
    iou = mask_iou(masks, others) * (labels[:, None] == other_labels[None])
    match = above(iou, least)
    if once:
        match[iou.argmax(dim=0)[match] != torch.arange(len(masks))] = -1
    return match


def above(iou: Tensor, least: float) -> Tensor:
    """Column of the greatest value in each row of an array (N, M), or -1 where that is not above ``least``: (N,)."""
    if not iou.numel():
        return torch.full((len(iou),), -1)
    value, index = iou.max(dim=1)
    return torch.where(value > least, index, -1)


def front_votes(masks: Tensor, shown: Tensor) -> Tensor:
    """How often one of two instances is seen where both are.

    Args:
        masks: Masks that may overlap, bool of shape (N, H, W).
        shown: Where each of them is what the panoptic ground truth shows, bool of shape (N, H, W).

    Returns:
        Pixels of shape (N, N), float32: [i, j] counts those in both masks that show i.
    """
    return (masks & shown).flatten(1).float() @ masks.flatten(1).float().T


def class_wins(votes: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Pairs of instances by class and by which of them is in front.

    Args:
        votes: See :func:`front_votes`.
        labels: Labels of shape (N,).
        num_classes: Number of classes C.

    Returns:
        int64 of shape (C, C): [a, b] counts the pairs whose instance of class a is in front of one of class b.
    """
    wins = torch.zeros((num_classes, num_classes), dtype=torch.int64)
    for front, back in (votes > votes.T).nonzero().tolist():
        if labels[front] != labels[back]:
            wins[labels[front], labels[back]] += 1
    return wins


def best_class_order(wins: Tensor) -> list[int]:
    """An order of the classes, the front one first, that contradicts few pairs.

    Of up to ``EXACT_CLASSES`` classes it is exact: no order contradicts fewer. Of more it is one that no move of a
    single class to another place betters.

    Args:
        wins: See :func:`class_wins`.

    Returns:
        Labels, all C of them. Of equally good orders the exact one has the classes with most pairs won less pairs lost
        in front.
    """
    margin = (wins - wins.T).tolist()
    start = sorted(range(len(wins)), key=lambda label: -sum(margin[label]))
    search = _exact_order if len(wins) <= EXACT_CLASSES else _improved_order
    return [start[place] for place in search([[margin[label][other] for other in start] for label in start])]


def _exact_order(margin: list[list[int]]) -> list[int]:
    """The order with the greatest sum of margins of those in front over those behind; of equals the first.

    Dynamic programme over sets of classes, written as bits: the best order of a set is one of its classes in front of
    the best order of the others. Its time and memory grow with C * 2^C.
    """
    gains = []  # by class and set: of standing in front of the set
    for row in margin:
        gains.append([0])
        for value in row:
            gains[-1] += [gain + value for gain in gains[-1]]
    best, front = [0], [-1]
    for members in range(1, 1 << len(margin)):
        gain, label = max(
            (gains[label][members] + best[members ^ 1 << label], -label)
            for label in range(len(margin))
            if members >> label & 1
        )
        best.append(gain)
        front.append(-label)
    order, members = [], len(best) - 1
    while members:
        order.append(front[members])
        members ^= 1 << order[-1]
    return order


def _improved_order(margin: list[list[int]]) -> list[int]:
    """From the order 0 to C - 1 on, one class is moved to another place as long as the sum of margins grows."""
    order = list(range(len(margin)))
    moved = True
    while moved:
        moved = False
        for label in tuple(order):
            rest = [other for other in order if other != label]
            # Gain of standing before all that follow and behind all that come before, for each place.
            gains = [sum(margin[label][other] for other in rest)]
            for other in rest:
                gains.append(gains[-1] - 2 * margin[label][other])
            place = max(range(len(gains)), key=gains.__getitem__)
            if gains[place] > gains[order.index(label)]:
                order = [*rest[:place], label, *rest[place:]]
                moved = True
    return order


def class_votes(masks: Tensor, labels: Tensor, order: Sequence[int], wins: Tensor) -> Tensor:
    """What a fixed order of classes says about overlapping instances, for :func:`order_by_votes`.

    Args:
        masks: bool of shape (N, H, W).
        labels: Labels of shape (N,).
        order: See :func:`best_class_order`.
        wins: See :func:`class_wins`; about two classes that never met the order says nothing.

    Returns:
        float32 of shape (N, N): [i, j] is 1 if i is to be in front of j, else 0.
    """
    place = torch.tensor(order).argsort()[labels]
    flat = masks.flatten(1).float()
    met = (wins + wins.T)[labels][:, labels] > 0
    return (met & (flat @ flat.T > 0) & (place[:, None] < place[None])).float()


def order_by_votes(votes: Tensor, scores: Tensor, candidates: Sequence[int]) -> list[int]:
    """Instances from front to back: who has more votes than another comes before it, and otherwise the more confident.

    Args:
        votes: See :func:`front_votes` (the true order, then) and :func:`class_votes`; of shape (N, N).
        scores: Confidence of shape (N,).
        candidates: The instances to order.

    Returns:
        The candidates in order. Of instances in a circle the most confident comes first.
    """
    in_front = votes > votes.T
    waiting = sorted(candidates, key=lambda index: (-float(scores[index]), index))
    order = []
    while waiting:
        free = (one for one in waiting if not any(in_front[other, one] for other in waiting))
        order.append(next(free, waiting[0]))
        waiting.remove(order[-1])
    return order


def true_order(masks: Tensor, match: Tensor, shown: Tensor, scores: Tensor, candidates: Sequence[int]) -> list[int]:
    """Instances from front to back as the ground truth has them; confidence decides where it says nothing.

    Args:
        masks: Masks of the instances, bool of shape (N, H, W).
        match: The thing of the ground truth that each instance is, (N,); -1 for none.
        shown: Where the ground truth shows each of its things, bool of shape (M, H, W).
        scores: Confidence of shape (N,).
        candidates: The instances to order.
    """
    seen = masks.new_zeros(masks.shape)
    seen[match >= 0] = shown[match[match >= 0]]
    return order_by_votes(front_votes(masks, seen), scores, candidates)
