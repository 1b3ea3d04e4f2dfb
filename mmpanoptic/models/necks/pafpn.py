"""FPN with bottom-up path augmentation."""

from collections.abc import Sequence

import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmdet.models import FPN
from torch import Tensor, nn

from mmpanoptic.registry import MODELS
from mmpanoptic.utils import require_choice

CHAINS = ('post', 'pre')
RELU = dict(type='ReLU')
XAVIER = dict(type='Caffe2Xavier', layer='Conv2d')


@MODELS.register_module()
class PAFPN(FPN):
    """FPN with an additional bottom-up path.

    Source: PANet, section 3.1, https://arxiv.org/abs/1803.01534. N2 is P2 itself; N_(i+1) = B_i(A_i(N_i) + P_(i+1)),
    where A_i is a 3×3 convolution of stride 2, B_i is one of stride 1, and none of them is shared. A ReLU follows each
    A and B, but not the laterals and output convolutions of the FPN.

    mmdet's class of that name differs in two ways: the input of A is the sum before B instead of N_i, and there is no
    ReLU after A and B (or, with ``act_cfg``, one also on laterals and outputs). With ``chain='pre'`` and
    ``bottom_up_act_cfg=None`` this class takes mmdet's weights by their names and computes the same.

    Args:
        in_channels: Channels of the backbone's levels, fine to coarse.
        out_channels: Channels of all outputs.
        num_outs: Number of outputs. Outputs beyond the backbone's levels are pooled from the last N with stride 2, or
            made by convolutions if ``add_extra_convs`` is set; 'on_output' then means the last N.
        chain: Input of the next A: 'post', the paper's N_i, or 'pre', mmdet's sum before B.
        bottom_up_act_cfg: Activation after A and B, or None.
        bottom_up_bias: Bias of A and B: True, False, or 'auto', only without a norm. The released model has bias and
            norm.
        norm_cfg: Norm of all convolutions, or None.
        conv_cfg: Type of all convolutions.
        init_cfg: Initial weights; Caffe2's Xavier as in the released code.
        kwargs: See :class:`mmdet.models.FPN`.

    Raises:
        ValueError: If ``chain`` is unknown.
    """

    def __init__(
        self,
        in_channels: list[int],
        out_channels: int,
        num_outs: int,
        *,
        chain: str = 'post',
        bottom_up_act_cfg: dict | None = RELU,
        bottom_up_bias: bool | str = 'auto',
        norm_cfg: dict | None = None,
        conv_cfg: dict | None = None,
        init_cfg: dict | list[dict] | None = XAVIER,
        **kwargs,
    ) -> None:
        super().__init__(
            in_channels, out_channels, num_outs, conv_cfg=conv_cfg, norm_cfg=norm_cfg, init_cfg=init_cfg, **kwargs
        )
        require_choice('chain', chain, CHAINS)
        self.chain = chain

        def convolutions(stride: int) -> nn.ModuleList:
            # Not mmengine's ModuleList, whose init_weights would let each ConvModule override init_cfg.
            return nn.ModuleList(
                ConvModule(
                    out_channels,
                    out_channels,
                    3,
                    stride=stride,
                    padding=1,
                    bias=bottom_up_bias,
                    conv_cfg=conv_cfg,
                    norm_cfg=norm_cfg,
                    act_cfg=bottom_up_act_cfg,
                )
                for _ in self.lateral_convs[1:]
            )

        self.downsample_convs = convolutions(stride=2)
        self.pafpn_convs = convolutions(stride=1)

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Build the pyramid.

        Args:
            inputs: The backbone's levels, fine to coarse, of shape (N, C_i, H_i, W_i).

        Returns:
            ``num_outs`` tensors of shape (N, ``out_channels``, H_i, W_i), each level half the size of the previous one,
            rounded up.

        Raises:
            ValueError: If the number of levels is not the number of ``in_channels``.
        """
        if len(inputs) != len(self.in_channels):
            raise ValueError(f'{len(inputs)} feature levels for {len(self.in_channels)} in_channels')
        laterals = self._top_down(inputs[self.start_level : self.backbone_end_level])
        # fpn_convs may be longer: the convolutions of extra levels come last.
        pyramid = [conv(lateral) for conv, lateral in zip(self.fpn_convs, laterals, strict=False)]
        outs = self._bottom_up(pyramid)
        if not self.add_extra_convs:
            while len(outs) < self.num_outs:
                outs.append(F.max_pool2d(outs[-1], 1, stride=2))
            return tuple(outs)
        sources = dict(on_input=inputs[self.backbone_end_level - 1], on_lateral=laterals[-1], on_output=outs[-1])
        source = sources[self.add_extra_convs]
        for i, conv in enumerate(self.fpn_convs[len(laterals) :]):
            outs.append(conv(F.relu(source) if i > 0 and self.relu_before_extra_convs else source))
            source = outs[-1]
        return tuple(outs)

    def _top_down(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Laterals with all coarser ones added, fine to coarse."""
        merged: list[Tensor] = []
        for conv, level in zip(reversed(self.lateral_convs), reversed(inputs), strict=True):
            lateral = conv(level)
            if merged:
                size = {} if 'scale_factor' in self.upsample_cfg else dict(size=lateral.shape[2:])
                lateral = lateral + F.interpolate(merged[-1], **size, **self.upsample_cfg)
            merged.append(lateral)
        return merged[::-1]

    def _bottom_up(self, pyramid: Sequence[Tensor]) -> list[Tensor]:
        """N of each level from the P of each level, fine to coarse; the first N is the first P."""
        outs = [pyramid[0]]
        previous = pyramid[0]
        for downsample, conv, level in zip(self.downsample_convs, self.pafpn_convs, pyramid[1:], strict=True):
            fused = downsample(previous) + level
            outs.append(conv(fused))
            previous = outs[-1] if self.chain == 'post' else fused
        return outs
