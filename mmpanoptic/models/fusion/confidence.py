"""Confidence of a model in the segments of a map: means over some of the segments' pixels.

Neighbouring pixels have similar values, because the network's maps are coarser than the image. So :data:`SAMPLES`
pixels of a segment, evenly spread over it in reading order, stand for all of it; of a smaller segment, all pixels are
used. The cost depends on the number of segments, and hardly on that of pixels. On a GPU all segments are processed at
once.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from mmpanoptic.structures import StuffLabels, StuffLogits

SAMPLES = 1024  # pixels of a segment


def sample_pixels(panoptic: Tensor, ids: Tensor, samples: int = SAMPLES) -> tuple[Tensor, Tensor]:
    """Sample pixels of segments.

    Args:
        panoptic: Panoptic map of shape (H, W).
        ids: The n ids to look for, on the same device.
        samples: Number of pixels per segment, K.

    Returns:
        Indices into the flattened map, int64 of shape (n, K), and whether they count, bool of shape (n, K). If a
        segment has fewer than K pixels, each pixel counts once.
    """
    if panoptic.device.type == 'cpu':  # sorting takes ten times as long as looking for some ids
        flat = panoptic.numpy().ravel()
        found = [np.flatnonzero(flat == value) for value in ids.tolist()]
        order = torch.from_numpy(np.concatenate([*found, np.zeros(1, np.int64)]))
        count = torch.tensor([len(indices) for indices in found], dtype=torch.int64)
        start = count.cumsum(0) - count
    else:
        values, order = panoptic.flatten().sort(stable=True)
        start = torch.searchsorted(values, ids)
        count = torch.searchsorted(values, ids, right=True) - start
    used = count.clamp(max=samples)
    number = torch.arange(samples, device=ids.device)
    place = (number * count[:, None]).div(used.clamp(min=1)[:, None], rounding_mode='floor')
    return order[(start[:, None] + place).clamp(max=len(order) - 1)], number < used[:, None]


def mean_of(values: Tensor, counted: Tensor) -> Tensor:
    """Mean of the values that count, of shape (n,), NaN where none counts; both arguments are of shape (n, K)."""
    return torch.where(counted, values, 0).sum(dim=1) / counted.sum(dim=1)


def mean_probabilities(logits: Tensor, channels: Tensor, counted: Tensor) -> Tensor:
    """Mean softmax of one channel per segment over the segment's pixels.

    Args:
        logits: Of C channels at K pixels of n segments, of shape (C, n, K).
        channels: The channel of each segment, int64 of shape (n,).
        counted: Which pixels count, bool of shape (n, K).

    Returns:
        float32 of shape (n,).
    """
    chosen = logits.float().log_softmax(dim=0).gather(0, channels[None, :, None].expand(1, *counted.shape))
    return mean_of(chosen[0].exp(), counted)


def stuff_probabilities(
    stuff: StuffLogits | StuffLabels, panoptic: Tensor, labels: Sequence[int], num_things: int
) -> Tensor | None:
    """Mean softmax of each stuff segment's class over the segment's pixels. The softmax is over all channels.

    Args:
        stuff: What is known about stuff.
        panoptic: The map that was made from it, of shape (H, W), on the same device.
        labels: Contiguous labels of the n segments of stuff in the map.
        num_things: Number of thing classes.

    Returns:
        float32 of shape (n,) on the device of the map; None if there are labels without logits.
    """
    logits = stuff.logits
    if logits is None:
        return None
    ids = torch.tensor(labels, dtype=torch.int64).to(panoptic.device)
    index, counted = sample_pixels(panoptic, ids.to(panoptic.dtype))
    index = nearest(index, (panoptic.shape[0], panoptic.shape[1]), (logits.shape[1], logits.shape[2]))
    channels = ids if getattr(stuff, 'channels', None) == 'all' else ids - num_things
    seen = logits.flatten(1).index_select(1, index.flatten()).view(len(logits), *index.shape)
    return mean_probabilities(seen, channels, counted)


def nearest(index: Tensor, size: tuple[int, int], other: tuple[int, int]) -> Tensor:
    """Indices into a flattened map of ``size`` (height, width) as indices of the same places in ``other`` size."""
    if size == other:
        return index
    y, x = index.div(size[1], rounding_mode='floor'), index % size[1]
    y = (y * other[0]).div(size[0], rounding_mode='floor')
    x = (x * other[1]).div(size[1], rounding_mode='floor')
    return y * other[1] + x
