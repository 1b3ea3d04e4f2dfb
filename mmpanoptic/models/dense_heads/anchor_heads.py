"""mmdet's heads on anchors: float32 at their end, and losses of all levels at once."""

import torch
from mmdet.models import dense_heads
from mmengine.structures import InstanceData
from torch import Tensor

from mmpanoptic.models.layers.precision import full
from mmpanoptic.registry import MODELS


class _AllLevels:
    """To be inherited before a head of mmdet.

    Its anchors take the dtype of its logits, and half precision has no 1300.5: logits and deltas are float32 at least.
    A loss is taken of all levels in one go. It is the sum of mmdet's, which has one for each level, up to rounding.
    """

    def forward(self, x: tuple[Tensor, ...]) -> tuple[list[Tensor], ...]:
        """Logits and deltas of each level."""
        return full(super().forward(x))

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
            *(level.transpose(1, 2)[..., None] for level in levels),  # as one map, a place a row
            torch.stack([torch.cat(one) for one in anchors]),
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
