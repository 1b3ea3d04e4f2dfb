"""mmdet's losses of logits, deltas and boxes, computed in float32 whatever the precision of their inputs.

Under autocast on a GPU, torch runs its own losses in float32. Autocast covers neither mmcv's sigmoid focal loss, which
in float16 is NaN where a logit is far from 0, nor the sums and means in mmdet's code, which overflow at 65504.
"""

import warnings
from typing import Any

from mmdet.models import losses
from torch import Tensor

from mmpanoptic.models.layers.precision import in_full_precision
from mmpanoptic.registry import MODELS


class _InFullPrecision:
    """Mixin for a loss whose first argument is the prediction. Inherit it before the loss."""

    def forward(self, pred: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """See the loss."""
        loss: Any = super()
        return in_full_precision(loss.forward, pred, *args, **kwargs)


@MODELS.register_module()
class CrossEntropyLoss(_InFullPrecision, losses.CrossEntropyLoss):
    """Cross-entropy of classes, of single logits and of masks, without mmdet's warning about ``avg_non_ignore``."""

    def __init__(self, *args, **kwargs) -> None:
        with warnings.catch_warnings():
            warnings.filterwarnings('ignore', message='Default ``avg_non_ignore``')
            super().__init__(*args, **kwargs)


@MODELS.register_module()
class FocalLoss(_InFullPrecision, losses.FocalLoss):
    """Focal loss of single logits."""


@MODELS.register_module()
class IoULoss(_InFullPrecision, losses.IoULoss):
    """IoU loss of boxes."""


@MODELS.register_module()
class GIoULoss(_InFullPrecision, losses.GIoULoss):
    """Generalised IoU loss of boxes."""


@MODELS.register_module()
class L1Loss(_InFullPrecision, losses.L1Loss):
    """L1 loss of box deltas."""


@MODELS.register_module()
class SmoothL1Loss(_InFullPrecision, losses.SmoothL1Loss):
    """Smooth L1 loss of box deltas."""
