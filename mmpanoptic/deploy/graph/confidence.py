"""Confidence of stuff in a graph, computed as in :mod:`mmpanoptic.models.fusion.confidence` from the same pixels."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from mmpanoptic.models.fusion.confidence import mean_of, mean_probabilities
from mmpanoptic.models.losses import EMBEDDING_STRIDE

from .image import in_double
from .sizes import Scalar, Size, size_of

#: Function that returns scores (n,) of n stuff classes. Arguments: indices of K pixels of each class into the flattened
#: map (n, K), whether the pixels count (n, K), and the classes (n,), 0 to S - 1.
Rating = Callable[[Tensor, Tensor, Tensor], Tensor]


@torch.jit.script
def sample_pixels(sources: Tensor, wanted: Tensor, samples: int) -> tuple[Tensor, Tensor]:
    """Sample pixels of segments as :func:`mmpanoptic.models.fusion.confidence.sample_pixels`.

    Args:
        sources: Map of sources, int64 of shape (H, W).
        wanted: n sources that have pixels in the map, int64 of shape (n,).
        samples: Largest number K of pixels per segment.

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
    """Rating by the mean softmax probability of a class over pixels.

    Args:
        logits: Logits of shape (C, h, w).
        first: Channel of the first stuff class.
        size: Height and width of the panoptic map, if the logits have another size. Each pixel of the map then reads
            the nearest logits.
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
    """Rating by the mean softmax probability of a class over pixels that read a coarser map bilinearly.

    Args:
        semantic: Logits of stuff and then 'thing', of shape (S + 1, h, w).
        width: Width of the panoptic map.
        scale: Pixels of the network's input per pixel of the panoptic map, vertically and horizontally, float64.
    """

    def rate(index: Tensor, counted: Tensor, classes: Tensor) -> Tensor:
        return mean_probabilities(values_at(semantic, index, width, scale), classes, counted)

    return rate


def rating_by_queries(embedding: Tensor, queries: Tensor, width: Scalar, scale: list[Tensor]) -> Rating:
    """Rating by the mean cosine similarity of pixels to the query of a class; negative means become 0.

    Args:
        embedding: Embedding map of shape (D, h, w).
        queries: Queries of the stuff classes, of length 1, of shape (S, D).
        width, scale: See :func:`rating_by_semantics`.
    """

    def rate(index: Tensor, counted: Tensor, classes: Tensor) -> Tensor:
        points = F.normalize(values_at(embedding, index, width, scale), dim=0)
        return mean_of((points * queries[classes].t()[:, :, None]).sum(dim=0), counted).clamp(min=0)

    return rate


def values_at(network_map: Tensor, index: Tensor, width: Scalar, scale: list[Tensor]) -> Tensor:
    """Read a network's map of stride 4 bilinearly, see :class:`mmpanoptic.structures.EmbeddingMap`.

    Args:
        network_map: Map of shape (D, h, w).
        index: Indices of pixels into the flattened image, of shape (n, K).
        width, scale: See :func:`rating_by_semantics`.

    Returns:
        Values of shape (D, n, K).
    """
    centres = size_of(network_map)
    flat = network_map.flatten(1).t()  # a runtime copies whole rows faster than single values
    upper, lower, down = _taps(index.div(width, rounding_mode='floor'), scale[0], centres[0])
    left, right, across = _taps(index % width, scale[1], centres[1])
    across, down = across[..., None], down[..., None]
    above, below = (
        (1 - across) * flat[row * centres[1] + left] + across * flat[row * centres[1] + right] for row in (upper, lower)
    )
    return ((1 - down) * above + down * below).permute(2, 0, 1)


def _taps(pixels: Tensor, scale: Tensor, centres: Scalar) -> tuple[Tensor, Tensor, Tensor]:
    """The two centres that each pixel of an axis reads, and the weight of the second one."""
    position = (pixels.double() + 0.5) * scale / EMBEDDING_STRIDE - 0.5
    position = torch.minimum(position.clamp(min=0), in_double(centres - 1))
    first = position.floor().long()
    return first, torch.minimum(first + 1, centres - 1), (position - first).float()
