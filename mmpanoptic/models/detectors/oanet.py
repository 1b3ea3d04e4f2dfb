"""OANet."""

from copy import deepcopy

import torch.nn.functional as F
from torch import Tensor

from mmpanoptic.registry import MODELS
from mmpanoptic.utils import require_choice

from .panoptic_fpn import PanopticFPN

SHARES = ('none', 'backbone', 'neck')
STUFF_INPUTS = ('fpn', 'rpn_conv')


@MODELS.register_module()
class OANet(PanopticFPN):
    """One network for instances and stuff with a learned order of overlapping instances.

    It is meant for :class:`~mmpanoptic.models.OANetStuffHead` as semantic branch and
    :class:`~mmpanoptic.models.RankingFusion` as fusion head.

    Source: Liu et al., An End-to-End Network for Panoptic Segmentation, CVPR 2019, https://arxiv.org/abs/1903.05027

    Args:
        backbone, neck: Configs, see :class:`mmdet.models.TwoStagePanopticSegmentor`.
        share: Parts that instances and stuff share (table 4): 'none', two separate networks; 'backbone', with separate
            FPNs; 'neck', backbone and FPN.
        stuff_input: Input of the stuff branch: 'fpn', the maps that enter the RPN and RoIAlign, or 'rpn_conv', the maps
            after the RPN's convolution and ReLU. The paper's "3x3 convolution layer before RPN head" is read as
            'fpn', because only then RoIAlign also comes after it.
        kwargs: See :class:`PanopticFPN`.

    Raises:
        ValueError: If a choice is unknown, or ``stuff_input`` is 'rpn_conv' without ``share='neck'``.
    """

    def __init__(
        self, backbone: dict, neck: dict, *args, share: str = 'neck', stuff_input: str = 'fpn', **kwargs
    ) -> None:
        require_choice('share', share, SHARES)
        require_choice('stuff_input', stuff_input, STUFF_INPUTS)
        if stuff_input == 'rpn_conv' and share != 'neck':
            raise ValueError(f"stuff_input='rpn_conv' shares the neck, share={share!r} does not: choose one of the two")
        super().__init__(deepcopy(backbone), deepcopy(neck), *args, **kwargs)
        self.stuff_input = stuff_input
        self.stuff_backbone = MODELS.build(backbone) if share == 'none' else None
        self.stuff_neck = MODELS.build(neck) if share != 'neck' else None

    def extract_feats(self, batch_inputs: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Features of the RPN and the RoI heads, and features of the stuff branch."""
        levels = self.backbone(batch_inputs)
        features = self.neck(levels)
        if self.stuff_input == 'rpn_conv':
            return features, tuple(F.relu(self.rpn_head.rpn_conv(level)) for level in features)
        if self.stuff_neck is None:
            return features, features
        if self.stuff_backbone is not None:
            levels = self.stuff_backbone(batch_inputs)
        return features, self.stuff_neck(levels)
