import mmdet.engine.hooks  # noqa: F401  (registries search their parents only among what is imported)

from .check_hook import PanopticCheckHook
from .conflict_hook import RankingConflictHook
from .visualization_hook import PanopticVisualizationHook

__all__ = ['PanopticCheckHook', 'PanopticVisualizationHook', 'RankingConflictHook']
