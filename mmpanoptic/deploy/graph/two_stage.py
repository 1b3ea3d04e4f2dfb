"""Panoptic FPN and OANet as one graph."""

import torch
from torch import Tensor, nn

from .base import SystemGraph
from .boxes import Detections, detections_of_rois, proposals, size_of
from .fuse import Instances, fuse, scripted_ranking
from .image import Preparation, in_double
from .rois import roi_outputs
from .segments import Segmented
from .stuff import stuff_of


class TwoStageGraph(SystemGraph):
    """Of a :class:`~mmpanoptic.models.PanopticFPN` or :class:`~mmpanoptic.models.OANet`."""

    def __init__(self, model: nn.Module, preparation: Preparation) -> None:
        super().__init__(model, preparation)
        self.ranking = scripted_ranking(model.panoptic_fusion_head)

    def segments(self, inputs: Tensor, size: list[Tensor], output_size: tuple[Tensor, Tensor]) -> Segmented:
        """See there."""
        model = self.model
        feats, semantic_feats = model.extract_feats(inputs)
        meta = dict(batch_input_shape=size_of(inputs), img_shape=tuple(size), ori_shape=output_size)
        stuff = stuff_of(model, semantic_feats, meta)
        instances = self._instances(feats, size, output_size)
        return fuse(model.panoptic_fusion_head, instances, stuff, size, self.ranking)

    def _instances(self, feats: tuple, size: tuple, output_size: tuple) -> Instances:
        model, heads = self.model, self.model.roi_head
        rpn_cfg = model.test_cfg.rpn
        rois = proposals(model.rpn_head, *model.rpn_head(feats), size, rpn_cfg)
        levels = feats[: heads.bbox_roi_extractor.num_inputs]
        outputs = roi_outputs(heads.bbox_roi_extractor, heads.bbox_head, levels, rois)
        cfg, least = model.test_cfg.rcnn, model.panoptic_fusion_head.score_thr
        found = detections_of_rois(heads.bbox_head, rois, *outputs, size, cfg, least)
        logits = roi_outputs(
            heads.mask_roi_extractor, heads.mask_head, feats[: heads.mask_roi_extractor.num_inputs], found.boxes
        )
        return with_masks(found, logits, size, output_size, cfg.mask_thr_binary)


def with_masks(found: Detections, logits: Tensor, size: tuple, output_size: tuple, threshold: float) -> Instances:
    """Detections as instances of the output's size.

    Args:
        found: N boxes in pixels of the network's input.
        logits: Of masks, of shape (N, K, h, w), or (N, 1, h, w) of whatever class.
        size: Height and width of the input without padding.
        output_size: Those of the output.
        threshold: Least probability of a pixel of a mask.
    """
    if logits.shape[1] == 1:
        logits = logits[:, 0]
    else:
        logits = logits[torch.arange(torch._shape_as_tensor(found.labels)[0]), found.labels]
    # In double precision and then rounded, as mmdet computes and keeps it.
    height, width = (in_double(one) / in_double(other) for one, other in zip(size, output_size, strict=True))
    scale = torch.cat([width, height, width, height]).float()
    return Instances(found.boxes / scale, found.scores, found.labels, logits.sigmoid(), threshold)
