from .oanet import OANet
from .panoptic_fpn import PanopticFPN

__all__ = ['OANet', 'PanopticFPN']
