"""Ranking on a GPU: all instances at once, where :mod:`~.scores` goes through them one by one.

On a GPU many small operations take longer than reading all masks as a whole, empty parts included. Nothing here
transfers or waits, and the number of operations depends only on the memory that the instances take.
"""

from collections.abc import Callable

import torch
from torch import Tensor

#: Largest number of elements of a tensor of instances x pixels that is not bool; bounds the memory.
MAX_ELEMENTS = 2**26

Window = tuple[int, int, int, int]


def join_at_once(masks: Tensor, channels: Tensor, num_channels: int) -> Tensor:
    """Union of the masks of each channel, bool of shape (P, H, W).

    Args:
        masks: bool of shape (N, H, W).
        channels: Channel of each mask, from 0 to P - 1, of shape (N,).
        num_channels: Number of channels P.
    """
    of_channel = (torch.arange(num_channels, device=masks.device)[:, None] == channels).half()
    pixels = masks.flatten(1)
    step = max(1, MAX_ELEMENTS // max(1, len(masks)))
    # However it is rounded, a sum of numbers >= 0 is above 0 if one of the numbers is.
    joined = [of_channel @ part.half() > 0 for part in pixels.split(step, dim=1)]
    return torch.cat(joined, dim=1).view(num_channels, *masks.shape[1:])


def scores_at_once(
    masks: Tensor,
    labels: Tensor,
    logits_of: Callable[[Window], Tensor],
    windows: list[Window],
    conflict: Tensor | None = None,
) -> Tensor:
    """Result of :func:`mmpanoptic.models.fusion.ranking.scores.ranking_scores`, up to rounding.

    Args:
        masks, labels, logits_of, conflict: See :func:`~.scores.ranking_scores`; ``labels`` is on the device of the
            masks.
        windows: Windows that cover all masks without overlap. The ranking map is made for one window after another.
    """
    sums = torch.zeros(len(masks), dtype=torch.float64, device=masks.device)
    counts = torch.zeros(len(masks), dtype=torch.int64, device=masks.device)
    for window in windows:
        top, bottom, left, right = window
        probabilities = logits_of(window).softmax(dim=0, dtype=torch.float32)
        part = masks[:, top:bottom, left:right]
        if conflict is not None:
            part = part & conflict[top:bottom, left:right]
        step = max(1, MAX_ELEMENTS // ((bottom - top) * (right - left)))
        for first in range(0, len(masks), step):
            chosen = slice(first, first + step)
            inside = part[chosen]
            of_label = probabilities.index_select(0, labels[chosen]).mul_(inside)
            sums[chosen] += of_label.sum(dim=(1, 2), dtype=torch.float64)
            counts[chosen] += inside.sum(dim=(1, 2))
    return (sums / counts.clamp(min=1)).float()
