"""mmdet's anchor heads, with outputs in float32 and losses of all levels at once."""

from typing import Any

import torch
from mmdet.models import dense_heads
from mmengine.structures import InstanceData
from torch import Tensor

from mmpanoptic.models.layers.precision import full
from mmpanoptic.registry import MODELS


class _AllLevels:
    """Mixin for mmdet's anchor heads. Inherit it before the head.

    Logits and deltas are float32 or float64: anchors take the dtype of the logits, and half precision cannot represent
    coordinates such as 1300.5. A loss is computed for all levels at once; up to rounding, it is the sum of mmdet's
    losses of single levels.
    """

    #: Methods of the head.
    get_anchors: Any
    get_targets: Any
    loss_by_feat_single: Any

    def forward(self, x: tuple[Tensor, ...]) -> tuple[list[Tensor], ...]:
        """Logits and deltas of each level."""
        head: Any = super()
        return full(head.forward(x))

    def _loss_of_levels(
        self,
        cls_scores: list[Tensor],
        bbox_preds: list[Tensor],
        batch_gt_instances: list[InstanceData],
        batch_img_metas: list[dict],
        batch_gt_instances_ignore: list[InstanceData] | None = None,
    ) -> dict[str, Tensor]:
        """``loss_cls`` and ``loss_bbox``; arguments are those of mmdet's ``loss_by_feat``."""
        sizes = [level.shape[-2:] for level in cls_scores]
        anchors, flags = self.get_anchors(sizes, batch_img_metas, device=cls_scores[0].device)
        *targets, avg_factor = self.get_targets(
            anchors, flags, batch_gt_instances, batch_img_metas, batch_gt_instances_ignore=batch_gt_instances_ignore
        )
        levels = [
            torch.cat([level.permute(0, 2, 3, 1).flatten(1, 2) for level in x], 1) for x in (cls_scores, bbox_preds)
        ]
        loss_cls, loss_bbox = self.loss_by_feat_single(
            *(level.transpose(1, 2)[..., None] for level in levels),  # as a single map of width 1
            torch.stack([torch.cat(image_anchors) for image_anchors in anchors]),
            *(torch.cat(target, dim=1) for target in targets),
            avg_factor=avg_factor,
        )
        return dict(loss_cls=loss_cls, loss_bbox=loss_bbox)


@MODELS.register_module()
class RPNHead(_AllLevels, dense_heads.RPNHead):
    """See :class:`mmdet.models.RPNHead`."""

    def loss_by_feat(self, *args, **kwargs) -> dict[str, Tensor]:
        """``loss_rpn_cls`` and ``loss_rpn_bbox``."""
        losses = self._loss_of_levels(*args, **kwargs)
        return dict(loss_rpn_cls=losses['loss_cls'], loss_rpn_bbox=losses['loss_bbox'])


@MODELS.register_module()
class RetinaHead(_AllLevels, dense_heads.RetinaHead):
    """See :class:`mmdet.models.RetinaHead`."""

    def loss_by_feat(self, *args, **kwargs) -> dict[str, Tensor]:
        """``loss_cls`` and ``loss_bbox``."""
        return self._loss_of_levels(*args, **kwargs)
