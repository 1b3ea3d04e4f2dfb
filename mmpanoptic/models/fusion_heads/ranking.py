"""From overlapping masks to the order in which instances are pasted, on plain tensors.

The *grid* is what the ranking module works on: the network's input, or every n-th pixel of it. A pixel of the original
image belongs to the grid's cell in which its top left corner lies; a cell takes the masks' values at its centre.

Source: Liu et al., An End-to-End Network for Panoptic Segmentation, section 3.3, https://arxiv.org/abs/1903.05027. The
indicator of its equation 4 is printed inverted; here it is 1 inside the mask.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from .merge import mask_bounds

CONFLICTS = ('class', 'instance')
SCORE_REGIONS = ('mask', 'conflict')
IGNORED = 255
#: Sums of exponentials that are far from both ends of float32: the logits need no shift before the softmax.
SAFE_SUMS = (1e-20, 1e20)

Window = tuple[int, int, int, int]


def sample_at_centres(maps: Tensor, grid: tuple[int, int]) -> Tensor:
    """Values of maps of shape (..., H, W) at the centres of a grid's cells, of shape (..., *grid)."""
    size = maps.shape[-2:]
    if tuple(size) == tuple(grid):
        return maps
    rows, columns = (
        ((2 * torch.arange(cells, device=maps.device) + 1) * pixels).div(2 * cells, rounding_mode='floor')
        for pixels, cells in zip(size, grid, strict=True)
    )
    return maps[..., rows[:, None], columns]


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
    tensor = masks.new_zeros((len(classes), *masks.shape[1:]), dtype=torch.bool)
    for channel, mask in zip(channels.tolist(), masks, strict=True):
        tensor[channel] |= mask
    return tensor, classes


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
    grid: tuple[int, int],
    logits_of: Callable[[Window], Tensor],
    conflict: Tensor | None = None,
    strip_pixels: int = 2**18,
) -> Tensor:
    """Equation 3: the mean, over an instance's mask, of the ranking map's probability of the instance's class.

    The ranking map is made and consumed strip by strip of rows, so that neither it nor anything of the size
    instances x classes x H x W is ever held.

    Args:
        masks: Masks, bool of shape (N, H, W), at the original size.
        labels: Labels of the instances, of shape (N,).
        grid: Height and width (h, w) of the ranking map.
        logits_of: Gives the ranking map's logits in a window of the grid, (top, bottom, left, right) with the second
            and the last exclusive, as a tensor of shape (C, bottom - top, right - left), which is overwritten.
        conflict: bool of shape (h, w): the mean is over the mask's pixels in it alone. None: over the whole mask.
        strip_pixels: How many cells of the grid a strip has at most (but at least one row).

    Returns:
        Scores of shape (N,), float32, in [0, 1]; 0 where there is no pixel to average over.
    """
    height, width = masks.shape[1:]
    bounds = mask_bounds(masks)
    rows_of, columns_of = (
        (torch.arange(pixels, device=masks.device) * cells).div(pixels, rounding_mode='floor')
        for pixels, cells in ((height, grid[0]), (width, grid[1]))
    )

    def on_pixels(cells: Tensor, rows: slice, columns: slice, first_row: int = 0, first_column: int = 0) -> Tensor:
        """A window of the grid, which begins at the first row and column, at the original size."""
        if (height, width) == tuple(grid):
            return cells[rows.start - first_row : rows.stop - first_row,
                         columns.start - first_column : columns.stop - first_column]  # fmt: skip
        return cells[rows_of[rows, None] - first_row, columns_of[columns] - first_column]

    sums = torch.zeros(len(masks), dtype=torch.float64, device=masks.device)
    counts = torch.zeros_like(sums)
    for window in strips(bounds, (height, width), grid, strip_pixels):
        first, last, left, _ = window
        exponentials, total = softmax_parts(logits_of, window)
        first_pixel, last_pixel = -(-first * height // grid[0]), -(-last * height // grid[0])
        for index, (label, bound) in enumerate(zip(labels.tolist(), bounds, strict=True)):
            rows, columns = slice(max(bound[0], first_pixel), min(bound[1], last_pixel)), slice(*bound[2:])
            if rows.start >= rows.stop:
                continue
            mask = masks[index, rows, columns]
            if conflict is not None:
                mask = mask & on_pixels(conflict, rows, columns)
            numerator, divisor = (on_pixels(x, rows, columns, first, left) for x in (exponentials[label], total))
            sums[index] += (numerator / divisor * mask).sum()
            counts[index] += mask.sum()
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


def strips(bounds: list[Window], size: tuple[int, int], grid: tuple[int, int], strip_pixels: int) -> list[Window]:
    """Windows of the grid, one below the other, that cover all masks."""
    bounds = [bound for bound in bounds if bound[0] < bound[1]]
    if not bounds:
        return []
    tops, bottoms, lefts, rights = zip(*bounds, strict=True)
    top, left = min(tops) * grid[0] // size[0], min(lefts) * grid[1] // size[1]
    bottom, right = (max(bottoms) - 1) * grid[0] // size[0] + 1, (max(rights) - 1) * grid[1] // size[1] + 1
    rows = max(1, strip_pixels // (right - left))
    return [(first, min(first + rows, bottom), left, right) for first in range(top, bottom, rows)]
