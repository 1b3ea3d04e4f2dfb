from .oanet import OANet
from .panoptic_fpn import PanopticFPN
from .spatialflow import SpatialFlow

__all__ = ['OANet', 'PanopticFPN', 'SpatialFlow']
