"""Instances and stuff to one panoptic map: the steps that the fusion heads are composed of, on plain tensors.

A panoptic map here is int32 of shape (H, W): ``label + INSTANCE_OFFSET * k`` for the k-th thing (k = 1, 2, ...), the
contiguous label ``num_things + s`` for stuff class s, and ``void = num_things + num_stuff`` where nothing is yet. A
pixel that is not void is never given to another segment, so steps may follow one another in any order, and a segment
that once has a pixel keeps it. ``pasted``, the list that goes along, holds at k - 1 the index of the k-th thing among
the given instances. No function modifies its arguments.

Logits and masks may be on any device; what is large is reduced there, and the map itself is made on the CPU, in numpy:
many small steps that each look at one count are slow on a GPU, and on a CPU they gain nothing from torch's threads.

Source: Kirillov et al., Panoptic Segmentation, section 7, https://arxiv.org/abs/1801.00868; details as in
https://github.com/cocodataset/panopticapi/blob/master/combine_semantic_and_instance_predictions.py
"""

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from torch import Tensor

from mmpanoptic.structures import INSTANCE_OFFSET

STUFF_AREA_MODES = ('segment', 'component')


def stuff_logits(logits: Tensor, num_things: int, num_stuff: int) -> Tensor:
    """Channels of semantic logits among which a pixel's stuff class is decided.

    Args:
        logits: Semantic logits of shape (C, H, W). C tells what they are: ``num_stuff + 1`` is stuff, then 'other'
            (all things merged); ``num_stuff`` is stuff alone; ``num_things + num_stuff`` is all classes, things first.
            With a single thing class the first reading is taken, since the last has as many channels: slice such
            logits before.
        num_things: Number of thing classes.
        num_stuff: Number of stuff classes.

    Returns:
        View of shape (num_stuff + 1 or num_stuff, H, W), stuff first.

    Raises:
        ValueError: If C is none of the three.
    """
    if logits.ndim != 3:
        raise ValueError(f'semantic logits must be of shape (C, H, W), not {tuple(logits.shape)}')
    channels = len(logits)
    if channels in (num_stuff + 1, num_stuff):
        return logits
    if channels == num_things + num_stuff:
        return logits[num_things:]
    raise ValueError(
        f'semantic logits have {channels} channels: with {num_things} thing and {num_stuff} stuff classes they must '
        f"have {num_stuff} (stuff), {num_stuff + 1} (stuff and 'other') or {num_things + num_stuff} (all classes)"
    )


def best_channel(logits: Tensor) -> Tensor:
    """Index of the largest of C logits at each pixel, the lowest one of equals.

    Args:
        logits: Logits of shape (C, H, W).

    Returns:
        Indices, int64 of shape (H, W).
    """
    return logits.max(dim=0).indices  # argmax(dim=0) gives the same and takes three times as long on a CPU


def stuff_indices(seg_preds: Tensor, num_things: int, num_stuff: int) -> Tensor:
    """Index of each pixel's stuff class.

    Args:
        seg_preds: Semantic logits, see :func:`stuff_logits`, or the indices themselves, integers of shape (H, W).
        num_things: Number of thing classes.
        num_stuff: Number of stuff classes.

    Returns:
        Indices, int64 of shape (H, W); ``num_stuff`` means none.
    """
    if seg_preds.ndim == 2 and not seg_preds.is_floating_point():
        return seg_preds.long()
    return best_channel(stuff_logits(seg_preds, num_things, num_stuff))


def order_instances(scores: Tensor, score_thr: float, rank_scores: Tensor | None = None) -> list[int]:
    """Instances that are confident enough, in the order in which they are to be pasted.

    Args:
        scores: Confidence of shape (N,). Instances with ``score >= score_thr`` are kept.
        score_thr: Least confidence.
        rank_scores: What to sort by, of shape (N,), the largest first; None: by confidence.

    Returns:
        Indices into the instances; of equals, the more confident comes first, and then the lower index.
    """
    kept = (scores >= score_thr).nonzero().flatten()
    for keys in (scores, rank_scores):
        if keys is not None:
            kept = kept[keys[kept].sort(descending=True, stable=True).indices]
    return kept.tolist()


def mask_bounds(masks: Tensor) -> list[tuple[int, int, int, int]]:
    """Tight bounds of masks.

    Args:
        masks: Masks, bool or uint8 of shape (N, H, W).

    Returns:
        (top, bottom, left, right) of each mask in pixels, bottom and right exclusive; all 0 for an empty mask.

    Raises:
        TypeError: If masks are of another type, probabilities for instance.
    """
    if masks.dtype not in (torch.bool, torch.uint8):
        raise TypeError(f'masks must be bool or uint8, not {masks.dtype}')
    if not masks.numel():
        return [(0, 0, 0, 0)] * len(masks)
    height, width = masks.shape[1:]
    masks = masks.view(torch.uint8)  # amax over bytes is several times as fast as any over bools on a CPU
    rows = masks.amax(dim=2).cpu().numpy() > 0
    columns = masks.amax(dim=1).cpu().numpy() > 0
    bounds = np.stack(
        [
            rows.argmax(axis=1),
            height - rows[:, ::-1].argmax(axis=1),
            columns.argmax(axis=1),
            width - columns[:, ::-1].argmax(axis=1),
        ],
        axis=1,
    )
    bounds[~rows.any(axis=1)] = 0
    return [tuple(bound) for bound in bounds.tolist()]


def paste_instances(
    masks: Tensor, labels: Sequence[int], order: Sequence[int], overlap_thr: float, void: int
) -> tuple[Tensor, list[int]]:
    """Paste instances one after another, each on the pixels that those before it have left.

    An instance is dropped when ``covered / area > overlap_thr``, where covered counts the pixels of its mask that are
    taken. The quotient is that of two integers in double precision, as in the official script, so 37 covered pixels
    of 100 are not more than .37. What is dropped takes no pixels. An instance without any free pixel (possible only
    for thresholds of 1 and above) makes no segment either.

    Args:
        masks: Masks, bool or uint8 (set where not 0) of shape (N, H, W).
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
        mask = masks[index, top:bottom, left:right].bool().cpu().numpy()
        free = mask & (window == void)
        area, num_free = int(np.count_nonzero(mask)), int(np.count_nonzero(free))
        if (area - num_free) / area > overlap_thr or num_free == 0:
            continue
        pasted.append(index)
        window[free] = thing_id(labels[index], len(pasted))
    return torch.from_numpy(panoptic), pasted


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


def thing_id(label: int, k: int) -> int:
    """Id in a panoptic map of the k-th thing, k = 1, 2, ..."""
    return label + INSTANCE_OFFSET * k


def list_segments(
    pasted: Sequence[int], labels: Sequence[int], scores: Sequence[float], stuff_labels: Sequence[int]
) -> list[dict]:
    """The ``segments_info`` of a panoptic map.

    Args:
        pasted: Indices of the instances that the map holds, in the order of their k.
        labels: Contiguous label of each instance, N of them.
        scores: Confidence of each instance, N of them.
        stuff_labels: Contiguous labels of the stuff that the map holds.

    Returns:
        A dict a segment, things first: ``id`` in the map, ``label``, ``score`` (None for stuff) and ``instance`` (index
        among the N instances, None for stuff).
    """
    things = [
        {'id': thing_id(labels[index], k), 'label': labels[index], 'score': scores[index], 'instance': index}
        for k, index in enumerate(pasted, 1)
    ]
    return things + [{'id': label, 'label': label, 'score': None, 'instance': None} for label in stuff_labels]
