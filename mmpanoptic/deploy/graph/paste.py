"""Instances and stuff to one map, instance by instance: loops of the graph, each in the window of an instance.

A map of sources is int64 of shape (H, W): 0 where nothing is, i + 1 for the instance at place i of the order in which
they are pasted, N + 1 + s for stuff class s.
"""

import torch
from torch import Tensor


def mask_windows(boxes: Tensor, height: Tensor, width: Tensor) -> Tensor:
    """Rows and columns that mmdet's ``_do_paste_mask`` looks at: (top, bottom, left, right), int64 of shape (N, 4)."""
    left, top, right, bottom = boxes.unbind(1)
    left, top = ((side.floor() - 1).clamp(min=0).int().long() for side in (left, top))
    right, bottom = (
        torch.minimum(side.ceil() + 1, limit.to(side.dtype)).int().long()
        for side, limit in ((right, width), (bottom, height))
    )
    return torch.stack([top, torch.maximum(top, bottom), left, torch.maximum(left, right)], dim=1)


@torch.jit.script
def hat(first: int, last: int, low: Tensor, high: Tensor, cells: int) -> Tensor:
    """Weights of ``cells`` cells between ``low`` and ``high`` at the pixels ``first`` to ``last``: bilinear, 0 outside.

    Of shape (pixels, cells); what ``grid_sample`` does without aligned corners, as a matrix of one axis.
    """
    place = (torch.arange(first, last).to(torch.float32) + 0.5 - low) / (high - low) * 2 - 1
    place = torch.where(place.abs() == float('inf'), torch.zeros_like(place), place)
    place = ((place + 1) * cells - 1) / 2
    return (1 - (place[:, None] - torch.arange(cells).to(torch.float32)).abs()).clamp(min=0)


@torch.jit.script
def replaced(image: Tensor, window: Tensor, top: int, bottom: int, left: int, right: int) -> Tensor:
    """An image with other values in a window."""
    height, width = image.shape[0], image.shape[1]  # an open end makes the exporter's shape inference overflow
    rows = image[top:bottom]
    rows = torch.cat([rows[:, 0:left], window, rows[:, right:width]], dim=1)
    return torch.cat([image[0:top], rows, image[bottom:height]], dim=0)


@torch.jit.script
def paste(
    sources: Tensor, probabilities: Tensor, boxes: Tensor, windows: Tensor, threshold: float, overlap_thr: float
) -> tuple[Tensor, Tensor]:
    """Paste instances one after another, as :func:`mmpanoptic.models.fusion.paste.instances.paste_instances`.

    Args:
        sources: Zeros, int64 of shape (H, W).
        probabilities: Of masks, of shape (N, h, w), in the order in which they are pasted.
        boxes: In pixels of the map, of shape (N, 4).
        windows: See :func:`mask_windows`.
        threshold: Least probability of a pixel of a mask.
        overlap_thr: Largest part of an instance that may be covered.

    Returns:
        The map of sources, and whether it has an instance, bool of shape (N,).
    """
    numbers = torch.arange(probabilities.shape[0])
    is_pasted = numbers < 0
    for index in range(probabilities.shape[0]):
        top, bottom = int(windows[index, 0]), int(windows[index, 1])
        left, right = int(windows[index, 2]), int(windows[index, 3])
        box, mask = boxes[index], probabilities[index]
        rows = hat(top, bottom, box[1], box[3], mask.shape[0])
        columns = hat(left, right, box[0], box[2], mask.shape[1])
        inside = torch.matmul(torch.matmul(rows, mask), columns.t()) >= threshold
        old = sources[top:bottom, left:right]
        free = inside & (old == 0)
        area, num_free = inside.sum().reshape(1).double(), free.sum().reshape(1).double()
        keeps = (num_free > 0) & ~((area - num_free) / area > overlap_thr)
        new = torch.where(free & keeps, index + 1, old)
        sources = replaced(sources, new, top, bottom, left, right)
        is_pasted = is_pasted | ((numbers == index) & keeps)
    return sources, is_pasted


def box_windows(boxes: Tensor, height: Tensor, width: Tensor) -> Tensor:
    """Pixels that :func:`~mmpanoptic.models.fusion.paste.box_fill_fusion.fill_boxes` counts, as ``mask_windows``."""
    limits = torch.stack([width, height, width, height])
    left, top, right, bottom = torch.minimum(boxes.clamp(min=0).long(), limits).unbind(1)
    return torch.stack([top, torch.maximum(top, bottom), left, torch.maximum(left, right)], dim=1)


@torch.jit.script
def fill(sources: Tensor, windows: Tensor, share_thr: float) -> tuple[Tensor, Tensor]:
    """Give free pixels of a box to its instance where they are a large part of the box, box after box.

    Args:
        sources: Map of sources, int64 of shape (H, W).
        windows: See :func:`box_windows`, of shape (N, 4), in the order in which boxes are filled.
        share_thr: Least part of a box's pixels that is free.

    Returns:
        The new map, and whether an instance got pixels, bool of shape (N,).
    """
    numbers = torch.arange(windows.shape[0])
    is_filled = numbers < 0
    for index in range(windows.shape[0]):
        top, bottom = int(windows[index, 0]), int(windows[index, 1])
        left, right = int(windows[index, 2]), int(windows[index, 3])
        old = sources[top:bottom, left:right]
        free = old == 0
        num_free, area = free.sum().reshape(1).double(), torch.ones_like(old).sum().reshape(1).double()
        fills = (num_free > 0) & ~(num_free / area < share_thr)
        new = torch.where(free & fills, index + 1, old)
        sources = replaced(sources, new, top, bottom, left, right)
        is_filled = is_filled | ((numbers == index) & fills)
    return sources, is_filled
