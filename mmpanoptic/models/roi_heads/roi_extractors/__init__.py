from .all_level_extractor import AllLevelRoIExtractor

__all__ = ['AllLevelRoIExtractor']
