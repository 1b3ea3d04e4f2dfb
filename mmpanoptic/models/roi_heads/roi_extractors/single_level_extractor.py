"""RoI features from one level of a pyramid."""

from collections.abc import Sequence

from mmdet.models.roi_heads import roi_extractors
from torch import Tensor

from mmpanoptic.models.layers.precision import in_full_precision
from mmpanoptic.registry import MODELS


@MODELS.register_module()
class SingleRoIExtractor(roi_extractors.SingleRoIExtractor):
    """mmdet's extractor, pooling in float32: half precision would round RoIs to 1 pixel (float16) or 8 (bfloat16)."""

    def forward(self, feats: Sequence[Tensor], rois: Tensor, roi_scale_factor: float | None = None) -> Tensor:
        """Pool RoI features.

        Args:
            feats: Levels of shape (N, C, H_i, W_i), as many as there are strides.
            rois: Of shape (R, 5): batch index, then x1, y1, x2, y2 in pixels of the network's input.
            roi_scale_factor: Factor by which RoIs are scaled about their centres first.

        Returns:
            Tensor of shape (R, C, h, w), of the type of the levels.
        """
        return in_full_precision(super().forward, tuple(feats), rois, roi_scale_factor).to(feats[0].dtype)
