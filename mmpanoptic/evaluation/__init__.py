import mmpanoptic.registry  # noqa: F401  (before mmdet, whose notices it drops)

# isort: split
import mmdet.evaluation  # noqa: F401  (a parent registry is searched only among what is imported)

from .metrics import *  # noqa: F403
