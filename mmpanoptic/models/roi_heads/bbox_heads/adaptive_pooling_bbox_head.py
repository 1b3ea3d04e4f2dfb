"""Box head with adaptive feature pooling."""

from mmdet.models import ConvFCBBoxHead
from torch import Tensor, nn

from mmpanoptic.models.layers import AdaptivePooling, FCModule
from mmpanoptic.registry import MODELS


@MODELS.register_module()
class AdaptivePoolingBBoxHead(ConvFCBBoxHead):
    """mmdet's box head with a first layer for every feature level.

    Source: PANet, sections 3.2 and 4.1.3, https://arxiv.org/abs/1803.01534. The paper's two heads:

    - 2 fc (default): ``num_shared_convs=0, num_shared_fcs=2``
    - the heavier head: ``num_shared_convs=4, num_shared_fcs=1``. The fc is in the released code, not in the paper.

    In both, every level has a separate copy of the first shared layer, followed by the fusion. These are the attribute
    ``pooling``; ``shared_convs`` and ``shared_fcs`` hold the other layers.

    Args:
        num_shared_convs: Number of shared 3×3 convolutions, including the first layer.
        num_shared_fcs: Number of shared fully-connected layers, including the first layer if there are no convolutions.
        num_levels: Number of feature levels. 1 makes it a usual head, with ``fc_norm_cfg`` if wanted.
        fuse, fuse_stage, share_first: See :class:`~mmpanoptic.models.layers.AdaptivePooling`.
        norm_cfg: Norm of the convolutions, or None.
        fc_norm_cfg: Norm of the fully-connected layers, or None. Released models have it in the 2-fc head only.
        init_cfg: As in mmengine's BaseModule.
        kwargs: See :class:`mmdet.models.ConvFCBBoxHead`.

    Raises:
        ValueError: If there is no shared layer, or ``with_avg_pool`` is set without shared convolutions.
    """

    def __init__(
        self,
        num_shared_convs: int = 0,
        num_shared_fcs: int = 2,
        num_levels: int = 4,
        fuse: str = 'max',
        fuse_stage: str = 'post',
        share_first: bool = False,
        norm_cfg: dict | None = None,
        fc_norm_cfg: dict | None = None,
        init_cfg: dict | list[dict] | None = None,
        **kwargs,
    ) -> None:
        if not num_shared_convs and not num_shared_fcs:
            raise ValueError('num_shared_convs and num_shared_fcs are 0: there is no first layer for the levels')
        super().__init__(
            num_shared_convs=num_shared_convs,
            num_shared_fcs=num_shared_fcs,
            norm_cfg=norm_cfg,
            init_cfg=init_cfg,
            **kwargs,
        )
        if self.with_avg_pool and not num_shared_convs:
            raise ValueError('with_avg_pool needs shared convolutions: the levels are fused before the average')
        for name in ('shared_fcs', 'cls_fcs', 'reg_fcs'):
            fcs = (FCModule(fc.in_features, fc.out_features, fc_norm_cfg) for fc in getattr(self, name))
            setattr(self, name, nn.ModuleList(fcs))
        self.relu = nn.Identity()  # FCModule includes the ReLU
        if init_cfg is None:
            self.init_cfg.pop()  # mmdet's Xavier initialisation of fully-connected layers, which fails on norms
        first = self.shared_convs if num_shared_convs else self.shared_fcs
        self.pooling = AdaptivePooling(first.pop(0), num_levels, fuse, fuse_stage, share_first)

    def forward(self, x: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Classify and refine.

        Args:
            x: RoI features of shape (R, L, C, h, w); (R, C, h, w) if ``num_levels`` is 1.

        Returns:
            Class logits of shape (R, K + 1), the background last, and box deltas of shape (R, 4·K), or (R, 4) for
            class-agnostic deltas.
        """
        return super().forward(self.pooling(x))
