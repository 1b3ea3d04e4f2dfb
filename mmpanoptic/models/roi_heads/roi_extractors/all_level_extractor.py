"""RoI features from all levels of a pyramid."""

from collections.abc import Sequence

import torch
from mmdet.models.roi_heads.roi_extractors import BaseRoIExtractor
from torch import Tensor

from mmpanoptic.models.layers.precision import in_full_precision
from mmpanoptic.registry import MODELS


@MODELS.register_module()
class AllLevelRoIExtractor(BaseRoIExtractor):
    """Pool every RoI from every level, whatever its size.

    Source: PANet, section 3.2, https://arxiv.org/abs/1803.01534. A head such as
    :class:`~mmpanoptic.models.AdaptivePoolingBBoxHead` fuses the levels.

    Args:
        roi_layer: Config of mmcv's RoIAlign or another of its RoI operators.
        out_channels: Channels C of each level.
        featmap_strides: Stride of each level, fine to coarse.
        init_cfg: As in mmengine's BaseModule.
    """

    def forward(self, feats: Sequence[Tensor], rois: Tensor, roi_scale_factor: float | None = None) -> Tensor:
        """Pool RoI features.

        Args:
            feats: L levels of shape (N, C, H_i, W_i), as many as there are strides.
            rois: Of shape (R, 5): batch index, then x1, y1, x2, y2 in pixels of the network's input.
            roi_scale_factor: Factor by which RoIs are scaled about their centres first.

        Returns:
            Tensor of shape (R, L, C, h, w), of the type of the levels. In memory the levels come first, and each level
            is contiguous.
        """
        return in_full_precision(self._pool, tuple(feats), rois, roi_scale_factor).to(feats[0].dtype)

    def _pool(self, feats: Sequence[Tensor], rois: Tensor, roi_scale_factor: float | None) -> Tensor:
        rois = rois.type_as(feats[0])
        if roi_scale_factor is not None:
            rois = self.roi_rescale(rois, roi_scale_factor)
        pooled = [
            # Some operators refuse empty RoIs. A slice keeps the features in the graph, which DDP needs.
            layer(feat, rois) if len(rois) else feat.flatten()[:0].reshape(0, feat.size(1), *layer.output_size)
            for layer, feat in zip(self.roi_layers, feats, strict=True)
        ]
        return torch.stack(pooled).transpose(0, 1)
