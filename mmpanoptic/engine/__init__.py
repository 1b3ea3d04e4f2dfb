"""What runs things: runner, hooks, checkpoints, devices, command line."""

import mmpanoptic.registry  # noqa: F401  (before mmdet, whose notices it drops)

# isort: split
import mmdet.engine  # noqa: F401  (registries search their parents only among what is imported)

from . import precision  # noqa: F401  (registers)
from .hooks import *  # noqa: F403
from .loops import EpochBasedTrainLoop, IterBasedTrainLoop  # noqa: F401
