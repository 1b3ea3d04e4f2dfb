"""Confidence of stuff in a graph: what :mod:`mmpanoptic.models.fusion.confidence` computes, of the same pixels."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from mmpanoptic.models.fusion.confidence import mean_of, mean_probabilities
from mmpanoptic.models.losses import EMBEDDING_STRIDE

from .image import in_double
from .sizes import Scalar, Size, size_of

#: Scores (n,) of n stuff classes, given indices of K pixels each into the flattened map (n, K), whether these count
#: (n, K), and the classes (n,), 0 to S - 1.
Rating = Callable[[Tensor, Tensor, Tensor], Tensor]


@torch.jit.script
def sample_pixels(sources: Tensor, wanted: Tensor, samples: int) -> tuple[Tensor, Tensor]:
    """Pixels that stand for segments, as those of :func:`mmpanoptic.models.fusion.confidence.sample_pixels`.

    Args:
        sources: Map of sources, int64 of shape (H, W).
        wanted: n of its sources, each with a pixel or more, int64 of shape (n,).
        samples: How many pixels of a segment are wanted, K.

    Returns:
        Indices into the flattened map, int64 of shape (n, K), and whether they count, bool of shape (n, K).
    """
    flat, number = sources.flatten(), torch.arange(samples)
    rows = torch.arange(wanted.shape[0])[:, None]
    index = rows * number * 0
    used = rows * 0
    for row in range(wanted.shape[0]):
        places = torch.nonzero(flat == wanted[row]).flatten()
        count = torch._shape_as_tensor(places)[0]
        own_used = count.clamp(max=samples)
        own = places[(number * count).div(own_used, rounding_mode='floor').minimum(count - 1)]
        index = torch.where(rows == row, own, index)
        used = torch.where(rows == row, own_used, used)
    return index, number < used


def rating_by_logits(logits: Tensor, first: int, size: Size | None = None) -> Rating:
    """Mean softmax of a class's logit over pixels.

    Args:
        logits: Of shape (C, h, w).
        first: Channel of the first stuff class.
        size: Height and width of the panoptic map, if the logits are of another size; each of its pixels reads the
            nearest logits.
    """

    def rate(index: Tensor, counted: Tensor, classes: Tensor) -> Tensor:
        if size is not None:
            height, width = size_of(logits)
            y, x = index.div(size[1], rounding_mode='floor'), index % size[1]
            y = (y * height).div(size[0], rounding_mode='floor')
            index = y * width + (x * width).div(size[1], rounding_mode='floor')
        return mean_probabilities(logits.flatten(1)[:, index], classes + first, counted)

    return rate


def rating_by_semantics(semantic: Tensor, width: Scalar, scale: list[Tensor]) -> Rating:
    """Mean softmax of a class's logit over pixels that read a coarser map bilinearly.

    Args:
        semantic: Logits of stuff and then 'thing', of shape (S + 1, h, w).
        width: Of the panoptic map.
        scale: Pixels of the network's input for one of the panoptic map, down and across, float64.
    """

    def rate(index: Tensor, counted: Tensor, classes: Tensor) -> Tensor:
        return mean_probabilities(values_at(semantic, index, width, scale), classes, counted)

    return rate


def rating_by_queries(embedding: Tensor, queries: Tensor, width: Scalar, scale: list[Tensor]) -> Rating:
    """Mean cosine similarity of pixels to the query of a class, 0 where that is below.

    Args:
        embedding: Of shape (D, h, w).
        queries: Of stuff classes, of length 1, of shape (S, D).
        width, scale: See :func:`rating_by_semantics`.
    """

    def rate(index: Tensor, counted: Tensor, classes: Tensor) -> Tensor:
        points = F.normalize(values_at(embedding, index, width, scale), dim=0)
        return mean_of((points * queries[classes].t()[:, :, None]).sum(dim=0), counted).clamp(min=0)

    return rate


def values_at(network_map: Tensor, index: Tensor, width: Scalar, scale: list[Tensor]) -> Tensor:
    """What pixels read of a network's map of stride 4, see :class:`mmpanoptic.structures.EmbeddingMap`.

    Args:
        network_map: Of shape (D, h, w).
        index: Indices of pixels into the flattened image, of shape (n, K).
        width, scale: See :func:`rating_by_semantics`.

    Returns:
        Of shape (D, n, K).
    """
    centres, flat = size_of(network_map), network_map.flatten(1)
    upper, lower, down = _taps(index.div(width, rounding_mode='floor'), scale[0], centres[0])
    left, right, across = _taps(index % width, scale[1], centres[1])
    above, below = (
        (1 - across) * flat[:, row * centres[1] + left] + across * flat[:, row * centres[1] + right]
        for row in (upper, lower)
    )
    return (1 - down) * above + down * below


def _taps(pixels: Tensor, scale: Tensor, centres: Scalar) -> tuple[Tensor, Tensor, Tensor]:
    """The two centres that pixels of an axis read, and the weight of the second one."""
    position = (pixels.double() + 0.5) * scale / EMBEDDING_STRIDE - 0.5
    position = torch.minimum(position.clamp(min=0), in_double(centres - 1))
    first = position.floor().long()
    return first, torch.minimum(first + 1, centres - 1), (position - first).float()
