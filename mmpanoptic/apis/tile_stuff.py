"""Stuff where tiles overlap: its classes, how sure the model is of them, and means over the pixels of a map."""

import numpy as np
import torch
from torch import Tensor

from mmpanoptic.models.fusion.stuff import best_channel
from mmpanoptic.structures import StuffLogits

_STEPS = 2**15 - 1  # of a confidence, from 0 to 1
_PIECE = 2**22  # numbers that are worked on at once


def decide(stuff: StuffLogits, weights: Tensor | None, num_things: int, num_stuff: int) -> tuple[Tensor, Tensor]:
    """Stuff class of each pixel, and its softmax over all classes that the logits tell apart.

    Args:
        stuff: Sums of logits of shape (C, h, w).
        weights: Sums of the weights of these, of shape (h, w); None: 1.
        num_things, num_stuff: Numbers of classes.

    Returns:
        Classes, int64 of shape (h, w), and shares, float32 of shape (h, w).
    """
    logits = stuff.logits
    classes = best_channel(stuff.of_stuff(num_things, num_stuff))
    own = classes + num_things if stuff.channels == 'all' else classes
    share = torch.empty(classes.shape, device=logits.device)
    for strip in _strips(classes.shape, len(logits)):
        piece = logits[:, strip].float()
        less = piece - piece.gather(0, own[None, strip])
        if weights is not None:
            less /= weights[strip]
        share[strip] = less.exp_().sum(dim=0).reciprocal()
    return classes, share


def _strips(size: tuple[int, int], channels: int) -> list[slice]:
    """Rows of a map of ``size`` (height, width), so many at once as bound the memory that they take."""
    step = max(1, _PIECE // max(1, size[1] * channels))
    return [slice(start, start + step) for start in range(0, size[0], step)]


def as_steps(confidence: Tensor) -> Tensor:
    """Values from -1 to 1 as int16."""
    return (confidence * _STEPS).round().short()


def mean_by_label(panoptic: np.ndarray, confidence: np.ndarray, void: int) -> list[float]:
    """Mean confidence of each label over its pixels, 0 where it is below.

    Args:
        panoptic: Panoptic map of shape (H, W); what is not below ``void`` does not count.
        confidence: Of each pixel, int16 as of :func:`as_steps`, of shape (H, W).
        void: Number of labels.

    Returns:
        ``void`` numbers.
    """
    sums, areas = np.zeros((2, void))
    for strip in _strips(panoptic.shape, 1):
        counted = panoptic[strip] < void
        labels = panoptic[strip][counted]
        sums += np.bincount(labels, confidence[strip][counted], void)
        areas += np.bincount(labels, minlength=void)
    return (sums / _STEPS / areas.clip(1)).clip(0).tolist()
