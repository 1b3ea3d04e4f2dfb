"""Images that are too large for a network, in overlapping tiles."""

import copy
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import nn

from mmpanoptic.models.fusion.base import BaseFusionHead
from mmpanoptic.structures import INSTANCE_OFFSET, EmbeddingMap, Evidence, StuffLabels
from mmpanoptic.utils import UserError

from .tiles import FusedTile, TiledMap, spans


def require_tiles(model: nn.Module) -> None:
    """Refuse a model whose results cannot be put together.

    Raises:
        UserError: If it gives no panoptic map by one of this package's fusion heads.
    """
    if not isinstance(getattr(model, 'panoptic_fusion_head', None), BaseFusionHead):
        raise UserError(
            f'{type(model).__name__} gives no panoptic map that tiles could be put together to: take a panoptic model, '
            'or predict the image as a whole'
        )


def predict_tiles(
    image: np.ndarray,
    head: BaseFusionHead,
    evidence_of: Callable[[np.ndarray], Evidence],
    tile: tuple[int, int],
    overlap: int,
    tracked: Callable[[list], Iterator] = iter,
) -> tuple[np.ndarray, list[dict]]:
    """The panoptic map of an image, tile by tile.

    Args:
        image: Of shape (H, W, 3).
        head: Fusion head of the model.
        evidence_of: What the network finds in a tile, an image like ``image``.
        tile: Height and width of a tile in pixels. What the network sees of it is what its test pipeline makes of an
            image of this size.
        overlap: Least number of pixels that neighbours share.
        tracked: Shows how far it is, such as a progress bar.

    Returns:
        As :meth:`~.tiles.TiledMap.finish`.

    Raises:
        UserError: If the overlap is negative or not below the tile.
    """
    rows, columns = (spans(side, size, overlap) for side, size in zip(image.shape[:2], tile, strict=True))
    whole = TiledMap(rows, columns, head.num_things_classes, head.num_stuff_classes)
    no_limit = copy.copy(head)
    no_limit.stuff_area_limit = 0  # it holds for the whole image
    for row, column in tracked([(r, c) for r in range(len(rows)) for c in range(len(columns))]):
        piece = image[slice(*rows[row]), slice(*columns[column])]
        whole.add(row, column, fuse_tile(no_limit, evidence_of(np.ascontiguousarray(piece))))
    return whole.finish(head.stuff_area_limit, head.stuff_area_mode)


def fuse_tile(head: BaseFusionHead, evidence: Evidence) -> FusedTile:
    """Things of a tile as the fusion head decides, and what is known about stuff."""
    panoptic, segments = head.fuse(evidence)
    panoptic = panoptic.cpu()
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
        stuff = evidence.stuff.of_stuff(head.num_things_classes, head.num_stuff_classes)
    labels = [thing['label'] for thing in things]
    return FusedTile(number_of[panoptic.numpy() // INSTANCE_OFFSET], labels, [t['score'] for t in things], stuff)
