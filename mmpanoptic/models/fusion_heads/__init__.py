from .base_fusion_head import build_fusion_head
from .box_fill_fusion import BoxFillFusion
from .embedding_fusion import EmbeddingFusion, EmbeddingMap
from .heuristic_fusion import HeuristicFusion
from .ranking_fusion import RankingFusion

__all__ = [
    'BoxFillFusion',
    'EmbeddingFusion',
    'EmbeddingMap',
    'HeuristicFusion',
    'RankingFusion',
    'build_fusion_head',
]
