from .spatialflow_head import SpatialFlowHead

__all__ = ['SpatialFlowHead']
