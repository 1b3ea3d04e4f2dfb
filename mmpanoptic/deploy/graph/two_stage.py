"""Panoptic FPN and OANet as one graph."""

import torch
from mmdet.models import BaseDetector
from torch import Tensor

from .base import SystemGraph
from .boxes import Detections, detections_of_rois, proposals
from .fuse import fuse, scripted_ranking
from .image import Preparation, in_double
from .instances import Instances
from .rois import roi_outputs
from .segments import Segmented
from .sizes import Size, length_of, size_of
from .stuff import stuff_of


class TwoStageGraph(SystemGraph):
    """Graph of a :class:`~mmpanoptic.models.PanopticFPN` or :class:`~mmpanoptic.models.OANet`."""

    def __init__(self, model: BaseDetector, preparation: Preparation) -> None:
        super().__init__(model, preparation)
        self.ranking = scripted_ranking(model.panoptic_fusion_head)

    def segments(self, inputs: Tensor, size: Size, output_size: Size) -> Segmented:
        """See :class:`SystemGraph`."""
        model = self.model
        feats, semantic_feats = model.extract_feats(inputs)
        meta = dict(batch_input_shape=size_of(inputs), img_shape=size, ori_shape=output_size)
        stuff = stuff_of(model, semantic_feats, meta)
        instances = self._instances(feats, size, output_size)
        return fuse(model.panoptic_fusion_head, instances, stuff, size, self.ranking)

    def _instances(self, feats: tuple[Tensor, ...], size: Size, output_size: Size) -> Instances:
        model, heads = self.model, self.model.roi_head
        rpn_cfg = model.test_cfg.rpn
        cls_scores, bbox_preds = model.rpn_head(feats)
        rois = proposals(model.rpn_head, cls_scores, bbox_preds, size, rpn_cfg)
        levels = feats[: heads.bbox_roi_extractor.num_inputs]
        cls_logits, deltas = roi_outputs(heads.bbox_roi_extractor, heads.bbox_head, levels, rois)
        cfg, least = model.test_cfg.rcnn, model.panoptic_fusion_head.score_thr
        found = detections_of_rois(heads.bbox_head, rois, cls_logits, deltas, size, cfg, least)
        logits = roi_outputs(
            heads.mask_roi_extractor, heads.mask_head, feats[: heads.mask_roi_extractor.num_inputs], found.boxes
        )
        return with_masks(found, logits, size, output_size, cfg.mask_thr_binary)


def with_masks(found: Detections, logits: Tensor, size: Size, output_size: Size, threshold: float) -> Instances:
    """Convert detections and masks to instances at the size of the output.

    Args:
        found: N detections, with boxes in pixels of the network's input.
        logits: Mask logits of shape (N, K, h, w), or (N, 1, h, w) for all classes.
        size: Height and width of the input without padding.
        output_size: Height and width of the output.
        threshold: Least probability of a pixel of a mask.
    """
    logits = logits[:, 0] if logits.shape[1] == 1 else logits[torch.arange(length_of(found.labels)), found.labels]
    # mmdet computes the scale in double precision and stores it in single precision.
    height, width = (in_double(side) / in_double(wanted) for side, wanted in zip(size, output_size, strict=True))
    scale = torch.cat([width, height, width, height]).float()
    return Instances(found.boxes / scale, found.scores, found.labels, logits.sigmoid(), threshold)
