"""mmdet's losses of logits, deltas and boxes, in float32 whatever the precision of what they are given.

Under autocast torch sends its own losses to float32, on a GPU. It sees neither mmcv's sigmoid focal loss, which in
float16 is NaN where a logit is far from 0, nor the sums and means that mmdet takes itself, which overflow at 65504.
"""

import warnings

from mmdet.models import losses
from torch import Tensor

from mmpanoptic.models.layers.precision import in_full_precision
from mmpanoptic.registry import MODELS


class _InFullPrecision:
    """To be inherited before a loss whose first argument is what was predicted."""

    def forward(self, pred: Tensor, *args, **kwargs) -> Tensor:
        """See the original."""
        return in_full_precision(super().forward, pred, *args, **kwargs)


@MODELS.register_module()
class CrossEntropyLoss(_InFullPrecision, losses.CrossEntropyLoss):
    """Of classes, of single logits and of masks; without mmdet's warning of the averaging that its configs use."""

    def __init__(self, *args, **kwargs) -> None:
        with warnings.catch_warnings():
            warnings.filterwarnings('ignore', message='Default ``avg_non_ignore``')
            super().__init__(*args, **kwargs)


@MODELS.register_module()
class FocalLoss(_InFullPrecision, losses.FocalLoss):
    """Of single logits."""


@MODELS.register_module()
class IoULoss(_InFullPrecision, losses.IoULoss):
    """Of boxes."""


@MODELS.register_module()
class GIoULoss(_InFullPrecision, losses.GIoULoss):
    """Of boxes."""


@MODELS.register_module()
class L1Loss(_InFullPrecision, losses.L1Loss):
    """Of deltas."""


@MODELS.register_module()
class SmoothL1Loss(_InFullPrecision, losses.SmoothL1Loss):
    """Of deltas."""
