from .ciae_head import CIAEHead, CIAEOutputs
from .oanet_stuff_head import OANetStuffHead
from .panoptic_fpn_head import PanopticFPNHead
from .spatialflow_stuff_head import SpatialFlowStuffHead

__all__ = ['CIAEHead', 'CIAEOutputs', 'OANetStuffHead', 'PanopticFPNHead', 'SpatialFlowStuffHead']
