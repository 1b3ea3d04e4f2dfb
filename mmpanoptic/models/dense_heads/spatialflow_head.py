"""SpatialFlow's parallel sub-networks and the flows between them."""

from collections.abc import Sequence
from typing import NamedTuple

from mmcv.cnn import ConvModule
from mmcv.ops import ModulatedDeformConv2d
from mmdet.models.utils import unpack_gt_instances
from mmdet.structures import SampleList
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmpanoptic.models.layers.precision import full, in_full_precision
from mmpanoptic.registry import MODELS
from mmpanoptic.utils import require_choice

from .anchor_heads import RetinaHead

FLOWS = ('reg2cls', 'reg2stuff', 'reg2thing', 'stuff2thing')
FLOW_SOURCES = ('reg', 'cls')
# Parameters are named as in the released checkpoints, where the sub-network for things is called mask.
_PREFIXES = dict(cls='cls', reg='reg', stuff='stuff', thing='mask')


class SpatialFlowOutputs(NamedTuple):
    """Outputs of the sub-networks, level by level.

    Attributes:
        cls_scores: Class logits of shape (N, A * K, H_i, W_i), float32 or float64: anchors take their type, and half
            precision is too coarse for coordinates.
        bbox_preds: Box deltas of shape (N, A * 4, H_i, W_i), float32 or float64.
        thing_feats: Features of things, (N, C, H_i, W_i), of the first ``num_panoptic_levels``.
        stuff_feats: Features of stuff, (N, C, H_i, W_i), of the same levels.
    """

    cls_scores: list[Tensor]
    bbox_preds: list[Tensor]
    thing_feats: list[Tensor]
    stuff_feats: list[Tensor]


class DeformableStage(nn.Module):
    """Modulated 3x3 deformable convolution whose offsets are computed elsewhere, and ReLU."""

    num_offsets = 2 * 9
    flow_channels = 3 * 9

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = ModulatedDeformConv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, flow: Tensor) -> Tensor:
        """Features of shape (N, C, H, W).

        Args:
            x: Features of shape (N, C, H, W).
            flow: Of shape (N, 27, H, W): offsets (dy, dx) of each tap, then the logits of the modulation.
        """
        offsets, modulation = flow[:, : self.num_offsets], flow[:, self.num_offsets :].sigmoid()
        result = in_full_precision(self.conv, x, offsets.contiguous(), modulation.contiguous())
        return result.to(x.dtype).relu()


@MODELS.register_module()
class SpatialFlowHead(RetinaHead):
    """RetinaNet's two sub-networks, one for stuff and one for things, and spatial flows from regression to the others.

    Stage i of a sub-network is a 3x3 convolution and ReLU, with weights shared by all levels. Its input is the sum of
    the output of stage i - 1 and of phi_i(reg_i), a 3x3 convolution without activation of the regression features after
    the same stage. Things also get psi(stuff). If a sub-network has fewer stages than regression, its stages run
    alongside the last stages of regression. The output of a sub-network without stages is the sum that would enter its
    only stage. Nothing is detached.

    In a deformable sub-network, phi computes offsets and modulation instead, from the sum of the two features. The
    input of the deformable convolution is the sub-network's own features (plus psi(stuff), on which the offsets do not
    depend).

    Parameters are named as in the released checkpoints: ``cls_spatial_flow_convs`` is phi of the class sub-network,
    ``mask_*`` belongs to things, ``stuff_mask_flow_convs`` is psi.

    Source: Chen et al., SpatialFlow: Bridging All Tasks for Panoptic Segmentation, section III,
    https://arxiv.org/abs/1910.08787; the kernels of phi and psi, and modulation, from
    https://github.com/chensnathan/SpatialFlow

    Args:
        args, kwargs: See :class:`mmdet.models.RetinaHead`. ``stacked_convs`` is the number of stages of classification
            and regression; ``in_channels`` and ``feat_channels`` must be equal.
        num_stuff_stages, num_thing_stages: Stages of the sub-networks for stuff and things, at most ``stacked_convs``.
        num_panoptic_levels: Number of levels, from the finest on, with features of stuff and things. With 0, their
            sub-networks and flows do not exist, which leaves a RetinaNet with the flow 'reg2cls'.
        flows: Whether each of the flows 'reg2cls', 'reg2stuff', 'reg2thing' and 'stuff2thing' exists; True if not
            given.
        flow_source: Whether flows start at 'reg' or at 'cls'. With 'cls' the names above mean cls to reg, cls to stuff
            and cls to thing.
        deformable: Sub-networks among 'cls', 'reg', 'stuff' and 'thing' whose stages are deformable.
        init_cfg: As in mmengine's BaseModule.

    Raises:
        ValueError: If an option is unknown or options contradict each other.
    """

    def __init__(
        self,
        *args,
        num_stuff_stages: int = 4,
        num_thing_stages: int = 1,
        num_panoptic_levels: int = 3,
        flows: dict[str, bool] | None = None,
        flow_source: str = 'reg',
        deformable: Sequence[str] = (),
        init_cfg: dict | None = dict(  # noqa: B006  (mmengine's convention)
            type='Normal',
            layer=['Conv2d', 'ModulatedDeformConv2d'],
            std=0.01,
            override=dict(type='Normal', name='retina_cls', std=0.01, bias_prob=0.01),
        ),
        **kwargs,
    ) -> None:
        if unknown := set(flows or ()) - set(FLOWS):
            raise ValueError(f'flows has no {", ".join(sorted(unknown))}, only {", ".join(FLOWS)}')
        require_choice('flow_source', flow_source, FLOW_SOURCES)
        self.flows = {**dict.fromkeys(FLOWS, True), **(flows or {})}
        self.flow_source = flow_source
        self.flow_target = 'cls' if flow_source == 'reg' else 'reg'
        self.num_panoptic_levels = num_panoptic_levels
        self.num_stages = dict(stuff=num_stuff_stages, thing=num_thing_stages)
        self.deformable = tuple(deformable)
        super().__init__(*args, init_cfg=init_cfg, **kwargs)

    def _init_layers(self) -> None:
        """Sub-networks and flows."""
        self._check()
        super()._init_layers()
        targets = {self.flow_target: self.stacked_convs}
        if self.num_panoptic_levels:
            targets.update(self.num_stages)
        for name, stages in targets.items():
            if name in self.deformable:
                convs = nn.ModuleList(DeformableStage(self.feat_channels) for _ in range(stages))
                setattr(self, f'{_PREFIXES[name]}_convs', convs)
                flow_channels = DeformableStage.flow_channels
            else:
                if name in self.num_stages:
                    convs = nn.ModuleList(self._conv(norm_cfg=self.norm_cfg) for _ in range(stages))
                    setattr(self, f'{_PREFIXES[name]}_convs', convs)
                flow_channels = self.feat_channels
            # Offsets are needed with and without a flow.
            num_flows = max(stages, 1) if self._has_flow(name) or name in self.deformable else 0
            flow_convs = nn.ModuleList(self._conv(flow_channels, act_cfg=None) for _ in range(num_flows))
            setattr(self, f'{_PREFIXES[name]}_spatial_flow_convs', flow_convs)
        if self.num_panoptic_levels:
            num_flows = max(min(self.num_stages.values()), 1) if self.flows['stuff2thing'] else 0
            self.stuff_mask_flow_convs = nn.ModuleList(self._conv(act_cfg=None) for _ in range(num_flows))

    def _check(self) -> None:
        """Check that the arguments do not contradict each other.

        Raises:
            ValueError: If they do.
        """
        if self.in_channels != self.feat_channels:
            raise ValueError(
                f'in_channels {self.in_channels} and feat_channels {self.feat_channels} must be the same: the flows '
                'are added to the features of every stage, the first included'
            )
        if self.stacked_convs < 1:
            raise ValueError('stacked_convs must be at least 1: flows start at a stage')
        if self.num_panoptic_levels < 0:
            raise ValueError(f'num_panoptic_levels {self.num_panoptic_levels} is below 0')
        for name, stages in self.num_stages.items() if self.num_panoptic_levels else ():
            if not 0 <= stages <= self.stacked_convs:
                raise ValueError(f'num_{name}_stages {stages} is not between 0 and stacked_convs {self.stacked_convs}')
        for name in self.deformable:
            if name not in (self.flow_target, *self.num_stages):
                raise ValueError(f'deformable: {name!r} gets no flow, only {self.flow_target}, stuff and thing can be')
            if not self.num_stages.get(name, self.stacked_convs):
                raise ValueError(f'deformable: {name} has no stages')
            if name in self.num_stages and not self.num_panoptic_levels:
                raise ValueError(f'deformable: there is no {name} sub-network without num_panoptic_levels')
        if self.deformable and self.norm_cfg:
            raise ValueError('norm_cfg: deformable stages have no norm')
        if self.conv_cfg:
            raise ValueError("conv_cfg: only 'deformable' sets the type of convolutions here")

    def _conv(self, out_channels: int | None = None, **kwargs) -> ConvModule:
        return ConvModule(self.feat_channels, out_channels or self.feat_channels, 3, padding=1, **kwargs)

    def _has_flow(self, name: str) -> bool:
        """Whether a sub-network gets the flow from the source."""
        return self.flows['reg2cls' if name == self.flow_target else f'reg2{name}']

    def forward(self, x: Sequence[Tensor]) -> SpatialFlowOutputs:
        """Outputs for all levels, of shape (N, C, H_i, W_i)."""
        levels = [self._forward_level(level, index < self.num_panoptic_levels) for index, level in enumerate(x)]
        cls_scores, bbox_preds, thing_feats, stuff_feats = map(list, zip(*levels, strict=True))
        panoptic = slice(self.num_panoptic_levels)
        return SpatialFlowOutputs(full(cls_scores), full(bbox_preds), thing_feats[panoptic], stuff_feats[panoptic])

    def _forward_level(self, x: Tensor, panoptic: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Logits, deltas and the features of things and stuff, which are ``x`` unless the level is ``panoptic``."""
        source = target = thing = stuff = x
        for stage, conv in enumerate(getattr(self, f'{_PREFIXES[self.flow_source]}_convs')):
            source = conv(source)
            target = self._advance(self.flow_target, stage, target, source)
            if panoptic:
                stuff = self._advance('stuff', self._own_stage('stuff', stage), stuff, source)
                thing = self._advance('thing', self._own_stage('thing', stage), thing, source, stuff)
        cls_feat, reg_feat = (target, source) if self.flow_source == 'reg' else (source, target)
        return self.retina_cls(cls_feat), self.retina_reg(reg_feat), thing, stuff

    def _own_stage(self, name: str, stage: int) -> int:
        """Stage of the stuff or thing sub-network while the source is at ``stage``, negative before its first stage."""
        return stage - (self.stacked_convs - max(self.num_stages[name], 1))

    def _advance(self, name: str, stage: int, x: Tensor, source: Tensor, stuff: Tensor | None = None) -> Tensor:
        """Features of a sub-network after a stage.

        Args:
            name: The sub-network.
            stage: Stage of the sub-network; features do not change if it is negative.
            x: Features of the sub-network before the stage.
            source: Features that flow into the sub-network.
            stuff: Features of stuff; only for things.
        """
        if stage < 0:
            return x
        convs = getattr(self, f'{_PREFIXES[name]}_convs')
        flow_convs = getattr(self, f'{_PREFIXES[name]}_spatial_flow_convs')
        extra = self._flow_from_stuff(stage, stuff) if stuff is not None else None
        if name in self.deformable:
            flow = flow_convs[stage](x + source if self._has_flow(name) else x)
            return convs[stage](x if extra is None else x + extra, flow)
        if extra is not None:
            x = x + extra
        if len(flow_convs):
            x = x + flow_convs[stage](source)
        return convs[stage](x) if len(convs) else x

    def _flow_from_stuff(self, stage: int, stuff: Tensor) -> Tensor | None:
        """psi(stuff) for a stage of the thing sub-network, None for its first stages if stuff has fewer stages."""
        convs = self.stuff_mask_flow_convs
        index = stage - (max(self.num_stages['thing'], 1) - len(convs))
        return convs[index](stuff) if len(convs) and index >= 0 else None

    def loss(self, x: Sequence[Tensor], batch_data_samples: SampleList) -> dict[str, Tensor]:
        """``loss_cls`` and ``loss_bbox``, see :meth:`detection_loss`."""
        return self.detection_loss(self(x), batch_data_samples)

    def detection_loss(self, outputs: SpatialFlowOutputs, batch_data_samples: SampleList) -> dict[str, Tensor]:
        """Losses of classification and regression, as in RetinaNet.

        Args:
            outputs: Result of ``forward``.
            batch_data_samples: One sample per image, with ``gt_instances``.
        """
        gt_instances, gt_ignored, metas = unpack_gt_instances(batch_data_samples)
        return self.loss_by_feat(outputs.cls_scores, outputs.bbox_preds, gt_instances, metas, gt_ignored)

    def loss_and_predict(
        self, x: Sequence[Tensor], batch_data_samples: SampleList, proposal_cfg: ConfigDict | None = None
    ) -> tuple[dict[str, Tensor], list[InstanceData]]:
        """Losses as in ``loss``, and boxes with the thresholds of ``proposal_cfg``, see :meth:`detect`."""
        outputs = self(x)
        losses = self.detection_loss(outputs, batch_data_samples)
        return losses, self.detect(outputs, [sample.metainfo for sample in batch_data_samples], proposal_cfg)

    def predict(self, x: Sequence[Tensor], batch_data_samples: SampleList, rescale: bool = False) -> list[InstanceData]:
        """Boxes of each image, see :meth:`detect`."""
        return self.detect(self(x), [sample.metainfo for sample in batch_data_samples], rescale=rescale)

    def detect(
        self,
        outputs: SpatialFlowOutputs,
        batch_img_metas: list[dict],
        cfg: ConfigDict | None = None,
        rescale: bool = False,
        with_nms: bool = True,
    ) -> list[InstanceData]:
        """Boxes of each image, without gradient.

        Args:
            outputs: Result of ``forward``.
            batch_img_metas: Metainfo of each image.
            cfg: Thresholds; None: ``test_cfg``.
            rescale: Whether to return boxes at the original size.
            with_nms: Whether NMS drops boxes that overlap better ones, and all boxes beyond ``max_per_img``.

        Returns:
            ``bboxes`` of shape (N, 4), ``scores`` and ``labels`` of each image.
        """
        # mmcv's NMS needs float32.
        return self.predict_by_feat(
            [level.float() for level in outputs.cls_scores],
            [level.float() for level in outputs.bbox_preds],
            batch_img_metas=batch_img_metas,
            cfg=cfg,
            rescale=rescale,
            with_nms=with_nms,
        )
