"""OANet's stuff branch."""

import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmdet.models.seg_heads.base_semantic_head import BaseSemanticHead
from mmdet.structures import SampleList
from mmengine.model import ModuleList, normal_init
from torch import Tensor, nn

from mmpanoptic.models.layers.precision import full
from mmpanoptic.models.losses.semantic_loss import semantic_loss
from mmpanoptic.registry import MODELS
from mmpanoptic.structures import StuffLogits
from mmpanoptic.utils import require_choice

SEG_CLASSES = ('all', 'stuff')
_IGNORED = 255


@MODELS.register_module()
class OANetStuffHead(BaseSemanticHead):
    """Two 3x3 convolutions per level, concatenation at stride 4, a 3x3 and a 1x1 convolution.

    The head is also trained on things, which gives it context; in testing only stuff classes compete for a pixel. The
    paper states the convolutions; their width, norm and activation are this project's choice.

    Source: Liu et al., An End-to-End Network for Panoptic Segmentation, section 3.2, https://arxiv.org/abs/1903.05027

    Args:
        num_things_classes: Number of thing classes T.
        num_stuff_classes: Number of stuff classes S.
        in_channels: Channels of each level.
        inner_channels: Channels of all convolutions but the last.
        num_levels: Number of levels that are used, from the finest (stride 4) on.
        seg_classes: 'all', T + S classes, or 'stuff', S classes, with pixels of things ignored in training.
        full_size_loss: Whether the loss is computed at the size of the input; otherwise at stride 4, with labels
            resized by the nearest pixel.
        norm_cfg: Norm of all convolutions but the last.
        loss_seg: Loss; its ``ignore_index`` must be 255. Ignored pixels should not count (``avg_non_ignore=True``).
        init_cfg: As in mmengine's BaseModule.

    Raises:
        ValueError: If ``seg_classes`` is unknown.
    """

    def __init__(
        self,
        num_things_classes: int = 80,
        num_stuff_classes: int = 53,
        in_channels: int = 256,
        inner_channels: int = 128,
        num_levels: int = 4,
        seg_classes: str = 'all',
        full_size_loss: bool = False,
        norm_cfg: dict = dict(type='GN', num_groups=32),  # noqa: B006  (mmengine's convention)
        loss_seg: dict = dict(  # noqa: B006
            type='CrossEntropyLoss', ignore_index=_IGNORED, avg_non_ignore=True, loss_weight=0.25
        ),
        init_cfg: dict | None = None,
    ) -> None:
        require_choice('seg_classes', seg_classes, SEG_CLASSES)
        num_classes = num_stuff_classes + (num_things_classes if seg_classes == 'all' else 0)
        super().__init__(num_classes=num_classes, loss_seg=loss_seg, init_cfg=init_cfg)
        self.num_things_classes = num_things_classes
        self.num_stuff_classes = num_stuff_classes
        self.full_size_loss = full_size_loss

        def conv(channels: int) -> ConvModule:
            return ConvModule(channels, inner_channels, 3, padding=1, norm_cfg=norm_cfg)

        self.level_convs = ModuleList(nn.Sequential(conv(in_channels), conv(inner_channels)) for _ in range(num_levels))
        self.fuse_conv = conv(num_levels * inner_channels)
        self.conv_logits = nn.Conv2d(inner_channels, num_classes, 1)

    def init_weights(self) -> None:
        """Initialise the last convolution for small logits."""
        super().init_weights()
        normal_init(self.conv_logits, std=0.01)

    def forward(self, x: tuple[Tensor, ...]) -> dict[str, Tensor]:
        """Logits at stride 4.

        Args:
            x: Levels of shape (N, in_channels, H / 4, W / 4), (N, in_channels, H / 8, W / 8), ...; those beyond
                ``num_levels`` are not used.

        Returns:
            ``seg_preds`` of shape (N, T + S or S, H / 4, W / 4), things first, and ``seg_feats``, the input of the last
            convolution.
        """
        size = x[0].shape[-2:]
        levels = [convs(level) for convs, level in zip(self.level_convs, x, strict=False)]
        levels[1:] = [F.interpolate(level, size, mode='bilinear', align_corners=False) for level in levels[1:]]
        feats = self.fuse_conv(torch.cat(levels, dim=1))
        return dict(seg_preds=full(self.conv_logits(feats)), seg_feats=feats)

    def loss(self, x: tuple[Tensor, ...], batch_data_samples: SampleList) -> dict[str, Tensor]:
        """``loss_seg``, see :func:`semantic_loss`, from ``gt_sem_seg`` (contiguous labels, 255 is ignored)."""
        logits = self(x)['seg_preds']
        labels = torch.stack([sample.gt_sem_seg.sem_seg for sample in batch_data_samples])  # (N, 1, H, W)
        if self.full_size_loss:
            logits = F.interpolate(logits, labels.shape[-2:], mode='bilinear', align_corners=False)
        elif labels.shape[-2:] != logits.shape[-2:]:
            labels = F.interpolate(labels.float(), logits.shape[-2:], mode='nearest')
        return dict(loss_seg=semantic_loss(self.loss_seg, logits, self._targets(labels[:, 0].long())))

    def _targets(self, labels: Tensor) -> Tensor:
        """Convert contiguous labels to channels."""
        if self.num_classes > self.num_stuff_classes:
            return labels
        targets = labels - self.num_things_classes
        targets[(targets < 0) | (labels == _IGNORED)] = _IGNORED
        return targets

    def predict(self, x: tuple[Tensor, ...], batch_img_metas: list[dict], rescale: bool = False) -> list[StuffLogits]:
        """Logits of the stuff classes, at the original size or, without ``rescale``, at the size of the input.

        Args:
            x: See ``forward``.
            batch_img_metas: Metainfo of each image: ``batch_input_shape``, ``img_shape`` (without padding) and
                ``ori_shape``, (height, width) each.
            rescale: Whether to return results at the original size.
        """
        logits = self(x)['seg_preds']
        logits = logits[:, logits.shape[1] - self.num_stuff_classes :]
        logits = _resized(logits, batch_img_metas[0]['batch_input_shape'])
        results = []
        for padded, meta in zip(logits, batch_img_metas, strict=True):
            height, width = meta['img_shape'][:2]
            cropped = padded[:, :height, :width]
            if rescale:
                cropped = _resized(cropped[None], meta['ori_shape'][:2])[0]
            results.append(StuffLogits(cropped, 'stuff'))
        return results


def _resized(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear interpolation; torch's refuses maps without channels."""
    if not logits.shape[1]:
        return logits.new_zeros((len(logits), 0, *size))
    return F.interpolate(logits, size, mode='bilinear', align_corners=False)
