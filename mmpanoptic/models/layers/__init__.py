from .adaptive_pooling import AdaptivePooling, assigned_levels, count_sources
from .fc_module import FCModule

__all__ = ['AdaptivePooling', 'FCModule', 'assigned_levels', 'count_sources']
