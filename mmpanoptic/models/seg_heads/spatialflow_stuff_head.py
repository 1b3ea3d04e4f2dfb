"""SpatialFlow's stuff head."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmdet.models.seg_heads.base_semantic_head import BaseSemanticHead
from mmdet.structures import SampleList
from mmengine.model import ModuleList
from torch import Tensor, nn

from mmpanoptic.models.fusion.stuff import best_channel
from mmpanoptic.models.layers.precision import full
from mmpanoptic.models.losses.semantic_loss import semantic_loss
from mmpanoptic.registry import MODELS
from mmpanoptic.structures import StuffLabels, StuffLogits
from mmpanoptic.utils import require_choice

RESIZES = ('labels', 'logits')
_IGNORED = 255


class _Double(nn.Module):
    """Bilinear resizing to twice the size."""

    def __init__(self, align_corners: bool) -> None:
        super().__init__()
        self.align_corners = align_corners

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=2, mode='bilinear', align_corners=self.align_corners)


@MODELS.register_module()
class SpatialFlowStuffHead(BaseSemanticHead):
    """3x3 convolutions with upsampling bring each level to stride 4; a 1x1 convolution maps their sum to logits.

    Strides in these docstrings are for levels from P3 on; with levels from P2 on, strides halve.

    Source: Chen et al., SpatialFlow, section III, https://arxiv.org/abs/1910.08787; details as in
    https://github.com/chensnathan/SpatialFlow

    Args:
        num_things_classes: Number of thing classes T.
        num_stuff_classes: Number of stuff classes S.
        in_channels: Channels of each level.
        inner_channels: Channels of all convolutions but the last.
        num_levels: Number of levels, of strides 8, 16, ...
        merge_things: Whether all things are one class, 'other', the last of S + 1; otherwise there are T + S classes,
            things first. Either way a pixel whose best channel is a thing has no stuff class in testing.
        align_corners: Whether corners are aligned when features and logits are resized, in training and in testing.
        resize: What is resized to the original size in testing: 'labels', the best classes at the size of the input
            (nearest), as in the released code, or 'logits' (bilinear).
        norm_cfg: Norm of all convolutions but the last.
        loss_seg: Loss; its ``ignore_index`` must be 255. Ignored pixels should not count (``avg_non_ignore=True``).
        init_cfg: As in mmengine's BaseModule.

    Raises:
        ValueError: If ``resize`` is unknown, or ``loss_seg`` does not ignore 255.
    """

    def __init__(
        self,
        num_things_classes: int = 80,
        num_stuff_classes: int = 53,
        in_channels: int = 256,
        inner_channels: int = 128,
        num_levels: int = 3,
        merge_things: bool = True,
        align_corners: bool = True,
        resize: str = 'labels',
        norm_cfg: dict = dict(type='GN', num_groups=32),  # noqa: B006  (mmengine's convention)
        loss_seg: dict = dict(  # noqa: B006
            type='CrossEntropyLoss', ignore_index=_IGNORED, avg_non_ignore=True, loss_weight=0.25
        ),
        init_cfg: dict | None = dict(type='Kaiming', layer='Conv2d', distribution='normal'),  # noqa: B006
    ) -> None:
        require_choice('resize', resize, RESIZES)
        if loss_seg.get('ignore_index') != _IGNORED:
            raise ValueError(f'loss_seg: ignore_index is {loss_seg.get("ignore_index")}, not {_IGNORED}')
        num_classes = num_stuff_classes + (1 if merge_things else num_things_classes)
        super().__init__(num_classes=num_classes, loss_seg=loss_seg, init_cfg=init_cfg)
        self.num_things_classes = num_things_classes
        self.num_stuff_classes = num_stuff_classes
        self.num_levels = num_levels
        self.merge_things = merge_things
        self.align_corners = align_corners
        self.resize = resize
        self.lateral_convs = ModuleList()
        for level in range(num_levels):
            layers = []
            for index in range(level + 1):
                channels = inner_channels if index else in_channels
                layers += [
                    ConvModule(channels, inner_channels, 3, padding=1, norm_cfg=norm_cfg),
                    _Double(align_corners),
                ]
            self.lateral_convs.append(nn.Sequential(*layers))
        self.conv_logits = nn.Conv2d(inner_channels, num_classes, 1)

    def forward(self, x: tuple[Tensor, ...]) -> dict[str, Tensor]:
        """Logits at stride 4.

        Args:
            x: ``num_levels`` levels of shape (N, in_channels, H / 8, W / 8), (N, in_channels, H / 16, W / 16), ...

        Returns:
            ``seg_preds`` of shape (N, S + 1 or T + S, H / 4, W / 4) and ``seg_feats``, the input of the last
            convolution.
        """
        feats = sum(convs(level) for convs, level in zip(self.lateral_convs, x, strict=True))
        return dict(seg_preds=full(self.conv_logits(feats)), seg_feats=feats)

    def _enlarge(self, logits: Tensor, size: Sequence[int]) -> Tensor:
        return F.interpolate(logits, size, mode='bilinear', align_corners=self.align_corners)

    def loss(self, x: tuple[Tensor, ...], batch_data_samples: SampleList) -> dict[str, Tensor]:
        """``loss_seg`` at the size of the input, from ``gt_sem_seg`` (contiguous labels, 255 is ignored)."""
        labels = torch.cat([sample.gt_sem_seg.sem_seg for sample in batch_data_samples]).long()  # (N, H, W)
        logits = self._enlarge(self(x)['seg_preds'], labels.shape[-2:])
        return dict(loss_seg=semantic_loss(self.loss_seg, logits, self._targets(labels)))

    def _targets(self, labels: Tensor) -> Tensor:
        """Convert contiguous labels to channels."""
        if not self.merge_things:
            return labels
        targets = labels - self.num_things_classes
        targets[targets < 0] = self.num_stuff_classes
        targets[labels == _IGNORED] = _IGNORED
        return targets

    def predict(
        self, x: tuple[Tensor, ...], batch_img_metas: list[dict], rescale: bool = False
    ) -> Sequence[StuffLabels | StuffLogits]:
        """Stuff of each image at its original size or, without ``rescale``, at the size of the input.

        Args:
            x: See ``forward``.
            batch_img_metas: Metainfo of each image.
            rescale: Whether to return results at the original size.

        Returns:
            With ``resize='labels'`` labels of stuff; with 'logits' the result of ``predict_logits``.
        """
        if self.resize == 'logits':
            return self.predict_logits(x, batch_img_metas, rescale)
        results = []
        for logits, meta in zip(self.logits_of_input(x, batch_img_metas), batch_img_metas, strict=True):
            labels = best_channel(logits)
            size = meta['ori_shape'][:2] if rescale else logits.shape[-2:]
            labels = F.interpolate(labels[None, None].float(), size, mode='nearest')[0, 0].long()
            results.append(StuffLabels(labels, logits))
        return results

    def logits_of_input(self, x: tuple[Tensor, ...], batch_img_metas: list[dict]) -> list[Tensor]:
        """Logits of stuff and then 'other' of each image at the size of the input, of shape (S + 1, H, W).

        Arguments are those of ``predict``.
        """
        return [self._things_as_other(logits) for logits in self._cropped_logits(x, batch_img_metas)]

    def predict_logits(
        self, x: tuple[Tensor, ...], batch_img_metas: list[dict], rescale: bool = False
    ) -> list[StuffLogits]:
        """Logits of stuff and then 'other', whatever ``resize`` is.

        Arguments are those of ``predict``. If things are not merged, 'other' is their largest logit.
        """
        results = []
        for logits, meta in zip(self._cropped_logits(x, batch_img_metas), batch_img_metas, strict=True):
            size = meta['ori_shape'][:2] if rescale else logits.shape[-2:]
            results.append(StuffLogits(self._things_as_other(self._enlarge(logits[None], size)[0]), 'stuff+other'))
        return results

    def _cropped_logits(self, x: tuple[Tensor, ...], batch_img_metas: list[dict]) -> list[Tensor]:
        """Logits of all channels of each image at the size of the input, without padding."""
        logits = self._enlarge(self(x)['seg_preds'], batch_img_metas[0]['batch_input_shape'])
        sizes = [meta['img_shape'][:2] for meta in batch_img_metas]
        return [padded[:, :height, :width] for padded, (height, width) in zip(logits, sizes, strict=True)]

    def _things_as_other(self, logits: Tensor) -> Tensor:
        """Convert logits of all channels, (C, H, W), to logits of stuff and 'other', (S + 1, H, W)."""
        if self.merge_things:
            return logits
        things, stuff = logits.split([self.num_things_classes, self.num_stuff_classes])
        return torch.cat([stuff, things.amax(dim=0, keepdim=True)])
