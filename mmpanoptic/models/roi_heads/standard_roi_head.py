"""mmdet's RoI heads, whose outputs are float32 under autocast, too."""

from mmdet.models import roi_heads

from mmpanoptic.models.layers.precision import full
from mmpanoptic.registry import MODELS


@MODELS.register_module()
class StandardRoIHead(roi_heads.StandardRoIHead):
    """Boxes are decoded, and masks resized, from float32. See :class:`mmdet.models.StandardRoIHead`."""

    def _bbox_forward(self, *args, **kwargs) -> dict:
        results = super()._bbox_forward(*args, **kwargs)
        return results | {name: full(results[name]) for name in ('cls_score', 'bbox_pred')}

    def _mask_forward(self, *args, **kwargs) -> dict:
        results = super()._mask_forward(*args, **kwargs)
        return results | dict(mask_preds=full(results['mask_preds']))
