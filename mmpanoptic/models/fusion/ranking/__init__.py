from .ranking_fusion import RankingFusion
from .spatial_ranking_module import SpatialRankingModule

__all__ = ['RankingFusion', 'SpatialRankingModule']
