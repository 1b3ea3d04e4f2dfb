"""Fusion by detection score that also gives remaining void pixels to detected boxes."""

from collections.abc import Sequence

import numpy as np
import torch
from mmengine.structures import InstanceData
from torch import Tensor

from mmpanoptic.models.fusion.segments import thing_id
from mmpanoptic.registry import MODELS
from mmpanoptic.structures import Evidence

from . import groups
from .heuristic_fusion import HeuristicFusion
from .instances import order_instances


def fill_boxes(
    panoptic: Tensor,
    boxes: Tensor,
    labels: Sequence[int],
    order: Sequence[int],
    pasted: Sequence[int],
    share_thr: float,
    void: int,
) -> tuple[Tensor, list[int]]:
    """Give the void pixels of each box to the box's instance if they are a large part of the box.

    A box covers the pixels from its truncated left and top coordinates up to, not including, its truncated right and
    bottom coordinates. A box without pixels is skipped.

    Args:
        panoptic: Panoptic map, int32 of shape (H, W) on the CPU.
        boxes: Boxes (left, top, right, bottom) in pixels, of shape (N, 4).
        labels: Contiguous label of each instance, N of them.
        order: Indices of the instances whose boxes are filled, in this order.
        pasted: Indices of the instances that the map holds, see :mod:`mmpanoptic.models.fusion.segments`.
        share_thr: A box is filled if at least this part of its pixels is void.
        void: Value of a void pixel.

    Returns:
        The new panoptic map and the new ``pasted``, to which instances that had no segment are added.
    """
    filled = panoptic.numpy().copy()
    pasted = list(pasted)
    numbers = {index: k for k, index in enumerate(pasted, 1)}
    is_free = filled == void
    corners = boxes.detach().cpu().numpy().clip(min=0).astype(np.int64).tolist()
    for index in order:
        left, top, right, bottom = corners[index]
        free = is_free[top:bottom, left:right]
        if not free.size:
            continue
        num_free = int(np.count_nonzero(free))
        if num_free == 0 or num_free / free.size < share_thr:
            continue
        if index not in numbers:
            pasted.append(index)
            numbers[index] = len(pasted)
        filled[top:bottom, left:right][free] = thing_id(labels[index], numbers[index])
        free[:] = False
    return torch.from_numpy(filled), pasted


@MODELS.register_module()
class BoxFillFusion(HeuristicFusion):
    """:class:`HeuristicFusion`, then void pixels inside detected boxes go to the boxes' instances.

    Instances that the overlap test dropped or whose masks are empty may get a segment that way; instances below
    ``score_thr`` never do. The instances need ``bboxes`` at the size of their masks.

    Source: Chen et al., SpatialFlow, https://arxiv.org/abs/1910.08787; https://github.com/chensnathan/SpatialFlow

    Args:
        args, kwargs: See :class:`HeuristicFusion`.
        box_fill_thr: A box is filled if at least this part of its pixels is void.
    """

    fields = ('scores', 'labels', 'bboxes')

    needs_things = True

    def __init__(self, *args, box_fill_thr: float = 0.5, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.box_fill_thr = box_fill_thr

    def _order(self, evidence: Evidence, scores: Tensor, labels: Tensor) -> tuple[list[int], dict[str, list[float]]]:
        """By descending score; ties by class, then by index, as in the released code."""
        by_class = labels.sort(stable=True).indices
        return by_class[order_instances(scores[by_class], self.score_thr)].tolist(), {}

    def _complete(
        self, panoptic: Tensor, pasted: list[int], seen: InstanceData, order: Sequence[int], semantic: Tensor
    ) -> tuple[Tensor, list[int], list[int]]:
        panoptic, pasted, stuff = super()._complete(panoptic, pasted, seen, order, semantic)
        if not order:
            return panoptic, pasted, stuff
        labels = seen.labels.tolist()
        filled = fill_boxes(panoptic, seen.bboxes, labels, order, pasted, self.box_fill_thr, self.num_classes)
        return *filled, stuff

    def _planes(self, instances: InstanceData) -> list[Tensor]:
        """Packed masks and packed boxes."""
        return [*super()._planes(instances), groups.pack_boxes(instances.bboxes, instances.masks.shape[1:])]

    def _decide(
        self, grouped: groups.PixelGroups, labels: list[int], order: Sequence[int]
    ) -> tuple[np.ndarray, list[int], list[int]]:
        values, pasted, stuff = super()._decide(grouped, labels, order)
        share_thr, void = self.box_fill_thr, self.num_classes
        return *groups.fill_boxes(grouped, values, labels, order, pasted, share_thr, void), stuff
