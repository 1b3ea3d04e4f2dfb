"""Merging of predictions for several views of one image: flipped, or of another size.

Source: test-time augmentation and box voting of Detectron, https://github.com/facebookresearch/Detectron. Boxes are
x1, y1, x2, y2 in pixels. As in mmcv's NMS, ``offset`` is 0 if x2 and y2 are the end of a box's last pixel, and 1 if
they are the index of that pixel. A view is described by the metainfo of its sample: ``ori_shape``, ``scale_factor``
(width, height), ``flip`` and ``flip_direction``.
"""

from collections.abc import Sequence

import torch
from mmcv.ops import batched_nms
from mmdet.structures.bbox import bbox_flip, bbox_overlaps
from mmengine.structures import InstanceData
from torch import Tensor

from mmpanoptic.utils import UserError

_FLIPPED_DIMS = dict(horizontal=(-1,), vertical=(-2,), diagonal=(-2, -1))


def boxes_to_image(bboxes: Tensor, meta: dict, offset: int = 0) -> Tensor:
    """Convert boxes, of shape (N, 4 · K), from pixels of a view to pixels of the image."""
    return _flip_boxes((bboxes.unflatten(1, (-1, 4)) / _scale(bboxes, meta)).flatten(1), meta, offset)


def boxes_to_view(bboxes: Tensor, meta: dict, offset: int = 0) -> Tensor:
    """Convert boxes, of shape (N, 4), from pixels of the image to pixels of a view."""
    return _flip_boxes(bboxes, meta, offset) * _scale(bboxes, meta)


def boxes_between(bboxes: Tensor, source: dict, target: dict, offset: int = 0) -> Tensor:
    """Convert boxes, of shape (N, 4), from pixels of one view to another's; unchanged if the two views are alike."""
    if source['scale_factor'] == target['scale_factor'] and flip_direction(source) == flip_direction(target):
        return bboxes
    return boxes_to_view(boxes_to_image(bboxes, source, offset), target, offset)


def unflip(maps: Tensor, meta: dict) -> Tensor:
    """Undo a view's flip in masks or other maps, of shape (..., h, w)."""
    direction = flip_direction(meta)
    return maps if direction is None else maps.flip(_FLIPPED_DIMS[direction])


def flip_direction(meta: dict) -> str | None:
    """Direction of a view's flip: 'horizontal', 'vertical', 'diagonal' or None.

    Raises:
        UserError: If the metainfo has no ``flip``.
    """
    if 'flip' not in meta:
        raise UserError(
            "tta_pipeline: samples have no 'flip': give it a RandomFlip (with prob=0.0 for no flip) and leave flip and "
            'flip_direction among the meta_keys of its last step'
        )
    return meta['flip_direction'] if meta['flip'] else None


def candidates(bboxes: Tensor, scores: Tensor, score_thr: float) -> InstanceData:
    """Input of NMS: every box once for each class whose score is above the threshold.

    Args:
        bboxes: Of shape (R, 4 · K), or (R, 4) if all classes share them.
        scores: Of shape (R, K + 1), the background last.
        score_thr: Threshold of scores.

    Returns:
        ``bboxes`` (N, 4), ``scores`` (N,) and ``labels`` (N,).
    """
    scores = scores[:, :-1]
    bboxes = bboxes.unflatten(1, (-1, 4)).expand(-1, scores.size(1), -1)
    rows, labels = (scores > score_thr).nonzero(as_tuple=True)
    return InstanceData(bboxes=bboxes[rows, labels], scores=scores[rows, labels], labels=labels)


def suppress(instances: InstanceData, nms: dict, max_per_img: int = -1) -> InstanceData:
    """NMS in each class.

    Args:
        instances: See :func:`candidates`.
        nms: As in mmcv's ``batched_nms``.
        max_per_img: Largest number of instances that are kept, the highest scores first; no limit unless positive.

    Returns:
        The remaining instances, scores descending.
    """
    if not len(instances):
        return instances
    kept, indices = batched_nms(instances.bboxes, instances.scores, instances.labels, nms)
    instances = instances[indices]
    instances.scores = kept[:, -1]
    return instances[:max_per_img] if max_per_img > 0 else instances


def vote_boxes(kept: InstanceData, voters: InstanceData, iou_thr: float, offset: int = 0) -> Tensor:
    """Replace boxes that NMS kept by averages of the boxes before NMS.

    Each box becomes the mean, weighted by score, of all boxes of its class that overlap it enough, itself included. Its
    score stays ('ID' in Detectron's terms).

    Args:
        kept: K instances with ``bboxes`` and ``labels``.
        voters: N instances with ``bboxes``, ``labels`` and ``scores``.
        iou_thr: Least IoU with which a box votes.
        offset: See the module's docstring.

    Returns:
        Boxes of shape (K, 4).
    """
    end = kept.bboxes.new_tensor([0, 0, offset, offset])
    votes = bbox_overlaps(kept.bboxes + end, voters.bboxes + end) >= iou_thr
    votes &= kept.labels[:, None] == voters.labels
    weights = (votes * voters.scores).double()  # autocast or TF32 would round coordinates to whole pixels
    total = weights.sum(dim=1, keepdim=True)
    means = (weights @ voters.bboxes.double() / total).to(kept.bboxes)
    # Boxes without an area overlap nothing, not even themselves.
    return torch.where(total > 0, means, kept.bboxes)


def vote_masks(probabilities: Sequence[Tensor]) -> Tensor:
    """Mean of each mask's probabilities over the views; all are of shape (R, h, w) and not flipped."""
    return torch.stack(tuple(probabilities)).mean(dim=0)


def _scale(like: Tensor, meta: dict) -> Tensor:
    return like.new_tensor([*meta['scale_factor'], *meta['scale_factor']])


def _flip_boxes(bboxes: Tensor, meta: dict, offset: int) -> Tensor:
    direction = flip_direction(meta)
    if direction is None:
        return bboxes
    return bbox_flip(bboxes, [side - offset for side in meta['ori_shape'][:2]], direction)
