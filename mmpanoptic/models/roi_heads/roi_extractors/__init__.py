from . import single_level_extractor  # noqa: F401  (registers)
from .all_level_extractor import AllLevelRoIExtractor

__all__ = ['AllLevelRoIExtractor']
