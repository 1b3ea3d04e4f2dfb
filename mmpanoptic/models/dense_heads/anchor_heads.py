"""mmdet's heads on anchors, whose logits and deltas are float32 under autocast, too."""

from mmdet.models import dense_heads
from torch import Tensor

from mmpanoptic.models.layers.precision import full
from mmpanoptic.registry import MODELS


class _FullPrecision:
    """To be inherited before a head. Its anchors take the dtype of its logits, and half precision has no 1300.5."""

    def forward(self, x: tuple[Tensor, ...]) -> tuple[list[Tensor], ...]:
        """Logits and deltas of each level, float32 at least."""
        return full(super().forward(x))


@MODELS.register_module()
class RPNHead(_FullPrecision, dense_heads.RPNHead):
    """See :class:`mmdet.models.RPNHead`."""


@MODELS.register_module()
class RetinaHead(_FullPrecision, dense_heads.RetinaHead):
    """See :class:`mmdet.models.RetinaHead`."""
