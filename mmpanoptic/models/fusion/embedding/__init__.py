from .embedding_fusion import EmbeddingFusion

__all__ = ['EmbeddingFusion']
