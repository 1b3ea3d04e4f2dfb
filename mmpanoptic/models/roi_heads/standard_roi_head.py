"""mmdet's RoI heads, with outputs in float32 even under autocast."""

from mmdet.models import roi_heads

from mmpanoptic.models.layers.precision import full
from mmpanoptic.registry import MODELS


@MODELS.register_module()
class StandardRoIHead(roi_heads.StandardRoIHead):
    """mmdet's RoI head, which decodes boxes and resizes masks in float32. See :class:`mmdet.models.StandardRoIHead`."""

    def _bbox_forward(self, *args, **kwargs) -> dict:
        results = super()._bbox_forward(*args, **kwargs)
        return results | {name: full(results[name]) for name in ('cls_score', 'bbox_pred')}

    def _mask_forward(self, *args, **kwargs) -> dict:
        results = super()._mask_forward(*args, **kwargs)
        return results | dict(mask_preds=full(results['mask_preds']))
