import mmpanoptic.registry  # noqa: F401  (before mmdet, whose notices it drops)

# isort: split
import mmdet.engine.hooks  # noqa: F401  (registries search their parents only among what is imported)

from .branch_gradient_hook import BranchGradientHook, branch_gradients
from .check_hook import PanopticCheckHook
from .checkpoint_hook import CheckpointHook
from .conflict_hook import RankingConflictHook
from .finite_hook import FiniteLossHook
from .logger_hook import LoggerHook
from .speed_hook import SpeedHook
from .stop_hook import StopHook
from .sync_hook import SyncBuffersHook
from .transfer_hook import ClassTransferHook
from .visualization_hook import PanopticVisualizationHook

__all__ = [
    'BranchGradientHook',
    'CheckpointHook',
    'ClassTransferHook',
    'FiniteLossHook',
    'LoggerHook',
    'PanopticCheckHook',
    'PanopticVisualizationHook',
    'RankingConflictHook',
    'SpeedHook',
    'StopHook',
    'SyncBuffersHook',
    'branch_gradients',
]
