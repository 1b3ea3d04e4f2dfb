"""Classes and confidence of stuff where tiles overlap, and means of the confidence over the pixels of a map."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from mmpanoptic.models.fusion.stuff import best_channel
from mmpanoptic.structures import StuffLogits

_STEPS = 2**15 - 1  # steps of a confidence from 0 to 1
_PIECE = 2**22  # numbers that are processed at once


def decide(stuff: StuffLogits, weights: Tensor | None, num_things: int, num_stuff: int) -> tuple[Tensor, Tensor]:
    """Stuff class of each pixel and its softmax probability among all channels.

    Args:
        stuff: Weighted sums of logits of shape (C, h, w).
        weights: Sums of the weights, of shape (h, w); None: all are 1.
        num_things: Number of thing classes.
        num_stuff: Number of stuff classes.

    Returns:
        Classes, int64 of shape (h, w), and probabilities, float32 of shape (h, w).
    """
    logits = stuff.logits
    classes = best_channel(stuff.of_stuff(num_things, num_stuff))
    best = classes + num_things if stuff.channels == 'all' else classes
    probability = torch.empty(classes.shape, device=logits.device)
    for strip in _strips(classes.shape, len(logits)):
        piece = logits[:, strip].float()
        below_best = piece - piece.gather(0, best[None, strip])
        if weights is not None:
            below_best /= weights[strip]
        probability[strip] = below_best.exp_().sum(dim=0).reciprocal()
    return classes, probability


def _strips(size: Sequence[int], channels: int) -> list[slice]:
    """Slices of rows of a map of ``size`` (height, width), small enough to bound the memory."""
    step = max(1, _PIECE // max(1, size[1] * channels))
    return [slice(start, start + step) for start in range(0, size[0], step)]


def as_steps(confidence: Tensor) -> Tensor:
    """Convert values from -1 to 1 to int16."""
    return (confidence * _STEPS).round().short()


def mean_by_label(panoptic: np.ndarray, confidence: np.ndarray, void: int) -> list[float]:
    """Mean confidence of each label over its pixels; negative means become 0.

    Args:
        panoptic: Panoptic map of shape (H, W). Values from ``void`` on, which are void or things, are skipped.
        confidence: Confidence of each pixel as :func:`as_steps` returns it, int16 of shape (H, W).
        void: Number of labels.

    Returns:
        A number for each label.
    """
    sums, areas = np.zeros((2, void))
    for strip in _strips(panoptic.shape, 1):
        counted = panoptic[strip] < void
        labels = panoptic[strip][counted]
        sums += np.bincount(labels, confidence[strip][counted], void)
        areas += np.bincount(labels, minlength=void)
    return (sums / _STEPS / areas.clip(1)).clip(0).tolist()
