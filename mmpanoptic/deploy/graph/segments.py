"""Convert a map of sources (see :mod:`~.paste`) to ids and the list of segments."""

from typing import NamedTuple

import torch
from torch import Tensor

from mmpanoptic.models.fusion.confidence import SAMPLES
from mmpanoptic.structures import INSTANCE_OFFSET

from .confidence import Rating, sample_pixels
from .sizes import Scalar, length_of


class Segmented(NamedTuple):
    """The outputs of a graph, S segments: things in the order of their numbers, then stuff by label.

    Attributes:
        id_map: Segment ids, int32 of shape (H, W), 0 for void. An id is label + 1 + INSTANCE_OFFSET * k, with k = 1, 2,
            ... for things and 0 for stuff.
        ids: Segment ids, int32 of shape (S,).
        labels: Contiguous labels, int32 of shape (S,).
        scores: Scores, float32 of shape (S,), see docs/predict.md.
        boxes: x, y, width and height in pixels, int32 of shape (S, 4).
        areas: Numbers of pixels, int32 of shape (S,).
    """

    id_map: Tensor
    ids: Tensor
    labels: Tensor
    scores: Tensor
    boxes: Tensor
    areas: Tensor


class Source(NamedTuple):
    """The sources of a map: labels and scores (N,) of the instances, and the numbers of classes."""

    labels: Tensor
    scores: Tensor
    num_things: int
    num_stuff: int

    @property
    def num_instances(self) -> Scalar:
        """Number of instances N."""
        return length_of(self.labels)


def count_rows(sources: Tensor, source: Source) -> Tensor:
    """Number of pixels of each source, 0 to N + S + 1, in each row, float32 of shape (H, N + S + 2)."""
    height = length_of(sources)
    counts = torch.zeros(1).expand(height, source.num_instances + source.num_stuff + 2)
    return counts.scatter_add(1, sources, torch.ones(1).expand_as(sources))


def count_columns(sources: Tensor, source: Source) -> Tensor:
    """Number of pixels of each source in each column, float32 of shape (N + S + 2, W)."""
    width = length_of(sources, 1)
    counts = torch.zeros(1).expand(source.num_instances + source.num_stuff + 2, width)
    return counts.scatter_add(0, sources, torch.ones(1).expand_as(sources))


def with_stuff(sources: Tensor, semantic: Tensor, source: Source, area_limit: float) -> Tensor:
    """Give free pixels to stuff, except to classes that would get fewer than ``area_limit`` pixels.

    Args:
        sources: Map of sources, int64 of shape (H, W), without stuff.
        semantic: Stuff class of each pixel, int64 of shape (H, W), S for none.
        source: The sources of the map.
        area_limit: Least number of pixels of a stuff class.
    """
    sources = torch.where(sources == 0, semantic + source.num_instances + 1, sources)
    areas = count_rows(sources, source).long().sum(dim=0)
    is_kept = areas >= area_limit
    numbers = torch.arange(length_of(areas))
    is_kept = (is_kept | (numbers <= source.num_instances)) & (numbers <= source.num_instances + source.num_stuff)
    return torch.where(is_kept, numbers, 0)[sources]


def listed(sources: Tensor, source: Source, numbers: Tensor, rating: Rating) -> Segmented:
    """List the segments of a map.

    Args:
        sources: Map of sources, int64 of shape (H, W).
        source: The sources of the map.
        numbers: Number k of each instance, int64 of shape (N,), 0 for instances that are not in the map.
        rating: Computes the confidence of stuff.
    """
    stuff = torch.arange(source.num_stuff) + source.num_things
    none = torch.zeros(1, dtype=torch.long)
    labels = torch.cat([none, source.labels, stuff, none])
    order = torch.cat([none, numbers, torch.zeros_like(stuff), none])
    ids = labels + 1 + INSTANCE_OFFSET * order
    is_source = torch.cat([none, torch.ones_like(source.labels), torch.ones_like(stuff), none])
    ids = (ids * is_source).int()

    rows, columns = count_rows(sources, source), count_columns(sources, source)
    areas = rows.long().sum(dim=0)  # float32 is exact only up to 2 ** 24 pixels
    # Order: things by number, then stuff by label.
    places = torch.arange(length_of(order))
    keys = torch.where(places > source.num_instances, places + source.num_instances, order)
    is_there = (areas > 0) & (is_source > 0)
    chosen = is_there.nonzero().flatten()
    chosen = chosen[keys[chosen].float().neg().topk(length_of(chosen))[1]]
    chosen_stuff = chosen[(chosen > source.num_instances).nonzero().flatten()]
    chosen_things = chosen[(chosen <= source.num_instances).nonzero().flatten()]
    index, counted = sample_pixels(sources, chosen_stuff, SAMPLES)
    rated = rating(index, counted, chosen_stuff - source.num_instances - 1)
    boxes = [*_extent(columns[chosen]), *_extent(rows.t()[chosen])]
    left, width, top, height = boxes
    return Segmented(
        ids[sources],
        ids[chosen],
        labels[chosen].int(),
        torch.cat([source.scores[chosen_things - 1], rated]),
        torch.stack([left, top, width, height], dim=1).int(),
        areas[chosen].int(),
    )


def _extent(counts: Tensor) -> tuple[Tensor, Tensor]:
    """First place and length of the span of places with a count, int64 of shape (S,), for counts (S, places)."""
    places = torch.arange(length_of(counts, 1))
    is_there = counts > 0
    last = torch.where(is_there, places + 1, 0).amax(dim=1)
    from_behind = torch.where(is_there, length_of(counts, 1) - places, 0).amax(dim=1)
    first = length_of(counts, 1) - from_behind
    return first, last - first
