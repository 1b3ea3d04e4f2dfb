"""Graphs of the fusion heads that paste masks."""

from collections.abc import Callable

import torch
from torch import Tensor

from mmpanoptic.models import BaseFusionHead
from mmpanoptic.models.fusion.ranking.scores import by_confidence_in_classes

from .instances import Instances
from .paste import box_windows, fill, mask_windows, paste
from .ranking import ranking_scores, scripted_scores
from .segments import Segmented, Source, listed, with_stuff
from .sizes import Size, size_of
from .stuff import StuffMap


def fuse(
    head: BaseFusionHead,
    instances: Instances,
    stuff: StuffMap,
    input_size: Size,
    ranking: Callable[..., Tensor] | None = None,
) -> Segmented:
    """Fuse instances and stuff of an image into segments.

    Args:
        head: HeuristicFusion, BoxFillFusion or RankingFusion, with ``stuff_area_mode='segment'``.
        instances: Instances that may be pasted.
        stuff: The stuff class of each pixel.
        input_size: Height and width of the network's input without padding.
        ranking: Result of :func:`~.ranking.scripted_scores` for a RankingFusion.
    """
    size = size_of(stuff.classes)
    instances = ordered(head, instances, size, input_size, ranking)
    sources, is_pasted = paste(
        torch.zeros_like(stuff.classes),
        instances.probabilities,
        instances.boxes,
        mask_windows(instances.boxes, *size),
        instances.threshold,
        head.overlap_thr,
    )
    source = Source(instances.labels, instances.scores, head.num_things_classes, head.num_stuff_classes)
    sources = with_stuff(sources, stuff.classes, source, head.stuff_area_limit)
    numbers = is_pasted.long().cumsum(0) * is_pasted
    if hasattr(head, 'box_fill_thr'):
        sources, is_filled = fill(sources, box_windows(instances.boxes, *size), head.box_fill_thr)
        is_new = is_filled & ~is_pasted
        numbers = torch.where(is_new, is_new.long().cumsum(0) + is_pasted.long().sum(), numbers)
    return listed(sources, source, numbers, stuff.rating)


def ordered(
    head: BaseFusionHead,
    instances: Instances,
    output_size: Size,
    input_size: Size,
    ranking: Callable[..., Tensor] | None,
) -> Instances:
    """Instances in the order in which the head pastes them."""
    if ranking is not None:
        ranks = ranking_scores(ranking, head, instances, output_size, input_size)
        if head.within_class == 'score':
            ranks = by_confidence_in_classes(ranks, instances.scores, instances.labels)
        return instances.in_order(falling(ranks))
    if hasattr(head, 'box_fill_thr'):  # of equal scores, by class
        by_class = instances.in_order(falling(-instances.labels.float()))
        return by_class.in_order(falling(by_class.scores))
    return instances


def falling(keys: Tensor) -> Tensor:
    """Indices that sort keys (N,) from the largest to the smallest. TopK of runtimes keeps the order of equal keys."""
    return keys.sort(descending=True)[1]


def scripted_ranking(head: BaseFusionHead) -> Callable[..., Tensor] | None:
    """The ``ranking`` of :func:`fuse` for a RankingFusion; None for other heads."""
    return scripted_scores(head) if hasattr(head, 'ranking') else None
