import mmdet.models  # noqa: F401  (a parent registry is searched only among what is imported)

from .detectors import *  # noqa: F403
from .fusion_heads import *  # noqa: F403
