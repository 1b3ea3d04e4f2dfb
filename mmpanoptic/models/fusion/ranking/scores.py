"""From overlapping masks to the order in which instances are pasted, on plain tensors.

The *grid* is what the ranking module works on: the network's input, or every n-th pixel of it. A cell takes the masks'
values at its centre.

Source: Liu et al., An End-to-End Network for Panoptic Segmentation, section 3.3, https://arxiv.org/abs/1903.05027. The
indicator of its equation 4 is printed inverted; here it is 1 inside the mask.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from mmpanoptic.models.fusion.paste.instances import bounds_of, mask_bounds

from .at_once import Window, join_at_once, scores_at_once

CONFLICTS = ('class', 'instance')
SCORE_REGIONS = ('mask', 'conflict')
IGNORED = 255
#: Sums of exponentials that are far from both ends of float32: the logits need no shift before the softmax.
SAFE_SUMS = (1e-20, 1e20)
#: Cells of a strip: on a CPU, where it is in the caches, and elsewhere, where all of an image of COCO's size is one. Of
#: that, a map of 80 classes takes 0.34 GB, and three are held.
STRIP_PIXELS, GPU_STRIP_PIXELS = 2**18, 2**21


def sample_at_centres(maps: Tensor, grid: tuple[int, int]) -> Tensor:
    """Values of maps of shape (..., H, W) at the centres of a grid's cells, of shape (..., *grid)."""
    if tuple(maps.shape[-2:]) == tuple(grid):
        return maps
    rows, columns = _pixels_at_centres(maps.shape[-2:], grid, maps.device)
    return maps.index_select(-2, rows).index_select(-1, columns)


def sample_masks(masks: Tensor, grid: tuple[int, int]) -> Tensor:
    """:func:`sample_at_centres` for bool masks of shape (N, H, W), several times as fast on a CPU."""
    if tuple(masks.shape[1:]) == tuple(grid) or masks.device.type != 'cpu':
        return sample_at_centres(masks, grid)
    rows, columns = (pixels.numpy() for pixels in _pixels_at_centres(masks.shape[1:], grid))
    sampled = np.zeros((len(masks), *grid), np.uint8)
    for its_sampled, mask in zip(sampled, masks.view(torch.uint8).numpy(), strict=True):
        filled = np.flatnonzero(mask.max(axis=1))  # most masks are small: no other row has anything
        if filled.size:
            part = slice(*np.searchsorted(rows, (filled[0], filled[-1] + 1)))
            its_sampled[part] = mask[rows[part]].take(columns, axis=1)
    return torch.from_numpy(sampled).view(torch.bool)


def with_a_cell_each(sampled: Tensor, masks: Tensor) -> Tensor:
    """Sampled masks, in which each that is set anywhere has a cell.

    Args:
        sampled: What :func:`sample_masks` gave, of shape (N, h, w).
        masks: What it was given, bool of shape (N, H, W).

    Returns:
        ``sampled``, changed where a mask lies between the centres of cells: it has the cell at its own centre.
    """
    (*_, height, width), (*_, rows, columns) = masks.shape, sampled.shape
    if rows >= height and columns >= width:  # every pixel is at the centre of a cell
        return sampled
    unseen = ~_is_set(bounds_of(sampled))
    if masks.device.type == 'cpu':  # nearly all are seen: no need to read them all once more
        index = unseen.nonzero().flatten()
        masks, unseen = masks[index], unseen[index]
    else:
        index = torch.arange(len(masks), device=masks.device)
    bounds = bounds_of(masks)
    top, bottom, left, right = bounds.T
    row, column = ((first + last) // 2 * cells // pixels for first, last, cells, pixels in
                   ((top, bottom, rows, height), (left, right, columns, width)))  # fmt: skip
    sampled[index, row, column] |= unseen & _is_set(bounds)
    return sampled


def _is_set(bounds: Tensor) -> Tensor:
    """Whether masks of these bounds, of shape (N, 4), have a pixel."""
    return bounds[:, 0] < bounds[:, 1]


def _pixels_at_centres(
    size: tuple[int, int], grid: tuple[int, int], device: torch.device | str = 'cpu'
) -> list[Tensor]:
    """Rows and columns of a map of that size in which the centres of a grid's cells lie."""
    return [
        ((2 * torch.arange(cells, device=device) + 1) * pixels).div(2 * cells, rounding_mode='floor')
        for pixels, cells in zip(size, grid, strict=True)
    ]


def sampled_bounds(sampled: Tensor, masks: Tensor) -> list[Window]:
    """Bounds of masks on the grid, see :func:`mask_bounds`.

    Args:
        sampled: Masks on the grid, bool of shape (N, h, w).
        masks: What they were sampled from, bool of shape (N, H, W). Of the two, the smaller one is read.
    """
    (*_, height, width), (*_, rows, columns) = masks.shape, sampled.shape
    if rows <= height or columns <= width:
        return mask_bounds(sampled)
    centres = [pixels.numpy() for pixels in _pixels_at_centres((height, width), (rows, columns))]
    bounds = np.array(mask_bounds(masks)).reshape(-1, 2, 2)  # every row and column of a mask is on a finer grid
    on_grid = [np.searchsorted(pixels, sides) for pixels, sides in zip(centres, bounds.swapaxes(0, 1), strict=True)]
    return [tuple(bound) for bound in np.concatenate(on_grid, axis=1).tolist()]


def instance_tensor(masks: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Where which class has an instance.

    Args:
        masks: Masks that may overlap, bool of shape (N, H, W).
        labels: Thing labels of shape (N,).

    Returns:
        The instance tensor without its empty channels, bool of shape (P, H, W), and the classes of its P channels,
        rising, int64.
    """
    classes, channels = labels.unique(return_inverse=True)
    return join_masks(masks, channels, len(classes)), classes


def join_masks(masks: Tensor, channels: Tensor, num_channels: int, bounds: list[Window] | None = None) -> Tensor:
    """Where any mask of a channel is, bool of shape (P, H, W).

    Args:
        masks: Masks that may overlap, bool of shape (N, H, W).
        channels: Channel of each mask, from 0 to P - 1, of shape (N,).
        num_channels: P.
        bounds: Bounds of the masks, if they are known: nothing else is read then on a CPU.
    """
    if masks.device.type != 'cpu':
        return join_at_once(masks, channels, num_channels)
    tensor = masks.new_zeros((num_channels, *masks.shape[1:]), dtype=torch.bool)
    whole = (0, masks.shape[1], 0, masks.shape[2])
    for channel, mask, (top, bottom, left, right) in zip(
        channels.tolist(), masks, bounds or [whole] * len(masks), strict=True
    ):
        tensor[channel, top:bottom, left:right] |= mask[top:bottom, left:right]
    return tensor


def conflict_pixels(maps: Tensor) -> Tensor:
    """Pixels that are set in two or more of the maps, bool of shape (H, W).

    Args:
        maps: bool of shape (N, H, W): an instance tensor for conflicts of classes, masks for those of instances.
    """
    return maps.sum(dim=0, dtype=torch.int16) >= 2


def ranking_labels(conflict: Tensor, sem_seg: Tensor, num_things: int) -> Tensor:
    """What the ranking module has to say: the thing that is seen where there is a conflict, elsewhere 255, ignored.

    Args:
        conflict: bool of shape (H, W).
        sem_seg: Contiguous labels of shape (H, W), things first, void 255.
        num_things: Number of thing classes.

    Returns:
        Labels, int64 of shape (H, W).
    """
    return torch.where(conflict & (sem_seg < num_things), sem_seg.long(), IGNORED)


def set_bounds(mask: Tensor) -> Window:
    """(top, bottom, left, right) of the set pixels of a bool mask (H, W); all 0 if there is none."""
    return mask_bounds(mask[None])[0]


def ranking_scores(
    masks: Tensor,
    labels: Tensor,
    logits_of: Callable[[Window], Tensor],
    conflict: Tensor | None = None,
    strip_pixels: int | None = None,
    bounds: list[Window] | None = None,
) -> Tensor:
    """Equation 3: the mean, over an instance's mask, of the ranking map's probability of the instance's class.

    The ranking map is made and consumed strip by strip of rows, so that neither it nor anything of the size
    instances x classes x H x W is ever held.

    Args:
        masks: Masks on the grid, bool of shape (N, H, W).
        labels: Labels of the instances, of shape (N,).
        logits_of: Gives the ranking map's logits in a window of the grid, (top, bottom, left, right) with the second
            and the last exclusive, as a tensor of shape (C, bottom - top, right - left), which is overwritten.
        conflict: bool of shape (H, W): the mean is over the mask's cells in it alone. None: over the whole mask.
        strip_pixels: How many cells of the grid a strip has at most (but at least one row). None: :data:`STRIP_PIXELS`
            on the CPU, :data:`GPU_STRIP_PIXELS` elsewhere.
        bounds: Bounds of the masks, if they are known.

    Returns:
        Scores of shape (N,), float32, in [0, 1]; 0 where there is no cell to average over.
    """
    on_cpu = masks.device.type == 'cpu'
    bounds = mask_bounds(masks) if bounds is None else bounds
    windows = strips(bounds, strip_pixels or (STRIP_PIXELS if on_cpu else GPU_STRIP_PIXELS))
    if not on_cpu:
        return scores_at_once(masks, labels, logits_of, windows, conflict)
    sums = torch.zeros(len(masks), dtype=torch.float64)
    counts = torch.zeros_like(sums)
    for window in windows:
        first, last, left, _ = window
        exponentials, total = softmax_parts(logits_of, window)
        for index, (label, (top, bottom, *sides)) in enumerate(zip(labels.tolist(), bounds, strict=True)):
            top, bottom, columns = max(top, first), min(bottom, last), slice(*sides)
            if top >= bottom:
                continue
            mask = masks[index, top:bottom, columns]
            if conflict is not None:
                mask = mask & conflict[top:bottom, columns]
            part = slice(top - first, bottom - first), slice(sides[0] - left, sides[1] - left)
            inside = mask.view(torch.uint8).float()  # from bool it takes six times as long on a CPU
            sums[index] += (exponentials[label][part] / total[part] * inside).sum()
            counts[index] += inside.sum()
    return (sums / counts.clamp(min=1)).float()


def softmax_parts(logits_of: Callable[[Window], Tensor], window: Window) -> tuple[Tensor, Tensor]:
    """The softmax over classes, in place (as a function of torch it takes three times as long) and not yet divided.

    Args:
        logits_of: See :func:`ranking_scores`; called twice in a window with extreme logits, which have to be shifted.
        window: Where.

    Returns:
        Numerators of shape (C, h, w) and divisors of shape (h, w), float32.
    """
    exponentials = logits_of(window).float().exp_()
    total = exponentials.sum(dim=0)
    least, most = total.aminmax()
    if not (least > SAFE_SUMS[0] and most < SAFE_SUMS[1]):
        exponentials = logits_of(window).float()
        exponentials.sub_(exponentials.amax(dim=0)).exp_()
        total = exponentials.sum(dim=0)
    return exponentials, total


def strips(bounds: list[Window], strip_pixels: int) -> list[Window]:
    """Windows, one below the other, that cover all masks."""
    bounds = [bound for bound in bounds if bound[0] < bound[1]]
    if not bounds:
        return []
    tops, bottoms, lefts, rights = zip(*bounds, strict=True)
    left, right, bottom = min(lefts), max(rights), max(bottoms)
    rows = max(1, strip_pixels // (right - left))
    return [(first, min(first + rows, bottom), left, right) for first in range(min(tops), bottom, rows)]
