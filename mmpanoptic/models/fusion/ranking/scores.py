"""From overlapping masks to the order in which instances are pasted, on plain tensors.

The ranking module works on a *grid*: the network's input, or every n-th pixel of it. A cell takes the masks' values at
the cell's centre.

Source: Liu et al., An End-to-End Network for Panoptic Segmentation, section 3.3, https://arxiv.org/abs/1903.05027. The
indicator of its equation 4 is printed inverted; here it is 1 inside the mask.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from mmpanoptic.models.fusion.paste.instances import bounds_of, mask_bounds

from .at_once import Window, join_at_once, scores_at_once

CONFLICTS = ('class', 'instance')
SCORE_REGIONS = ('mask', 'conflict')
WITHIN_CLASS = ('ranking', 'score')
IGNORED = 255
#: If sums of exponentials lie in this range, far from both ends of float32, logits need no shift before the softmax.
SAFE_SUMS = (1e-20, 1e20)
#: Cells of a strip, on a CPU, where a strip fits in the caches, and elsewhere, where an image of COCO's size is one
#: strip. Its map of 80 classes takes 0.34 GB there, and three such maps are held.
STRIP_PIXELS, GPU_STRIP_PIXELS = 2**18, 2**21


def sample_at_centres(maps: Tensor, grid: tuple[int, int]) -> Tensor:
    """Values of maps of shape (..., H, W) at the centres of a grid's cells, of shape ``(..., *grid)``."""
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
    for sampled_mask, mask in zip(sampled, masks.view(torch.uint8).numpy(), strict=True):
        filled = np.flatnonzero(mask.max(axis=1))  # most masks are small, so most rows are empty
        if filled.size:
            part = slice(*np.searchsorted(rows, (filled[0], filled[-1] + 1)))
            sampled_mask[part] = mask[rows[part]].take(columns, axis=1)
    return torch.from_numpy(sampled).view(torch.bool)


def with_a_cell_each(sampled: Tensor, masks: Tensor) -> Tensor:
    """Give every mask that is not empty at least one cell.

    Args:
        sampled: Result of :func:`sample_masks`, of shape (N, h, w); modified in place.
        masks: The masks that were sampled, bool of shape (N, H, W).

    Returns:
        ``sampled``. A mask that lies between the centres of cells gets the cell at the centre of its bounds.
    """
    (*_, height, width), (*_, rows, columns) = masks.shape, sampled.shape
    if rows >= height and columns >= width:  # every pixel is at the centre of a cell
        return sampled
    unseen = ~_is_set(bounds_of(sampled))
    if masks.device.type == 'cpu':  # nearly all masks have a cell: no need to read all of them once more
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


def _pixels_at_centres(size: Sequence[int], grid: Sequence[int], device: torch.device | str = 'cpu') -> list[Tensor]:
    """Rows and columns of a map of this size in which the centres of a grid's cells lie."""
    return [
        ((2 * torch.arange(cells, device=device) + 1) * pixels).div(2 * cells, rounding_mode='floor')
        for pixels, cells in zip(size, grid, strict=True)
    ]


def sampled_bounds(sampled: Tensor, masks: Tensor) -> list[Window]:
    """Bounds of masks on the grid, see :func:`mask_bounds`.

    Args:
        sampled: Masks on the grid, bool of shape (N, h, w).
        masks: Masks that they were sampled from, bool of shape (N, H, W). Only the smaller tensor of the two is read.
    """
    (*_, height, width), (*_, rows, columns) = masks.shape, sampled.shape
    if rows <= height or columns <= width:
        return mask_bounds(sampled)
    centres = [pixels.numpy() for pixels in _pixels_at_centres((height, width), (rows, columns))]
    bounds = np.array(mask_bounds(masks)).reshape(-1, 2, 2)  # every row and column of a mask is on a finer grid
    on_grid = [np.searchsorted(pixels, sides) for pixels, sides in zip(centres, bounds.swapaxes(0, 1), strict=True)]
    return [tuple(bound) for bound in np.concatenate(on_grid, axis=1).tolist()]


def instance_tensor(masks: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Instance tensor: where each class has an instance.

    Args:
        masks: Masks that may overlap, bool of shape (N, H, W).
        labels: Thing labels of shape (N,).

    Returns:
        The instance tensor without its empty channels, bool of shape (P, H, W), and the classes of its P channels,
        ascending, int64.
    """
    classes, channels = labels.unique(return_inverse=True)
    return join_masks(masks, channels, len(classes)), classes


def join_masks(masks: Tensor, channels: Tensor, num_channels: int, bounds: list[Window] | None = None) -> Tensor:
    """Union of the masks of each channel, bool of shape (P, H, W).

    Args:
        masks: Masks that may overlap, bool of shape (N, H, W).
        channels: Channel of each mask, from 0 to P - 1, of shape (N,).
        num_channels: Number of channels P.
        bounds: Bounds of the masks, if known; on a CPU only pixels within them are read.
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
        maps: bool of shape (N, H, W): an instance tensor for conflicts of classes, masks for conflicts of instances.
    """
    return maps.sum(dim=0, dtype=torch.int16) >= 2


def ranking_labels(conflict: Tensor, sem_seg: Tensor, num_things: int) -> Tensor:
    """Targets of the ranking module: the visible thing class at pixels in conflict, 255 (ignored) elsewhere.

    Args:
        conflict: bool of shape (H, W).
        sem_seg: Contiguous labels of shape (H, W), things first, void 255.
        num_things: Number of thing classes.

    Returns:
        Labels, int64 of shape (H, W).
    """
    return torch.where(conflict & (sem_seg < num_things), sem_seg.long(), IGNORED)


def set_bounds(mask: Tensor) -> Window:
    """(top, bottom, left, right) of the set pixels of a bool mask (H, W); all 0 for an empty mask."""
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

    The ranking map is made and consumed in strips of rows, so that neither the whole map nor a tensor of instances x
    classes x H x W is ever held.

    Args:
        masks: Masks on the grid, bool of shape (N, H, W).
        labels: Labels of the instances, of shape (N,).
        logits_of: Returns the ranking map's logits in a window of the grid, (top, bottom, left, right) with bottom and
            right exclusive, as a tensor of shape (C, bottom - top, right - left), which is overwritten.
        conflict: bool of shape (H, W): the mean is over the mask's cells that are set here. None: the whole mask.
        strip_pixels: Largest number of cells of the grid in a strip (but at least one row). None: :data:`STRIP_PIXELS`
            on the CPU, :data:`GPU_STRIP_PIXELS` elsewhere.
        bounds: Bounds of the masks, if known.

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
    """Numerators and divisors of the softmax over classes, computed in place.

    torch's softmax takes three times as long.

    Args:
        logits_of: See :func:`ranking_scores`; called twice for a window with extreme logits, which need a shift.
        window: Window of the grid.

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


def by_confidence_in_classes(ranks: Tensor, scores: Tensor, labels: Tensor) -> Tensor:
    """Hand out the ranking scores of each class anew: its most confident instance gets the highest one, and so on.

    Pairs are compared instead of sorting, since this is also part of exported graphs, which have no stable sort.

    Args:
        ranks, scores, labels: Ranking scores, confidences and labels of N instances, each of shape (N,).

    Returns:
        Ranking scores of shape (N,).
    """
    same_class = labels[:, None] == labels
    index = torch.arange(labels.shape[0])
    is_earlier = index < index[:, None]

    def places(values: Tensor) -> Tensor:
        """Number of instances of the own class with a higher value, or with the same value and a lower index."""
        ahead = (values > values[:, None]) | ((values == values[:, None]) & is_earlier)
        return (ahead & same_class).sum(dim=1)

    takes = same_class & (places(scores)[:, None] == places(ranks))  # one instance in each row
    return torch.where(takes, ranks, 0).sum(dim=1)
