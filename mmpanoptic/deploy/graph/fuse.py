"""Fusion heads that paste, as parts of a graph."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .paste import box_windows, fill, mask_windows, paste
from .ranking import ranking_scores, scripted_scores
from .segments import Segmented, Source, listed, with_stuff
from .stuff import StuffMap


class Instances(NamedTuple):
    """Instances above the fusion's ``score_thr``, best first, at the size of the output.

    Attributes:
        boxes: Of shape (N, 4), in pixels.
        scores, labels: Of shape (N,).
        probabilities: Of the masks in their boxes, of shape (N, h, w).
        threshold: Least probability of a pixel of a mask.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    probabilities: Tensor
    threshold: float

    def in_order(self, order: Tensor) -> 'Instances':
        """The same, in another order."""
        return Instances(*(values[order] for values in self[:4]), self.threshold)


def fuse(
    head: nn.Module,
    instances: Instances,
    stuff: StuffMap,
    input_size: tuple[Tensor, Tensor],
    ranking: Callable[..., Tensor] | None = None,
) -> Segmented:
    """What the fusion head makes of an image.

    Args:
        head: HeuristicFusion, BoxFillFusion or RankingFusion, with ``stuff_area_mode='segment'``.
        instances: What may be pasted.
        stuff: What is known about stuff.
        input_size: Height and width of the network's input without padding.
        ranking: What :func:`~.ranking.scripted_scores` makes of a RankingFusion.
    """
    shape = torch._shape_as_tensor(stuff.classes)
    instances = ordered(head, instances, (shape[0], shape[1]), input_size, ranking)
    sources, is_pasted = paste(
        torch.zeros_like(stuff.classes),
        instances.probabilities,
        instances.boxes,
        mask_windows(instances.boxes, shape[0], shape[1]),
        instances.threshold,
        head.overlap_thr,
    )
    source = Source(instances.labels, instances.scores, head.num_things_classes, head.num_stuff_classes)
    sources = with_stuff(sources, stuff.classes, source, head.stuff_area_limit)
    numbers = is_pasted.long().cumsum(0) * is_pasted
    if hasattr(head, 'box_fill_thr'):
        sources, is_filled = fill(sources, box_windows(instances.boxes, shape[0], shape[1]), head.box_fill_thr)
        is_new = is_filled & ~is_pasted
        numbers = torch.where(is_new, is_new.long().cumsum(0) + is_pasted.long().sum(), numbers)
    return listed(sources, source, numbers, stuff.rating)


def ordered(
    head: nn.Module, instances: Instances, output_size: tuple, input_size: tuple, ranking: Callable[..., Tensor] | None
) -> Instances:
    """Instances in the order in which the head pastes them."""
    if ranking is not None:
        ranks = ranking_scores(ranking, head, instances, output_size, input_size)
        return instances.in_order(falling(ranks))
    if hasattr(head, 'box_fill_thr'):  # of equals, by class
        by_class = instances.in_order(falling(-instances.labels.float()))
        return by_class.in_order(falling(by_class.scores))
    return instances


def falling(keys: Tensor) -> Tensor:
    """Indices that sort keys (N,) from the largest on; a runtime's TopK keeps the order of equals."""
    return keys.sort(descending=True)[1]


def scripted_ranking(head: nn.Module) -> Callable[..., Tensor] | None:
    """What :func:`fuse` needs of a RankingFusion; None of other heads."""
    return scripted_scores(head) if hasattr(head, 'ranking') else None
