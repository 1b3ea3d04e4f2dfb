from . import precision  # noqa: F401  (registers)
from .adaptive_pooling import AdaptivePooling, assigned_levels, count_sources
from .category_memory import CategoryMemory, scheduled_momentum
from .coord_conv import CoordConvModule
from .fc_module import FCModule

__all__ = [
    'AdaptivePooling',
    'CategoryMemory',
    'CoordConvModule',
    'FCModule',
    'assigned_levels',
    'count_sources',
    'scheduled_momentum',
]
