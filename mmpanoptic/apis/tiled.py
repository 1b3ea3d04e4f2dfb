"""Predict images that are too large for a network, in overlapping tiles."""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mmpanoptic.models.fusion.base import BaseFusionHead
from mmpanoptic.structures import INSTANCE_OFFSET, EmbeddingMap, Evidence, StuffLabels, StuffLogits
from mmpanoptic.utils import UserError

from .tiles import FusedTile, TiledMap, spans


def require_tiles(model: nn.Module) -> None:
    """Refuse a model whose tiles cannot be merged.

    Raises:
        UserError: If the model has no fusion head of this package.
    """
    if not isinstance(getattr(model, 'panoptic_fusion_head', None), BaseFusionHead):
        raise UserError(
            f'{type(model).__name__} gives no panoptic map that tiles could be merged into: use a panoptic model, or '
            'predict the image as a whole'
        )


def predict_tiles(
    image: np.ndarray,
    head: BaseFusionHead,
    evidence_of: Callable[[np.ndarray], Evidence],
    tile: tuple[int, int],
    overlap: int,
    tracked: Callable[[list], Iterator] = iter,
) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Predict the panoptic map of an image tile by tile.

    Args:
        image: Image of shape (H, W, 3).
        head: Fusion head of the model.
        evidence_of: Function that returns the evidence of a tile, given as an image like ``image``.
        tile: Height and width of a tile in pixels, before the test pipeline.
        overlap: Least overlap of neighbouring tiles in pixels.
        tracked: Function that yields the tiles that it is given, such as a progress bar.

    Returns:
        The map and its segments as :meth:`~.tiles.TiledMap.finish` returns them.

    Raises:
        UserError: If the overlap is negative or not smaller than the tile.
    """
    rows, columns = (spans(side, size, overlap) for side, size in zip(image.shape[:2], tile, strict=True))
    whole = TiledMap(rows, columns, head.num_things_classes, head.num_stuff_classes)
    no_limit = copy.copy(head)
    no_limit.stuff_area_limit = 0  # the limit applies to the whole image
    for row, column in tracked([(r, c) for r in range(len(rows)) for c in range(len(columns))]):
        piece = image[slice(*rows[row]), slice(*columns[column])]
        evidence = evidence_of(np.ascontiguousarray(piece))
        whole.add(row, column, fuse_tile(no_limit, evidence, whole.core(row, column)))
    return whole.finish(head.stuff_area_limit, head.stuff_area_mode)


def fuse_tile(head: BaseFusionHead, evidence: Evidence, core: tuple[slice, slice]) -> FusedTile:
    """Fuse the things of a tile, and collect what is known about its stuff.

    Args:
        head: The fusion head.
        evidence: Evidence of the tile.
        core: Rows and columns of the tile's core.
    """
    on_device, segments = head.fuse(evidence)
    panoptic = on_device.cpu()
    things = [segment for segment in segments if segment['id'] >= INSTANCE_OFFSET]
    number_of = np.zeros(1 + max((segment['id'] for segment in segments), default=0) // INSTANCE_OFFSET, np.int32)
    for number, thing in enumerate(things, 1):
        number_of[thing['id'] // INSTANCE_OFFSET] = number
    if isinstance(evidence.stuff, EmbeddingMap):
        first, void = head.num_things_classes, head.num_classes
        is_stuff = (panoptic >= first) & (panoptic < void)
        stuff = torch.where(is_stuff, panoptic - first, head.num_stuff_classes)
    elif isinstance(evidence.stuff, StuffLabels):
        stuff = evidence.stuff.labels
    else:
        stuff = evidence.stuff
    numbers, labels = number_of[panoptic.numpy() // INSTANCE_OFFSET], [thing['label'] for thing in things]
    confidences = None if isinstance(stuff, StuffLogits) else confidence_of_classes(head, evidence, on_device, core)
    return FusedTile(numbers, labels, [thing['score'] for thing in things], stuff, confidences)


def confidence_of_classes(
    head: BaseFusionHead, evidence: Evidence, panoptic: Tensor, core: tuple[slice, slice]
) -> np.ndarray | None:
    """Confidence of the fusion head in each stuff class in the core of a tile.

    Args:
        head, evidence, core: See :func:`fuse_tile`.
        panoptic: Panoptic map of the tile.

    Returns:
        Values from -1 to 1, float32 of shape (S + 1,), 0 for classes without a pixel there; None if the head gives no
        confidence.
    """
    core_map = torch.full_like(panoptic, head.num_classes)
    core_map[core] = panoptic[core]
    first = head.num_things_classes
    labels = [label for label in core_map.unique().tolist() if first <= label < head.num_classes]
    stuff = [dict(id=label, label=label, score=None, instance=None) for label in labels]
    confidences = np.zeros(head.num_stuff_classes + 1, np.float32)
    for segment in head.with_confidence(evidence, core_map, stuff):
        value = segment.get('similarity', segment['score'])  # the mean takes negative similarities, which scores clip
        if value is None:
            return None
        confidences[segment['label'] - first] = value
    return confidences
