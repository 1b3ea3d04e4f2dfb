"""Stuff in a panoptic map: pure functions on tensors.

A pixel that is not void is never given to another segment, so a segment that once has a pixel keeps it. No function
modifies its arguments. Maps are encoded as in :mod:`~.segments`.

Source: Kirillov et al., Panoptic Segmentation, section 7, https://arxiv.org/abs/1801.00868; details as in
https://github.com/cocodataset/panopticapi/blob/master/combine_semantic_and_instance_predictions.py
"""

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from torch import Tensor

from mmpanoptic.structures import StuffLabels, StuffLogits

STUFF_AREA_MODES = ('segment', 'component')


def best_channel(logits: Tensor) -> Tensor:
    """Index of the largest of C logits at each pixel, the lowest one of equals.

    Args:
        logits: Logits of shape (C, H, W).

    Returns:
        Indices, int64 of shape (H, W).
    """
    return logits.max(dim=0).indices  # argmax(dim=0) gives the same and takes three times as long on a CPU


def stuff_labels(stuff: StuffLogits | StuffLabels, num_things: int, num_stuff: int) -> Tensor:
    """Stuff class of each pixel.

    Args:
        stuff: What is known about stuff.
        num_things: Number of thing classes.
        num_stuff: Number of stuff classes S.

    Returns:
        Integers of shape (H, W), int64: 0 to S - 1, S for none.

    Raises:
        ValueError: If logits have more or fewer channels than they say.
    """
    if isinstance(stuff, StuffLabels):
        return stuff.labels.long()
    logits = stuff.of_stuff(num_things, num_stuff)
    return best_channel(logits) if num_stuff else logits.new_zeros(logits.shape[1:], dtype=torch.long)


def paste_stuff(
    panoptic: Tensor,
    semantic: Tensor,
    num_things: int,
    num_stuff: int,
    area_limit: float,
    area_mode: str = 'segment',
) -> tuple[Tensor, list[int]]:
    """Give void pixels to stuff, except where that would make less than ``area_limit`` pixels.

    Args:
        panoptic: Panoptic map, int32 of shape (H, W) on the CPU.
        semantic: Indices of stuff classes, integers of shape (H, W); ``num_stuff`` means none.
        num_things: Number of thing classes.
        num_stuff: Number of stuff classes.
        area_limit: Least number of void pixels that stuff must get; what has fewer stays void.
        area_mode: What the limit applies to: 'segment', all pixels that a class gets in this image (as in the official
            script); 'component', each 8-connected component of them by itself. Either way a class is one segment.

    Returns:
        The new panoptic map on the CPU and the contiguous labels of the stuff in it, rising.
    """
    void = num_things + num_stuff
    old = panoptic.numpy()
    free = old == void
    candidates = np.where(free, semantic.cpu().numpy(), num_stuff)
    counts = np.bincount(candidates.ravel(), minlength=num_stuff + 1)[:num_stuff]
    # No component has area_limit pixels where the whole class has not.
    kept = np.flatnonzero((counts > 0) & (counts >= area_limit))
    if area_mode == 'component':
        candidates[~large_components(candidates, kept, area_limit)] = num_stuff
        kept = np.intersect1d(candidates, kept)
    values = np.full(num_stuff + 1, void, np.int32)
    values[kept] = kept + num_things
    return torch.from_numpy(np.where(free, values[candidates], old)), (kept + num_things).tolist()


def large_components(index_map: np.ndarray, indices: Sequence[int], area_limit: float) -> np.ndarray:
    """Pixels in an 8-connected component of equal index that has at least ``area_limit`` pixels.

    Args:
        index_map: Integers of shape (H, W).
        indices: The indices to look at; pixels of others are in no component.
        area_limit: In pixels.

    Returns:
        bool of shape (H, W).
    """
    large = np.zeros(index_map.shape, bool)
    for index in indices:
        mask = (index_map == index).astype(np.uint8)
        _, components, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
        is_large = stats[:, cv2.CC_STAT_AREA] >= area_limit
        is_large[0] = False  # component 0 is the rest of the image
        large |= is_large[components]
    return large
