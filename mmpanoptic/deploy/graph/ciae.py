"""CIAE as one graph."""

from types import SimpleNamespace

import torch
from torch import Tensor

from mmpanoptic.models import CIAEProposalHead
from mmpanoptic.models.fusion.embedding.scored_map import first_equals
from mmpanoptic.models.losses import EMBEDDING_STRIDE

from .base import SystemGraph
from .boxes import Detections, above, cut, suppressed, without_small
from .confidence import rating_by_queries, rating_by_semantics
from .image import in_double
from .paste import replaced
from .segments import Segmented, Source, count_rows, listed, with_stuff
from .sizes import Scalar, Size, size_of


class CIAEGraph(SystemGraph):
    """Graph of a :class:`~mmpanoptic.models.CIAE`."""

    def segments(self, inputs: Tensor, size: Size, output_size: Size) -> Segmented:
        """See :class:`SystemGraph`."""
        model, head = self.model, self.model.panoptic_fusion_head
        feats = model.extract_feat(inputs)
        found = model.bbox_head(feats[-len(model.bbox_head.strides) :])
        pixels = model.semantic_head(feats, found.box_embeddings)
        detections, points = locations(model.bbox_head, found, size, head.score_thr)
        embedding = pixels.embedding[0]
        queries = model.semantic_head.queries(embedding, points, torch.stack(size_of(embedding)[::-1]))
        instances = SimpleNamespace(labels=detections.labels, embeddings=queries)
        labels = head.labels(instances, model.semantic_head.thing_queries)
        scale = [in_double(side) / in_double(wanted) for side, wanted in zip(size, output_size, strict=True)]
        boxes = detections.boxes / torch.cat([scale[1], scale[0]] * 2).float()

        rows, columns = (
            readings(pixels_of, step, centres)
            for pixels_of, step, centres in zip(output_size, scale, size_of(embedding), strict=True)
        )
        windows = windows_of(boxes, output_size, head.box_scale)
        num_stuff = head.num_stuff_classes
        if pixels.semantic is None:
            rating = rating_by_queries(embedding, model.semantic_head.stuff_queries, output_size[1], scale)
            queries = torch.cat([model.semantic_head.stuff_queries, queries])
            best = closest(scores_of(queries, embedding), windows, rows, columns, num_stuff)
            things = (best - num_stuff).clamp(min=0)
            semantic = torch.where((best > 0) & (best <= num_stuff), best - 1, num_stuff)
        else:
            rating = rating_by_semantics(pixels.semantic[0], output_size[1], scale)
            semantic = closest(pixels.semantic[0], windows[:0], rows, columns, num_stuff + 1) - 1
            things = closest(scores_of(queries, embedding), windows, rows, columns, 0)
            things = torch.where(semantic == num_stuff, things, 0)
        source = Source(labels, detections.scores, head.num_things_classes, head.num_stuff_classes)
        sources = with_stuff(things, semantic, source, head.stuff_area_limit)
        is_there = (count_rows(sources, source).sum(dim=0) > 0)[1 : source.num_instances + 1].long()
        return listed(sources, source, is_there.cumsum(0) * is_there, rating)


def locations(head: CIAEProposalHead, found: tuple, size: Size, least: float) -> tuple[Detections, Tensor]:
    """Detections of a CIAEProposalHead, and the pixels (N, 2), x and y, at which their queries are read.

    Args:
        head: The head.
        found: Outputs of the head for one image.
        size: Height and width of the network's input without padding.
        least: ``score_thr`` of the fusion.
    """
    cfg, levels = head.test_cfg, []
    for logits, distances, centerness, stride in zip(*found[:3], head.prior_generator.strides, strict=True):
        scores, labels, places = above(logits[0].flatten(1).t().sigmoid(), cfg, least)
        height, width = size_of(logits)
        across, down = ((torch.arange(side) + head.prior_generator.offset) * step for side, step in
                        ((width, stride[0]), (height, stride[1])))  # fmt: skip
        points = torch.stack([across.expand(height, width), down[:, None].expand(height, width)], dim=-1).reshape(-1, 2)
        scores = scores * centerness.flatten()[places].sigmoid()
        levels.append((scores, labels, points[places], distances[0].flatten(1).t()[places]))
    scores, labels, points, distances = (torch.cat(parts) for parts in zip(*levels, strict=True))
    boxes = cut(head.bbox_coder.decode(points, distances), size)
    boxes, scores, labels, points = without_small(cfg.get('min_bbox_size', -1), boxes, scores, labels, points)
    chosen = (scores >= least).nonzero().flatten()
    boxes, scores, labels, points = boxes[chosen], scores[chosen], labels[chosen], points[chosen]
    kept = suppressed(Detections(boxes, scores, labels), cfg)
    height, width = size
    return Detections(boxes[kept], scores[kept], labels[kept]), torch.minimum(
        points[kept].long(), torch.stack([width, height]) - 1
    )


def windows_of(boxes: Tensor, size: Size, box_scale: float | None) -> Tensor:
    """Windows as ``pixel_windows`` of :mod:`mmpanoptic.models.fusion.embedding`, as (top, bottom, left, right)."""
    limits = torch.stack([size[1], size[0], size[1], size[0]])
    boxes = boxes.double()
    if box_scale is None:
        left, top, right, bottom = torch.cat([boxes[:, :2] * 0, boxes[:, 2:] * 0 + limits[2:]], dim=1).long().unbind(1)
        return torch.stack([top, bottom, left, right], dim=1)
    if box_scale != 1:
        centres, halves = (boxes[:, 2:] + boxes[:, :2]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2 * box_scale
        boxes = torch.cat([centres - halves, centres + halves], dim=1)
    sides = torch.minimum((boxes - 0.5).ceil().clamp(min=0), limits.double()).long()
    left, top, right, bottom = sides.unbind(1)
    return torch.stack([top, torch.maximum(top, bottom), left, torch.maximum(left, right)], dim=1)


def readings(pixels: Scalar, scale: Tensor, centres: Scalar) -> Tensor:
    """Bilinear weights with which the pixels of an axis read a map of stride 4, of shape (pixels, centres).

    Each row has up to two weights that are not 0, as in :class:`mmpanoptic.models.fusion.embedding.query_map.Axis`.

    Args:
        pixels: Number of pixels.
        scale: Pixels of the network's input per pixel, float64.
        centres: Number of centres of the map.
    """
    position = (torch.arange(pixels).double() + 0.5) * scale / EMBEDDING_STRIDE - 0.5
    position = torch.minimum(position.clamp(min=0), in_double(centres - 1))
    return (1 - (position[:, None] - torch.arange(centres).double()).abs()).clamp(min=0).float()


def scores_of(queries: Tensor, embedding: Tensor) -> Tensor:
    """Similarities (Q, h, w) of queries (Q, D) to a map (D, h, w), to be interpolated instead of the map."""
    height, width = size_of(embedding)
    return (queries @ embedding.flatten(1))[first_equals(queries)].reshape(-1, height, width)


@torch.jit.script
def closest(scores: Tensor, windows: Tensor, rows: Tensor, columns: Tensor, num_anywhere: int) -> Tensor:
    """The query with the largest score at each pixel; of equal scores, the first query.

    Args:
        scores: Scores of Q queries at the centres of the map, of shape (Q, h, w).
        windows: Window in which each of the last queries may win, (top, bottom, left, right), int64 of shape (n, 4).
        rows, columns: Weights of the two axes, see :func:`readings`.
        num_anywhere: Number of queries Q - n, the first ones, that may win anywhere.

    Returns:
        q + 1, int64 of shape (H, W); 0 outside all windows.
    """
    best = torch.full((rows.shape[0], columns.shape[0]), -1e30)
    queries = torch.zeros(rows.shape[0], columns.shape[0], dtype=torch.int64)
    for index in range(num_anywhere):
        own = torch.matmul(torch.matmul(rows, scores[index]), columns.t())
        queries = torch.where(own > best, index + 1, queries)
        best = torch.maximum(own, best)
    for index in range(windows.shape[0]):
        top, bottom = int(windows[index, 0]), int(windows[index, 1])
        left, right = int(windows[index, 2]), int(windows[index, 3])
        own = torch.matmul(torch.matmul(rows[top:bottom], scores[num_anywhere + index]), columns[left:right].t())
        before, old = best[top:bottom, left:right], queries[top:bottom, left:right]
        wins = own > before
        best = replaced(best, torch.where(wins, own, before), top, bottom, left, right)
        queries = replaced(queries, torch.where(wins, num_anywhere + index + 1, old), top, bottom, left, right)
    return queries
