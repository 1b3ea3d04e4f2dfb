from .fc_fusion_mask_head import FCFusionMaskHead

__all__ = ['FCFusionMaskHead']
