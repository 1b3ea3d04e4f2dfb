"""Features of RoIs, by the extractors of a model."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmpanoptic.models.roi_heads.roi_extractors import AllLevelRoIExtractor


def roi_outputs(
    extractor: nn.Module, head: nn.Module, feats: Sequence[Tensor], boxes: Tensor
) -> tuple[Tensor, ...] | Tensor:
    """What a head says about boxes.

    Args:
        extractor: SingleRoIExtractor or AllLevelRoIExtractor.
        head: Takes RoI features of shape (R, C, h, w) or (R, L, C, h, w).
        feats: Levels of shape (1, C, H_i, W_i), as many as the extractor has.
        boxes: Of shape (R, 4) in pixels of the network's input.

    Returns:
        The head's outputs, R rows each.
    """
    rois = torch.cat([boxes.new_zeros(1).expand(torch._shape_as_tensor(boxes)[0], 1), boxes], dim=1)
    if isinstance(extractor, AllLevelRoIExtractor):
        return head(torch.stack([layer(feat, rois) for layer, feat in zip(extractor.roi_layers, feats)], dim=1))  # noqa: B905
    if len(extractor.roi_layers) == 1:
        return head(extractor.roi_layers[0](feats[0], rois))
    # Level by level, and what comes out is brought to the order of the boxes: that is far less than features are.
    levels = extractor.map_roi_levels(rois, len(extractor.roi_layers))
    places = [(levels == index).nonzero().flatten() for index in range(len(extractor.roi_layers))]
    pooled = [layer(feat, rois[place]) for layer, feat, place in zip(extractor.roi_layers, feats, places, strict=True)]
    outputs = head(torch.cat(pooled))
    order = torch.cat(places)
    rank = torch.zeros_like(order).scatter(0, order, torch.arange(torch._shape_as_tensor(order)[0]))
    return tuple(output[rank] for output in outputs) if isinstance(outputs, tuple) else outputs[rank]
