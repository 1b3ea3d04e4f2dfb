from .adaptive_pooling_bbox_head import AdaptivePoolingBBoxHead

__all__ = ['AdaptivePoolingBBoxHead']
