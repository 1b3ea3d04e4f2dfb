from .oanet_stuff_head import OANetStuffHead
from .spatial_ranking_module import SpatialRankingModule

__all__ = ['OANetStuffHead', 'SpatialRankingModule']
