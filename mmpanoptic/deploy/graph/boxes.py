"""Boxes of one image from the outputs of mmdet's heads, for a trace with any number of boxes.

The functions give the results of mmdet's ``predict_by_feat``. That method has branches that depend on the number of
boxes, and a trace would keep only the branch that its example took.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from mmdet.models import BBoxHead, RetinaHead, RPNHead
from mmdet.models.task_modules import DeltaXYWHBBoxCoder
from mmdet.models.task_modules.coders.delta_xywh_bbox_coder import delta2bbox
from torch import Tensor

from .operators import suppress
from .sizes import Size, length_of, size_of


class Detections(NamedTuple):
    """Boxes (N, 4) in pixels of the network's input, scores (N,) and labels (N,), best first."""

    boxes: Tensor
    scores: Tensor
    labels: Tensor

    def chosen(self, cfg: dict) -> 'Detections':
        """The detections that suppression keeps."""
        kept = suppressed(self, cfg)
        return Detections(*(values[kept] for values in self))


def anchors_of(base: Tensor, stride: tuple[int, int], like: Tensor) -> Tensor:
    """Anchors of a level, (H W A, 4), row by row, from base anchors (A, 4) and a map of the level's size."""
    height, width = size_of(like)
    across, down = torch.arange(width) * stride[0], torch.arange(height) * stride[1]
    shifts = torch.stack([
        across.expand(height, width), down[:, None].expand(height, width),
        across.expand(height, width), down[:, None].expand(height, width),
    ], dim=-1)  # fmt: skip
    return (shifts.reshape(-1, 1, 4).to(base.dtype) + base).reshape(-1, 4)


def decode(coder: DeltaXYWHBBoxCoder, anchors: Tensor, deltas: Tensor, size: Size) -> Tensor:
    """Decode anchors and deltas (N, 4) to boxes (N, 4), cut to an image of that height and width."""
    # mmdet returns early if there are no boxes, and a trace would keep that for all images.
    anchors, deltas = (torch.cat([values, values.new_zeros(1, 4)]) for values in (anchors, deltas))
    clamp = coder.add_ctr_clamp, coder.ctr_clamp
    boxes = delta2bbox(anchors, deltas, coder.means, coder.stds, None, 16 / 1000, False, *clamp)[:-1]
    return cut(boxes, size) if coder.clip_border else boxes


def cut(boxes: Tensor, size: Size) -> Tensor:
    """Cut boxes (N, 4) to an image of that height and width."""
    height, width = (side.to(boxes.dtype) for side in size)
    return torch.minimum(boxes.clamp(min=0), torch.stack([width, height, width, height]))


def best(scores: Tensor, limit: int) -> tuple[Tensor, Tensor]:
    """The ``limit`` largest scores of (N,) in falling order, and their indices; if ``limit`` is not positive, all."""
    if limit <= 0:
        return scores, torch.arange(length_of(scores))
    return scores.topk(length_of(scores).clamp(max=limit))


def proposals(
    head: RPNHead,
    cls_scores: Sequence[Tensor],
    bbox_preds: Sequence[Tensor],
    size: Size,
    cfg: dict,
) -> Tensor:
    """Boxes (N, 4) of the RPN, best first.

    Args:
        head: mmdet's RPNHead.
        cls_scores, bbox_preds: Outputs of the head, of shape (1, A, H_i, W_i) and (1, 4 A, H_i, W_i).
        size: Height and width of the network's input without padding.
        cfg: The thresholds.
    """
    levels = []
    generator = head.prior_generator
    for index, (logits, deltas) in enumerate(zip(cls_scores, bbox_preds, strict=True)):
        scores = logits[0].permute(1, 2, 0).reshape(-1).sigmoid()
        scores, places = best(scores, cfg.get('nms_pre', -1))
        anchors = anchors_of(generator.base_anchors[index], generator.strides[index], logits)
        deltas = deltas[0].permute(1, 2, 0).reshape(-1, 4)
        levels.append((scores, deltas[places], anchors[places], torch.full_like(places, index)))
    scores, deltas, anchors, level = (torch.cat(parts) for parts in zip(*levels, strict=True))
    boxes = decode(head.bbox_coder, anchors, deltas, size)
    boxes, scores, level = without_small(cfg.get('min_bbox_size', -1), boxes, scores, level)
    return boxes[suppress(boxes, scores, level, cfg['nms']['iou_threshold'], cfg['max_per_img'])]


def without_small(least: float, boxes: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
    """Keep boxes whose sides are longer than ``least``, and the same rows of ``others``; all if it is negative."""
    if least < 0:
        return boxes, *others
    sides = boxes[:, 2:] - boxes[:, :2]
    kept = (sides > least).all(dim=1).nonzero().flatten()
    return tuple(values[kept] for values in (boxes, *others))


def detections_of_rois(
    head: BBoxHead, rois: Tensor, logits: Tensor, deltas: Tensor, size: Size, cfg: dict, least: float
) -> Detections:
    """Detections of mmdet's box head.

    Args:
        head: mmdet's BBoxHead.
        rois: Boxes of shape (R, 4) in pixels of the network's input.
        logits: Logits of shape (R, K + 1).
        deltas: Deltas of shape (R, 4 K), or (R, 4).
        size: Height and width of the network's input without padding.
        cfg: The thresholds.
        least: ``score_thr`` of the fusion. Lower scores are dropped before suppression, which does not change the rest.
    """
    scores = logits.softmax(dim=-1)[:, :-1]
    chosen = ((scores > cfg['score_thr']) & (scores >= least)).nonzero()
    roi, label = chosen[:, 0], chosen[:, 1]
    scores = scores[roi, label]
    deltas = deltas[roi] if head.reg_class_agnostic else deltas.reshape(-1, head.num_classes, 4)[roi, label]
    boxes = decode(head.bbox_coder, rois[roi], deltas, size)
    return Detections(boxes, scores, label).chosen(cfg)


def detections_of_anchors(
    head: RetinaHead,
    cls_scores: Sequence[Tensor],
    bbox_preds: Sequence[Tensor],
    size: Size,
    cfg: dict,
    least: float,
) -> Detections:
    """Detections of mmdet's RetinaHead.

    Args:
        head, cls_scores, bbox_preds, size, cfg: See :func:`proposals`, but with K times as many logits.
        least: See :func:`detections_of_rois`.
    """
    levels, generator = [], head.prior_generator
    for index, (logits, deltas) in enumerate(zip(cls_scores, bbox_preds, strict=True)):
        scores = logits[0].permute(1, 2, 0).reshape(-1, head.cls_out_channels).sigmoid()
        scores, labels, places = above(scores, cfg, least)
        anchors = anchors_of(generator.base_anchors[index], generator.strides[index], logits)
        deltas = deltas[0].permute(1, 2, 0).reshape(-1, 4)
        levels.append((scores, labels, deltas[places], anchors[places]))
    scores, labels, deltas, anchors = (torch.cat(parts) for parts in zip(*levels, strict=True))
    boxes = decode(head.bbox_coder, anchors, deltas, size)
    boxes, scores, labels = without_small(cfg.get('min_bbox_size', -1), boxes, scores, labels)
    return Detections(boxes, scores, labels).chosen(cfg)


def above(scores: Tensor, cfg: dict, least: float) -> tuple[Tensor, Tensor, Tensor]:
    """Scores, labels and rows of the best of scores (P, K) above thresholds, as mmdet's ``filter_scores_and_topk``."""
    chosen = ((scores > cfg.get('score_thr', 0)) & (scores >= least)).nonzero()
    scores, order = best(scores[chosen[:, 0], chosen[:, 1]], cfg.get('nms_pre', -1))
    chosen = chosen[order]
    return scores, chosen[:, 1], chosen[:, 0]


def suppressed(found: Detections, cfg: dict) -> Tensor:
    """Indices of the detections that suppression keeps, best first."""
    nms = cfg['nms']
    groups = None if nms.get('class_agnostic', False) else found.labels
    return suppress(found.boxes, found.scores, groups, nms['iou_threshold'], cfg['max_per_img'])
