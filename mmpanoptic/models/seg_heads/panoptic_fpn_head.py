"""Panoptic FPN's semantic branch."""

from mmdet.models import PanopticFPNHead as MMDetPanopticFPNHead
from torch import Tensor

from mmpanoptic.models.layers.precision import full
from mmpanoptic.registry import MODELS
from mmpanoptic.structures import StuffLogits


@MODELS.register_module()
class PanopticFPNHead(MMDetPanopticFPNHead):
    """mmdet's head, which returns predictions as :class:`StuffLogits` and without padding.

    Source: Kirillov et al., Panoptic Feature Pyramid Networks, section 3, https://arxiv.org/abs/1901.02446

    Args:
        args, kwargs: See :class:`mmdet.models.PanopticFPNHead`.
    """

    def forward(self, x: tuple[Tensor, ...]) -> dict[str, Tensor]:
        """``seg_preds``, logits of shape (N, S + 1, H, W) of the finest level, and ``seg_feats``, see mmdet's head."""
        outputs = super().forward(x)
        return outputs | dict(seg_preds=full(outputs['seg_preds']))

    def predict(self, x: tuple[Tensor, ...], batch_img_metas: list[dict], rescale: bool = False) -> list[StuffLogits]:
        """Logits of stuff and 'other' of each image, at the original size or, without ``rescale``, at the input's.

        Args:
            x: Levels of shape (N, C, H_i, W_i).
            batch_img_metas: Metainfo of each image: ``batch_input_shape``, ``img_shape`` and ``ori_shape``.
            rescale: Whether to return results at the original size.
        """
        predictions = super().predict(x, batch_img_metas, rescale)
        if not rescale:  # mmdet's predictions include the padding of the batch
            sizes = [meta['img_shape'][:2] for meta in batch_img_metas]
            predictions = [
                logits[:, :rows, :columns] for logits, (rows, columns) in zip(predictions, sizes, strict=True)
            ]
        return [StuffLogits(logits, 'stuff+other') for logits in predictions]
