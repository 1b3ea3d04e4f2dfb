"""Mask head with adaptive feature pooling and fully-connected fusion."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmdet.models import FCNMaskHead
from mmengine.model import ModuleList, normal_init
from torch import Tensor, nn

from mmpanoptic.models.layers import AdaptivePooling
from mmpanoptic.registry import MODELS
from mmpanoptic.utils import require_choice

FC_FUSIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = dict(sum=torch.add, product=torch.mul, max=torch.maximum)


@MODELS.register_module()
class FCFusionMaskHead(FCNMaskHead):
    """mmdet's mask head with a first convolution for every feature level and a fully-connected branch.

    Source: PANet, sections 3.2 and 3.3, https://arxiv.org/abs/1803.01534. The branch takes the features after a
    convolution of the main path. Two convolutions, the second with half the channels, and one fully-connected layer
    turn them into a single map for all classes, which is fused with the logits of each class.

    Args:
        num_levels: Number of feature levels.
        fuse, fuse_stage, share_first: See :class:`~mmpanoptic.models.layers.AdaptivePooling`.
        fc_fusion: 'sum', 'product' or 'max' of the logits, or None for no branch.
        fc_from: Convolution after which the branch starts: 'conv1', the first one, which each level has separately,
            'conv2', 'conv3', ...
        fc_relu: Whether the branch's map passes a ReLU, as in the released code; the paper does not say. With 'sum' the
            branch can then only raise logits.
        norm_cfg: Norm of the convolutions, those of the branch included, or None.
        roi_feat_size: Size (h, w) of the RoI features, or one number for both.
        kwargs: See :class:`mmdet.models.FCNMaskHead`.

    Raises:
        ValueError: If an option has a value that is not listed.
    """

    def __init__(
        self,
        num_levels: int = 4,
        fuse: str = 'max',
        fuse_stage: str = 'post',
        share_first: bool = False,
        fc_fusion: str | None = 'sum',
        fc_from: str = 'conv3',
        fc_relu: bool = False,
        norm_cfg: dict | None = None,
        **kwargs,
    ) -> None:
        super().__init__(norm_cfg=norm_cfg, **kwargs)
        sources = [f'conv{i}' for i in range(1, self.num_convs + 1)]
        require_choice('fc_fusion', fc_fusion, (*FC_FUSIONS, None))
        require_choice('fc_from', fc_from, sources)
        self.convs[0] = AdaptivePooling(self.convs[0], num_levels, fuse, fuse_stage, share_first)
        self.fc_fusion = fc_fusion
        self.fc_source = sources.index(fc_from)
        self.fc_relu = fc_relu
        if fc_fusion is None:
            return
        channels = self.conv_out_channels
        self.fc_convs = ModuleList(
            ConvModule(channels, out, 3, padding=1, conv_cfg=self.conv_cfg, norm_cfg=norm_cfg)
            for out in (channels, channels // 2)
        )
        height, width = self.roi_feat_size
        factor = self.scale_factor if self.upsample is not None else 1
        self.fc_mask_size = (height * factor, width * factor)
        self.mask_fc = nn.Linear(channels // 2 * height * width, self.fc_mask_size[0] * self.fc_mask_size[1])

    def init_weights(self) -> None:
        """Initialise the branch's fully-connected layer from N(0, 0.01²), as in the released code."""
        super().init_weights()
        if self.fc_fusion is not None:
            normal_init(self.mask_fc, std=0.01)

    def forward(self, x: Tensor) -> Tensor:
        """Predict masks.

        Args:
            x: RoI features of shape (R, L, C, h, w); (R, C, h, w) if ``num_levels`` is 1.

        Returns:
            Logits of shape (R, K, 2h, 2w), (R, 1, 2h, 2w) if class-agnostic.
        """
        for i, conv in enumerate(self.convs):
            x = conv(x)
            if i == self.fc_source:
                source = x
        if self.upsample is not None:
            x = self.upsample(x)
            if self.upsample_method == 'deconv':
                x = self.relu(x)
        logits = self.conv_logits(x)
        if self.fc_fusion is None:
            return logits
        return FC_FUSIONS[self.fc_fusion](logits, self.fc_logits(source))

    def fc_logits(self, x: Tensor) -> Tensor:
        """Apply the branch: features of shape (R, C, h, w) to one map of shape (R, 1, 2h, 2w)."""
        for conv in self.fc_convs:
            x = conv(x)
        x = self.mask_fc(x.flatten(1)).reshape(x.shape[0], 1, *self.fc_mask_size)
        return F.relu(x) if self.fc_relu else x
