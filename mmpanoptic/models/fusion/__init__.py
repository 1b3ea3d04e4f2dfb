"""Fusion: the evidence of a detector becomes one panoptic map.

``paste`` pastes masks in the order of their scores, ``ranking`` learns that order, ``embedding`` compares pixels with
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
