"""SpatialFlow as one graph."""

from mmdet.models import BaseDetector
from torch import Tensor

from .base import SystemGraph
from .boxes import detections_of_anchors
from .fuse import fuse, scripted_ranking
from .image import Preparation
from .rois import roi_outputs
from .segments import Segmented
from .sizes import Size, size_of
from .stuff import stuff_of
from .two_stage import with_masks


class SpatialFlowGraph(SystemGraph):
    """Graph of a :class:`~mmpanoptic.models.SpatialFlow`."""

    def __init__(self, model: BaseDetector, preparation: Preparation) -> None:
        super().__init__(model, preparation)
        self.ranking = scripted_ranking(model.panoptic_fusion_head)

    def segments(self, inputs: Tensor, size: Size, output_size: Size) -> Segmented:
        """See :class:`SystemGraph`."""
        model, head = self.model, self.model.panoptic_fusion_head
        outputs, stuff_feats = model.extract_feats(inputs)
        meta = dict(batch_input_shape=size_of(inputs), img_shape=size, ori_shape=output_size)
        found = detections_of_anchors(
            model.bbox_head, outputs.cls_scores, outputs.bbox_preds, size, model.bbox_head.test_cfg, head.score_thr
        )
        logits = roi_outputs(model.mask_roi_extractor, model.mask_head, outputs.thing_feats, found.boxes)
        instances = with_masks(found, logits, size, output_size, model.test_cfg.mask_thr_binary)
        stuff = stuff_of(model, stuff_feats, meta)
        return fuse(head, instances, stuff, size, self.ranking)
