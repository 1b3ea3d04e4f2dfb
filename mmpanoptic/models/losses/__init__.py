from .ciae_loss import CIAELoss
from .ciae_targets import EmbeddingTargets, embedding_targets
from .embedding_loss import enlarge_boxes, hardest_queries_loss, mean_queries, segment_sums

__all__ = [
    'CIAELoss',
    'EmbeddingTargets',
    'embedding_targets',
    'enlarge_boxes',
    'hardest_queries_loss',
    'mean_queries',
    'segment_sums',
]
