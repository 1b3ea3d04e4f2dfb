"""Fusion: evidence of a detector becomes one panoptic map.

``paste`` pastes masks one over the other, ``ranking`` learns in which order, ``embedding`` compares pixels with
queries. All heads have the interface of :class:`~.base.BaseFusionHead`.
"""

from .base import BaseFusionHead
from .embedding import EmbeddingFusion
from .paste import BoxFillFusion, HeuristicFusion
from .ranking import RankingFusion, SpatialRankingModule

__all__ = [
    'BaseFusionHead',
    'BoxFillFusion',
    'EmbeddingFusion',
    'HeuristicFusion',
    'RankingFusion',
    'SpatialRankingModule',
]
