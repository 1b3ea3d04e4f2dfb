"""Paste masks and fill boxes, by loops over the instances that work only within the window of each instance.

A map of sources is int64 of shape (H, W): 0 for free pixels, i + 1 for the instance that is pasted i-th, counted from
0, and N + 1 + s for stuff class s.
"""

import torch
from torch import Tensor


def mask_windows(boxes: Tensor, height: Tensor, width: Tensor) -> Tensor:
    """Windows that mmdet's ``_do_paste_mask`` computes: (top, bottom, left, right), int64 of shape (N, 4)."""
    left, top, right, bottom = boxes.unbind(1)
    left, top = ((side.floor() - 1).clamp(min=0).int().long() for side in (left, top))
    right, bottom = (
        torch.minimum(side.ceil() + 1, limit.to(side.dtype)).int().long()
        for side, limit in ((right, width), (bottom, height))
    )
    return torch.stack([top, torch.maximum(top, bottom), left, torch.maximum(left, right)], dim=1)


@torch.jit.script
def hat(first: int, last: int, low: Tensor, high: Tensor, cells: int) -> Tensor:
    """Bilinear weights of ``cells`` cells between ``low`` and ``high`` at the pixels ``first`` to ``last`` - 1.

    The matrix has shape (pixels, cells) and acts along one axis as ``grid_sample`` without ``align_corners`` does. The
    weights of pixels outside are 0.
    """
    place = (torch.arange(first, last).to(torch.float32) + 0.5 - low) / (high - low) * 2 - 1
    place = torch.where(place.abs() == float('inf'), torch.zeros_like(place), place)
    place = ((place + 1) * cells - 1) / 2
    return (1 - (place[:, None] - torch.arange(cells).to(torch.float32)).abs()).clamp(min=0)


@torch.jit.script
def replaced(image: Tensor, window: Tensor, top: int, bottom: int, left: int, right: int) -> Tensor:
    """Copy an image with other values in a window."""
    height, width = image.shape[0], image.shape[1]  # slices without an end overflow the exporter's shape inference
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
        probabilities: Mask probabilities of shape (N, h, w), in the order of pasting.
        boxes: Boxes in pixels of the map, of shape (N, 4).
        windows: See :func:`mask_windows`.
        threshold: Least probability of a pixel of a mask.
        overlap_thr: Largest share of an instance that may be covered.

    Returns:
        The map of sources, and whether each instance was pasted, bool of shape (N,).
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
    """Windows that :func:`~mmpanoptic.models.fusion.paste.box_fill_fusion.fill_boxes` fills, as ``mask_windows``."""
    limits = torch.stack([width, height, width, height])
    left, top, right, bottom = torch.minimum(boxes.clamp(min=0).long(), limits).unbind(1)
    return torch.stack([top, torch.maximum(top, bottom), left, torch.maximum(left, right)], dim=1)


@torch.jit.script
def fill(sources: Tensor, windows: Tensor, share_thr: float) -> tuple[Tensor, Tensor]:
    """Give the free pixels of each box to its instance, if they are a large share of the box, box after box.

    Args:
        sources: Map of sources, int64 of shape (H, W).
        windows: Windows of :func:`box_windows`, of shape (N, 4), in the order of filling.
        share_thr: Least share of a box's pixels that must be free.

    Returns:
        The new map, and whether each instance got pixels, bool of shape (N,).
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
