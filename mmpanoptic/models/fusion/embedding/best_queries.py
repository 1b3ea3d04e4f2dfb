"""The query that each pixel of an image is most similar to, by the fastest method for the device."""

import torch
from torch import Tensor

from .product import multiply_all
from .query_map import Axis, PixelMap, QueryMap
from .scored_map import ScoredMap
from .search import search_coarse_to_fine

#: Number of centres or pixels that are processed at once, on a CPU, where they fit in its caches, and elsewhere, where
#: the scores of 150 queries take 0.16 GB.
PIECE, GPU_PIECE = 2**14, 2**18


def pixel_windows(boxes: Tensor, size: tuple[int, int], box_scale: float | None = 1.0) -> Tensor:
    """Pixels inside of boxes: those with left <= x + .5 < right and top <= y + .5 < bottom.

    Args:
        boxes: Boxes (left, top, right, bottom) in pixels, of shape (N, 4).
        size: Height and width of the image.
        box_scale: Factor by which boxes are enlarged about their centres first; None: every box is the whole image.

    Returns:
        (left, top, right, bottom) of the pixels, right and bottom exclusive, int64 of shape (N, 4), clipped to the
        image. A box without pixels has right <= left or bottom <= top.
    """
    height, width = size
    limits = (width, height, width, height)
    if box_scale is None:
        boxes = boxes.new_zeros(boxes.shape, dtype=torch.int64)
        return torch.cat([boxes[:, :2], torch.stack([boxes[:, 2] + width, boxes[:, 3] + height], dim=1)], dim=1)
    boxes = boxes.detach().double()
    if box_scale != 1:
        centres, halves = (boxes[:, 2:] + boxes[:, :2]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2 * box_scale
        boxes = torch.cat([centres - halves, centres + halves], dim=1)
    sides = (boxes - 0.5).ceil().unbind(1)
    return torch.stack([side.clamp(0, limit) for side, limit in zip(sides, limits, strict=True)], dim=1).long()


@torch.no_grad()
def best_queries(
    embedding: Tensor,
    queries: Tensor | None,
    windows: Tensor,
    size: tuple[int, int],
    scale: tuple[float, float] = (1.0, 1.0),
    stride: int = 4,
    piece: int | None = None,
) -> QueryMap | PixelMap:
    """The query with the largest cosine similarity at each pixel; ties go to the lowest index.

    Args:
        embedding: Network's map of shape (D, h, w), vectors of any length; pixel (x, y) reads it bilinearly at
            ((x + .5) * scale_x / stride - .5, (y + .5) * scale_y / stride - .5), clamped to the map.
        queries: Of shape (Q, D), of length 1 (of any length, if the scalar product is to decide). None: the map's
            channels are the scores of the queries, D = Q.
        windows: Of shape (N, 4), see :func:`pixel_windows`: the pixels that the last N queries are restricted to. The
            first Q - N queries may win anywhere.
        size: Height and width of the image.
        scale: Pixels of the network's input per pixel of the image, across and down.
        stride: Pixels of the network's input per pixel of the map.
        piece: Number of centres or pixels that are processed at once; None: :data:`PIECE` on the CPU,
            :data:`GPU_PIECE` elsewhere.

    Returns:
        The best query of each pixel, on the device of the embedding.
    """
    rows = Axis.of(size[0], scale[1], stride, embedding.shape[1], embedding.device)
    columns = Axis.of(size[1], scale[0], stride, embedding.shape[2], embedding.device)
    if embedding.device.type == 'cpu':
        return search_coarse_to_fine(ScoredMap.of(embedding, queries, windows, rows, columns), piece or PIECE)
    return multiply_all(embedding, queries, windows, rows, columns, piece or GPU_PIECE)
