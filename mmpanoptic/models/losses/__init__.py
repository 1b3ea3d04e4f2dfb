from . import full_precision  # noqa: F401  (registers)
from .ciae_loss import CIAELoss
from .ciae_targets import EMBEDDING_STRIDE, EmbeddingTargets, embedding_targets
from .embedding_loss import enlarge_boxes, hardest_queries_loss, mean_queries, segment_sums

__all__ = [
    'EMBEDDING_STRIDE',
    'CIAELoss',
    'EmbeddingTargets',
    'embedding_targets',
    'enlarge_boxes',
    'hardest_queries_loss',
    'mean_queries',
    'segment_sums',
]
