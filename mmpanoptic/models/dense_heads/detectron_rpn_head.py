"""A region proposal network that clips its boxes as Detectron does."""

from mmdet.models import RPNHead
from mmdet.utils import InstanceList
from torch import Tensor

from mmpanoptic.registry import MODELS


@MODELS.register_module()
class DetectronRPNHead(RPNHead):
    """mmdet's RPN, whose proposals are clipped to the padded input in testing, not to the image.

    Source: Detectron, https://github.com/facebookresearch/Detectron, on which the released PANet is based: its
    ``im_info`` holds the size of the padded input in testing, and the size of the image in training.

    Args:
        args, kwargs: See :class:`mmdet.models.RPNHead`.
    """

    def predict_by_feat(
        self,
        cls_scores: list[Tensor],
        bbox_preds: list[Tensor],
        *args,
        batch_img_metas: list[dict],
        **kwargs,
    ) -> InstanceList:
        """Proposals. Arguments and results are mmdet's; ``batch_img_metas`` hold ``batch_input_shape``."""
        if not self.training:
            batch_img_metas = [dict(meta, img_shape=meta['batch_input_shape']) for meta in batch_img_metas]
        return super().predict_by_feat(cls_scores, bbox_preds, *args, batch_img_metas=batch_img_metas, **kwargs)
