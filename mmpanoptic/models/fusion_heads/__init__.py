from .heuristic_fusion import HeuristicFusion
from .ranking_fusion import RankingFusion

__all__ = ['HeuristicFusion', 'RankingFusion']
