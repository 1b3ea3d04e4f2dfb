"""Orders of pasting overlapping instances, to compare with a learned order; pure functions on tensors."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

MATCH_IOU = 0.5  # an instance matches a thing of the ground truth if their IoU is greater
EXACT_CLASSES = 15  # half a second; the time doubles with each further class


def mask_iou(masks: Tensor, others: Tensor) -> Tensor:
    """IoU of all pairs of masks, float32 of shape (N, M), for bool masks of shape (N, H, W) and (M, H, W)."""
    flat, other_flat = masks.flatten(1).float(), others.flatten(1).float()
    shared = flat @ other_flat.T
    union = flat.sum(1)[:, None] + other_flat.sum(1)[None] - shared
    return shared / union.clamp(min=1)


def best_match(
    masks: Tensor, labels: Tensor, others: Tensor, other_labels: Tensor, least: float = 0.0, once: bool = False
) -> Tensor:
    """Match each mask with the one in ``others`` that has its class and the greatest IoU above ``least``.

    Args:
        masks: bool of shape (N, H, W).
        labels: Labels of ``masks``, of shape (N,).
        others: bool of shape (M, H, W).
        other_labels: Labels of ``others``, of shape (M,).
        least: IoU that has to be exceeded.
        once: Whether each of ``others`` matches one mask only, the one with the greatest IoU. Further masks get -1.

    Returns:
        Indices into ``others``, int64 of shape (N,); -1 without a match.
    """
    if not len(masks) or not len(others):
        return torch.full((len(masks),), -1)
    iou = mask_iou(masks, others) * (labels[:, None] == other_labels[None])
    match = above(iou, least)
    if once:
        match[iou.argmax(dim=0)[match] != torch.arange(len(masks))] = -1
    return match


def above(iou: Tensor, least: float) -> Tensor:
    """Column of the greatest value in each row of an (N, M) tensor; -1 if that is not above ``least``. Shape (N,)."""
    if not iou.numel():
        return torch.full((len(iou),), -1)
    value, index = iou.max(dim=1)
    return torch.where(value > least, index, -1)


def front_votes(masks: Tensor, shown: Tensor) -> Tensor:
    """Count, for each pair of overlapping instances, the pixels of the overlap at which each one is visible.

    Args:
        masks: Masks that may overlap, bool of shape (N, H, W).
        shown: Pixels that belong to each instance in the panoptic ground truth, bool of shape (N, H, W).

    Returns:
        float32 of shape (N, N): [i, j] counts the pixels in both masks at which i is visible.
    """
    return (masks & shown).flatten(1).float() @ masks.flatten(1).float().T


def class_wins(votes: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Count pairs of overlapping instances by the classes of the one in front and the one behind.

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
    """An order of the classes, the front one first, that few pairs of instances contradict.

    With up to ``EXACT_CLASSES`` classes it is optimal. With more, it is a local optimum: moving a single class to
    another place does not improve it.

    Args:
        wins: See :func:`class_wins`.

    Returns:
        All C labels. Ties between optimal orders put classes with more pairs won minus pairs lost in front.
    """
    margin = (wins - wins.T).tolist()
    start = sorted(range(len(wins)), key=lambda label: -sum(margin[label]))
    search = _exact_order if len(wins) <= EXACT_CLASSES else _improved_order
    return [start[place] for place in search([[margin[label][other] for other in start] for label in start])]


def _exact_order(margin: list[list[int]]) -> list[int]:
    """The order that maximises the sum of margins of each class over the classes behind it; the first one of ties.

    Dynamic programming over sets of classes, coded as bits: the best order of a set is one of its classes, followed by
    the best order of the others. Time and memory grow with C * 2^C.
    """
    gains = []  # by class and set: gain of a class in front of the set
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
    """Start with the order 0 to C - 1 and move single classes while the sum of margins grows."""
    order = list(range(len(margin)))
    moved = True
    while moved:
        moved = False
        for label in tuple(order):
            rest = [other for other in order if other != label]
            # Gain of each place: the margins over classes behind it minus those over classes in front of it.
            gains = [sum(margin[label][other] for other in rest)]
            for other in rest:
                gains.append(gains[-1] - 2 * margin[label][other])
            place = max(range(len(gains)), key=gains.__getitem__)
            if gains[place] > gains[order.index(label)]:
                order = [*rest[:place], label, *rest[place:]]
                moved = True
    return order


def class_votes(masks: Tensor, labels: Tensor, order: Sequence[int], wins: Tensor) -> Tensor:
    """Votes of a fixed order of classes on overlapping instances, for :func:`order_by_votes`.

    Args:
        masks: bool of shape (N, H, W).
        labels: Labels of shape (N,).
        order: See :func:`best_class_order`.
        wins: See :func:`class_wins`. There is no vote on two classes that never overlapped in it.

    Returns:
        float32 of shape (N, N): [i, j] is 1 if i belongs in front of j, else 0.
    """
    place = torch.tensor(order).argsort()[labels]
    flat = masks.flatten(1).float()
    met = (wins + wins.T)[labels][:, labels] > 0
    return (met & (flat @ flat.T > 0) & (place[:, None] < place[None])).float()


def order_by_votes(votes: Tensor, scores: Tensor, candidates: Sequence[int]) -> list[int]:
    """Instances from front to back: of each pair, the one with more votes comes first; confidence decides ties.

    Args:
        votes: Result of :func:`front_votes`, which gives the true order, or :func:`class_votes`; of shape (N, N).
        scores: Confidence of shape (N,).
        candidates: Indices of the instances to order.

    Returns:
        The candidates in order. If votes form a cycle, the most confident instance comes first.
    """
    in_front = votes > votes.T
    waiting = sorted(candidates, key=lambda index: (-float(scores[index]), index))
    order = []
    while waiting:
        free = (index for index in waiting if not any(in_front[other, index] for other in waiting))
        order.append(next(free, waiting[0]))
        waiting.remove(order[-1])
    return order


def true_votes(masks: Tensor, match: Tensor, shown: Tensor) -> Tensor:
    """Votes of the ground truth on predicted instances, see :func:`front_votes`.

    Args:
        masks: Masks of the instances, bool of shape (N, H, W).
        match: Index of the thing of the ground truth that each instance matches, of shape (N,); -1 for none.
        shown: Pixels that belong to each thing in the panoptic ground truth, bool of shape (M, H, W).
    """
    seen = masks.new_zeros(masks.shape)
    seen[match >= 0] = shown[match[match >= 0]]
    return front_votes(masks, seen)


def true_order(masks: Tensor, match: Tensor, shown: Tensor, scores: Tensor, candidates: Sequence[int]) -> list[int]:
    """Instances from front to back as in the ground truth; confidence decides pairs that it does not order.

    Args:
        masks, match, shown: See :func:`true_votes`.
        scores: Confidence of shape (N,).
        candidates: Indices of the instances to order.
    """
    return order_by_votes(true_votes(masks, match, shown), scores, candidates)


def shown_by_class(order: Sequence[int], votes: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Count pixels in overlaps of two instances that belong to one of them, and those that ``order`` gives to it.

    Args:
        order: Instances from front to back. Overlaps with an instance that is not in it do not count.
        votes: See :func:`true_votes`, of shape (N, N).
        labels: Labels of shape (N,).
        num_classes: Number of classes C.

    Returns:
        int64 of shape (2, C, C): the pixels that ``order`` gives to the right instance, and all. [a, b] is for pixels
        that truly show an instance of class a where it overlaps one of class b.
    """
    chosen = torch.tensor(list(order), dtype=torch.long)
    pixels = votes.double()[chosen][:, chosen].fill_diagonal_(0)
    of_class = F.one_hot(labels[chosen], num_classes).double()
    return torch.stack([of_class.T @ counted @ of_class for counted in (pixels.triu(), pixels)]).long()
