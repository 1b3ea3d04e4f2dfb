from .ciae_head import CIAEHead
from .oanet_stuff_head import OANetStuffHead
from .spatial_ranking_module import SpatialRankingModule
from .spatialflow_stuff_head import SpatialFlowStuffHead

__all__ = ['CIAEHead', 'OANetStuffHead', 'SpatialFlowStuffHead', 'SpatialRankingModule']
