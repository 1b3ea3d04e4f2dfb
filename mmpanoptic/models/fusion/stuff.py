"""Stuff in a panoptic map: pure functions on tensors.

A pixel that belongs to a segment is never given to another one. No function modifies its arguments. Maps are encoded as
in :mod:`~.segments`.

Source: Kirillov et al., Panoptic Segmentation, section 7, https://arxiv.org/abs/1801.00868; details as in
https://github.com/cocodataset/panopticapi/blob/master/combine_semantic_and_instance_predictions.py
"""

from collections.abc import Iterable

import cv2
import numpy as np
import torch
from torch import Tensor

from mmpanoptic.structures import StuffLabels, StuffLogits

STUFF_AREA_MODES = ('segment', 'component')


def best_channel(logits: Tensor) -> Tensor:
    """Index of the largest of C logits at each pixel; ties go to the lowest index.

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
        Classes 0 to S - 1, S for none, int64 of shape (H, W).

    Raises:
        ValueError: If the number of logits is not the one that their ``channels`` means.
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
    """Give void pixels to stuff, except to stuff that would get fewer than ``area_limit`` pixels.

    Args:
        panoptic: Panoptic map, int32 of shape (H, W) on the CPU.
        semantic: Indices of stuff classes, integers of shape (H, W); ``num_stuff`` means none.
        num_things: Number of thing classes.
        num_stuff: Number of stuff classes.
        area_limit: Least number of void pixels that stuff must get; otherwise they stay void.
        area_mode: What the limit applies to: 'segment', all pixels that a class gets in this image (as in the official
            script), or 'component', each 8-connected component of these pixels. Either way a class is one segment.

    Returns:
        The new panoptic map on the CPU and the contiguous labels of the stuff in it, ascending.
    """
    void = num_things + num_stuff
    old = panoptic.numpy()
    free = old == void
    candidates = np.where(free, semantic.cpu().numpy(), num_stuff)
    counts = np.bincount(candidates.ravel(), minlength=num_stuff + 1)[:num_stuff]
    # A class with fewer than area_limit pixels has no component with that many.
    kept = np.flatnonzero((counts > 0) & (counts >= area_limit))
    if area_mode == 'component':
        candidates[~large_components(candidates, kept, area_limit)] = num_stuff
        kept = np.intersect1d(candidates, kept)
    values = np.full(num_stuff + 1, void, np.int32)
    values[kept] = kept + num_things
    return torch.from_numpy(np.where(free, values[candidates], old)), (kept + num_things).tolist()


def large_components(index_map: np.ndarray, indices: Iterable[int], area_limit: float) -> np.ndarray:
    """Pixels in an 8-connected component of equal index that has at least ``area_limit`` pixels.

    Args:
        index_map: Integers of shape (H, W).
        indices: The indices to look at; pixels with other indices are in no component.
        area_limit: Least number of pixels.

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
