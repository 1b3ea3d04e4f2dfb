from . import standard_roi_head  # noqa: F401  (registers)
from .bbox_heads import *  # noqa: F403
from .detectron_roi_head import *  # noqa: F403
from .mask_heads import *  # noqa: F403
from .roi_extractors import *  # noqa: F403
