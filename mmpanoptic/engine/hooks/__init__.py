import mmdet.engine.hooks  # noqa: F401  (registries search their parents only among what is imported)

from .branch_gradient_hook import BranchGradientHook, branch_gradients
from .check_hook import PanopticCheckHook
from .checkpoint_hook import CheckpointHook
from .conflict_hook import RankingConflictHook
from .finite_hook import FiniteLossHook
from .logger_hook import LoggerHook
from .speed_hook import SpeedHook
from .stop_hook import StopHook
from .visualization_hook import PanopticVisualizationHook

__all__ = [
    'BranchGradientHook',
    'CheckpointHook',
    'FiniteLossHook',
    'LoggerHook',
    'PanopticCheckHook',
    'PanopticVisualizationHook',
    'RankingConflictHook',
    'SpeedHook',
    'StopHook',
    'branch_gradients',
]
