"""Pasting instances into a panoptic map: pure functions on tensors.

The map is made on the CPU, in numpy: many small steps that each need one count gain nothing from torch's threads. On a
GPU such steps are slow; :mod:`~.groups` makes the same map there. No function modifies its arguments. Maps are encoded
as in :mod:`mmpanoptic.models.fusion.segments`.

Source: Kirillov et al., Panoptic Segmentation, section 7, https://arxiv.org/abs/1801.00868; details as in
https://github.com/cocodataset/panopticapi/blob/master/combine_semantic_and_instance_predictions.py
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from mmpanoptic.models.fusion.segments import thing_id
from mmpanoptic.models.fusion.transfer import fetch


def order_instances(scores: Tensor, score_thr: float, rank_scores: Tensor | None = None) -> list[int]:
    """Indices of the instances that are confident enough, in the order of pasting.

    Args:
        scores: Confidence of shape (N,). Instances with ``score >= score_thr`` are kept.
        score_thr: Least confidence.
        rank_scores: Values to sort by, of shape (N,), the largest first; None: sort by confidence.

    Returns:
        Indices into the instances. Ties are sorted by confidence, then by index.
    """
    kept = (scores >= score_thr).nonzero().flatten()
    for keys in (scores, rank_scores):
        if keys is not None:
            kept = kept[keys[kept].sort(descending=True, stable=True).indices]
    return kept.tolist()


def require_masks(masks: Tensor) -> None:
    """Refuse tensors that are not masks, such as probabilities.

    Raises:
        TypeError: If they are neither bool nor uint8.
    """
    if masks.dtype not in (torch.bool, torch.uint8):
        raise TypeError(f'masks must be bool or uint8, not {masks.dtype}')


def bounds_of(masks: Tensor) -> Tensor:
    """Tight bounds of masks, on their device.

    Args:
        masks: Masks, bool or uint8 of shape (N, H, W).

    Returns:
        (top, bottom, left, right) of each mask in pixels, bottom and right exclusive; all 0 for an empty mask. int64 of
        shape (N, 4).

    Raises:
        TypeError: If masks are of another type, such as probabilities.
    """
    require_masks(masks)
    if not masks.numel():
        return masks.new_zeros((len(masks), 4), dtype=torch.int64)
    height, width = masks.shape[1:]
    masks = masks.view(torch.uint8)  # amax over bytes is several times as fast as any over bools on a CPU
    rows, columns = ((masks.amax(dim=dim) > 0).view(torch.uint8) for dim in (2, 1))
    bounds = [
        rows.argmax(dim=1),  # the first of equals
        height - rows.flip(1).argmax(dim=1),
        columns.argmax(dim=1),
        width - columns.flip(1).argmax(dim=1),
    ]
    return torch.stack(bounds, dim=1) * rows.amax(dim=1, keepdim=True)


def mask_bounds(masks: Tensor) -> list[tuple[int, int, int, int]]:
    """Result of :func:`bounds_of` as numbers, in one transfer."""
    (bounds,) = fetch(bounds_of(masks))
    return [tuple(bound) for bound in bounds.tolist()]


def paste_instances(
    masks: Tensor, labels: Sequence[int], order: Sequence[int], overlap_thr: float, void: int
) -> tuple[Tensor, list[int]]:
    """Paste instances one after another, each on the pixels that earlier instances have left.

    An instance is dropped if ``covered / area > overlap_thr``, where ``covered`` counts the taken pixels of its mask.
    The quotient is that of two integers in double precision, as in the official script, so 37 covered pixels
    of 100 are not more than .37. A dropped instance takes no pixels. An instance without any free pixel (possible only
    for thresholds of 1 and above) has no segment either.

    Args:
        masks: Masks, bool or uint8 (set where not 0) of shape (N, H, W) on the CPU.
        labels: Contiguous label of each instance, N of them.
        order: Indices of the instances to paste, the first one on top.
        overlap_thr: Largest part of an instance that may be covered.
        void: Value of a pixel that no instance has.

    Returns:
        The panoptic map, int32 of shape (H, W) on the CPU, and ``pasted``.
    """
    panoptic = np.full(masks.shape[1:], void, np.int32)
    bounds = mask_bounds(masks)
    pasted: list[int] = []
    for index in order:
        top, bottom, left, right = bounds[index]
        if top == bottom:
            continue
        window = panoptic[top:bottom, left:right]
        mask = masks[index, top:bottom, left:right].bool().numpy()
        free = mask & (window == void)
        area, num_free = int(np.count_nonzero(mask)), int(np.count_nonzero(free))
        if (area - num_free) / area > overlap_thr or num_free == 0:
            continue
        pasted.append(index)
        window[free] = thing_id(labels[index], len(pasted))
    return torch.from_numpy(panoptic), pasted
