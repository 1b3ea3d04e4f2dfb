"""Merging what a model says about several views of one image: mirrored, or of another size.

Source: test-time augmentation and box voting of Detectron, https://github.com/facebookresearch/Detectron. Boxes are
x1, y1, x2, y2 in pixels. ``offset`` is 0 where a box ends behind its last pixel and 1 where it ends on it, as in mmcv's
NMS. A view is described by the metainfo of its sample: ``ori_shape``, ``scale_factor`` (width, height), ``flip`` and
``flip_direction``.
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
    """Boxes in a view's pixels, of shape (N, 4 · K), in those of the image."""
    return _flip_boxes((bboxes.unflatten(1, (-1, 4)) / _scale(bboxes, meta)).flatten(1), meta, offset)


def boxes_to_view(bboxes: Tensor, meta: dict, offset: int = 0) -> Tensor:
    """Boxes in the image's pixels, of shape (N, 4), in those of a view; undoes :func:`boxes_to_image`."""
    return _flip_boxes(bboxes, meta, offset) * _scale(bboxes, meta)


def boxes_between(bboxes: Tensor, source: dict, target: dict, offset: int = 0) -> Tensor:
    """Boxes in one view's pixels, of shape (N, 4), in another's; exactly the same if the two are alike."""
    if source['scale_factor'] == target['scale_factor'] and flip_direction(source) == flip_direction(target):
        return bboxes
    return boxes_to_view(boxes_to_image(bboxes, source, offset), target, offset)


def unflip(maps: Tensor, meta: dict) -> Tensor:
    """Masks or other maps of a view, of shape (..., h, w), as they are in the image."""
    direction = flip_direction(meta)
    return maps if direction is None else maps.flip(_FLIPPED_DIMS[direction])


def flip_direction(meta: dict) -> str | None:
    """How a view is mirrored: 'horizontal', 'vertical', 'diagonal' or None.

    Raises:
        UserError: If the metainfo does not say.
    """
    if 'flip' not in meta:
        raise UserError(
            "tta_pipeline: samples have no 'flip': give it a RandomFlip (with prob=0.0 for no flip) and leave flip and "
            'flip_direction among the meta_keys of its last step'
        )
    return meta['flip_direction'] if meta['flip'] else None


def candidates(bboxes: Tensor, scores: Tensor, score_thr: float) -> InstanceData:
    """What NMS chooses from: every box for each class in which it scores enough.

    Args:
        bboxes: Of shape (R, 4 · K), or (R, 4) where all classes share them.
        scores: Of shape (R, K + 1), the background last.
        score_thr: Scores have to be above.

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
        max_per_img: How many instances of the highest scores are kept at most; no limit unless positive.

    Returns:
        What is left, scores descending.
    """
    if not len(instances):
        return instances
    kept, indices = batched_nms(instances.bboxes, instances.scores, instances.labels, nms)
    instances = instances[indices]
    instances.scores = kept[:, -1]
    return instances[:max_per_img] if max_per_img > 0 else instances


def vote_boxes(kept: InstanceData, voters: InstanceData, iou_thr: float, offset: int = 0) -> Tensor:
    """Replace boxes that NMS kept by averages of those that they were chosen from.

    Each becomes the mean, weighted with the scores, of all boxes of its class that overlap it enough, itself included.
    Its score stays ('ID' in Detectron's terms).

    Args:
        kept: K instances with ``bboxes`` and ``labels``.
        voters: N instances with ``bboxes``, ``labels`` and ``scores``.
        iou_thr: A box votes from this IoU on.
        offset: See the module.

    Returns:
        Boxes of shape (K, 4).
    """
    end = kept.bboxes.new_tensor([0, 0, offset, offset])
    votes = bbox_overlaps(kept.bboxes + end, voters.bboxes + end) >= iou_thr
    votes &= kept.labels[:, None] == voters.labels
    weights = (votes * voters.scores).double()  # which neither autocast nor TF32 rounds to whole pixels
    total = weights.sum(dim=1, keepdim=True)
    means = (weights @ voters.bboxes.double() / total).to(kept.bboxes)
    # Boxes without an area overlap nothing, not even themselves.
    return torch.where(total > 0, means, kept.bboxes)


def vote_masks(probabilities: Sequence[Tensor]) -> Tensor:
    """Mean of each mask's probabilities over the views, which are of one shape (R, h, w) and not mirrored."""
    return torch.stack(tuple(probabilities)).mean(dim=0)


def _scale(like: Tensor, meta: dict) -> Tensor:
    return like.new_tensor([*meta['scale_factor'], *meta['scale_factor']])


def _flip_boxes(bboxes: Tensor, meta: dict, offset: int) -> Tensor:
    direction = flip_direction(meta)
    if direction is None:
        return bboxes
    return bbox_flip(bboxes, [side - offset for side in meta['ori_shape'][:2]], direction)
