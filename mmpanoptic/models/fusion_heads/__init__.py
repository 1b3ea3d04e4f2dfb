from .heuristic_fusion import HeuristicFusion

__all__ = ['HeuristicFusion']
