from .base import PanopticDetector
from .ciae import CIAE
from .oanet import OANet
from .panoptic_fpn import PanopticFPN
from .spatialflow import SpatialFlow

__all__ = ['CIAE', 'OANet', 'PanopticDetector', 'PanopticFPN', 'SpatialFlow']
