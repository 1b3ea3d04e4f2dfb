import mmpanoptic.registry  # noqa: F401  (before mmdet, whose notices it drops)

# isort: split
import mmdet.models  # noqa: F401  (a parent registry is searched only among what is imported)

from .dense_heads import *  # noqa: F403
from .detectors import *  # noqa: F403
from .fusion import *  # noqa: F403
from .layers import *  # noqa: F403
from .losses import *  # noqa: F403
from .necks import *  # noqa: F403
from .roi_heads import *  # noqa: F403
from .seg_heads import *  # noqa: F403
from .task_modules import *  # noqa: F403
from .test_time_augs import *  # noqa: F403
