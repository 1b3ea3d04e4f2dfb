"""Pool RoI features and run RoI heads on them."""

from collections.abc import Sequence
from typing import Any

import torch
from mmdet.models import SingleRoIExtractor
from torch import Tensor, nn

from mmpanoptic.models.roi_heads.roi_extractors import AllLevelRoIExtractor

from .sizes import length_of


def roi_outputs(
    extractor: SingleRoIExtractor | AllLevelRoIExtractor, head: nn.Module, feats: Sequence[Tensor], boxes: Tensor
) -> Any:
    """Run a RoI head for boxes.

    Args:
        extractor: SingleRoIExtractor or AllLevelRoIExtractor.
        head: Head that takes RoI features of shape (R, C, h, w) or (R, L, C, h, w).
        feats: Features of the extractor's levels, of shape (1, C, H_i, W_i).
        boxes: Boxes of shape (R, 4) in pixels of the network's input.

    Returns:
        The head's output, or a tuple of its outputs, R rows each.
    """
    rois = torch.cat([boxes.new_zeros(1).expand(length_of(boxes), 1), boxes], dim=1)
    if isinstance(extractor, AllLevelRoIExtractor):
        return head(torch.stack([layer(feat, rois) for layer, feat in zip(extractor.roi_layers, feats)], dim=1))  # noqa: B905
    if len(extractor.roi_layers) == 1:
        return head(extractor.roi_layers[0](feats[0], rois))
    # Pool level by level, and reorder the outputs, which are far smaller than the features.
    levels = extractor.map_roi_levels(rois, len(extractor.roi_layers))
    places = [(levels == index).nonzero().flatten() for index in range(len(extractor.roi_layers))]
    pooled = [layer(feat, rois[place]) for layer, feat, place in zip(extractor.roi_layers, feats, places, strict=True)]
    outputs = head(torch.cat(pooled))
    order = torch.cat(places)
    rank = torch.zeros_like(order).scatter(0, order, torch.arange(length_of(order)))
    return tuple(output[rank] for output in outputs) if isinstance(outputs, tuple) else outputs[rank]
