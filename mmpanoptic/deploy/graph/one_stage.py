"""SpatialFlow as one graph."""

from torch import Tensor, nn

from .base import SystemGraph
from .boxes import detections_of_anchors, size_of
from .fuse import fuse, scripted_ranking
from .image import Preparation
from .rois import roi_outputs
from .segments import Segmented
from .stuff import stuff_of
from .two_stage import with_masks


class SpatialFlowGraph(SystemGraph):
    """Of a :class:`~mmpanoptic.models.SpatialFlow`."""

    def __init__(self, model: nn.Module, preparation: Preparation) -> None:
        super().__init__(model, preparation)
        self.ranking = scripted_ranking(model.panoptic_fusion_head)

    def segments(self, inputs: Tensor, size: list[Tensor], output_size: tuple[Tensor, Tensor]) -> Segmented:
        """See there."""
        model, head = self.model, self.model.panoptic_fusion_head
        outputs, stuff_feats = model.extract_feats(inputs)
        meta = dict(batch_input_shape=size_of(inputs), img_shape=tuple(size), ori_shape=output_size)
        found = detections_of_anchors(
            model.bbox_head, outputs.cls_scores, outputs.bbox_preds, size, model.bbox_head.test_cfg, head.score_thr
        )
        logits = roi_outputs(model.mask_roi_extractor, model.mask_head, outputs.thing_feats, found.boxes)
        instances = with_masks(found, logits, size, output_size, model.test_cfg.mask_thr_binary)
        stuff = stuff_of(model, stuff_feats, meta)
        return fuse(head, instances, stuff, size, self.ranking)
