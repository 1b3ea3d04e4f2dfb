"""Similarity of the pixels of segments to the queries that they were assigned to."""

import torch
import torch.nn.functional as F
from torch import Tensor

from mmpanoptic.models.fusion.confidence import mean_of, mean_probabilities, sample_pixels
from mmpanoptic.structures import EmbeddingMap, Evidence

from .query_map import Axis
from .scored_map import ScoredMap, centres_read


def values_at(evidence: Evidence[EmbeddingMap], network_map: Tensor, index: Tensor) -> Tensor:
    """Values that pixels read from a network's map, see :class:`~mmpanoptic.structures.EmbeddingMap`.

    Args:
        evidence: Gives the sizes and the stride of the map.
        network_map: Of shape (D, h, w).
        index: Indices of pixels in the flattened image, of shape (n, K).

    Returns:
        float32 of shape (D, n, K).
    """
    (height, width), scale, stride = evidence.output_size, evidence.scale, evidence.stuff.stride
    rows = Axis.of(height, scale[1], stride, network_map.shape[1], network_map.device)
    columns = Axis.of(width, scale[0], stride, network_map.shape[2], network_map.device)
    nowhere = torch.zeros((0, 4), dtype=torch.int64, device=network_map.device)
    scored = ScoredMap(centres_read(network_map, rows, columns), None, nowhere, 0, rows, columns)
    y, x = index.div(width, rounding_mode='floor'), index % width
    return scored.embeddings_at(x.flatten(), y.flatten()).view(len(network_map), *index.shape)


def similarities(evidence: Evidence[EmbeddingMap], panoptic: Tensor, ids: Tensor, queries: Tensor) -> Tensor:
    """Mean cosine similarity of each segment's pixels to the segment's query.

    Args:
        evidence: Evidence with an embedding map of D dimensions.
        panoptic: The map that was made from it, of shape (H, W).
        ids: Ids of n segments in the map, on its device.
        queries: Queries of the segments, of length 1, of shape (n, D).

    Returns:
        float32 of shape (n,), -1 to 1.
    """
    index, counted = sample_pixels(panoptic, ids)
    points = F.normalize(values_at(evidence, evidence.stuff.embedding, index), dim=0)
    return mean_of((points * queries.float().T[:, :, None]).sum(dim=0), counted)


def semantic_probabilities(
    evidence: Evidence[EmbeddingMap], semantic: Tensor, panoptic: Tensor, ids: Tensor, num_things: int
) -> Tensor:
    """Mean softmax of the semantic branch over pixels of stuff.

    Args:
        evidence: Evidence with an embedding map.
        semantic: Logits of the embedding map's semantic branch.
        panoptic: The map that was made from the evidence, of shape (H, W).
        ids: Ids of n segments of stuff in the map, which are their labels, on its device.
        num_things: Number of thing classes.

    Returns:
        float32 of shape (n,).
    """
    index, counted = sample_pixels(panoptic, ids)
    return mean_probabilities(values_at(evidence, semantic, index), ids.long() - num_things, counted)
