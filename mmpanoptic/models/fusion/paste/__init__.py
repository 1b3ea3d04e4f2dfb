from .box_fill_fusion import BoxFillFusion
from .heuristic_fusion import HeuristicFusion

__all__ = ['BoxFillFusion', 'HeuristicFusion']
