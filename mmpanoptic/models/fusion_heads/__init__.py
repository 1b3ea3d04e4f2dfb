from .box_fill_fusion import BoxFillFusion
from .heuristic_fusion import HeuristicFusion
from .ranking_fusion import RankingFusion

__all__ = ['BoxFillFusion', 'HeuristicFusion', 'RankingFusion']
