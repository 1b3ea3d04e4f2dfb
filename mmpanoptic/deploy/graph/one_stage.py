"""SpatialFlow as one graph."""

import torch
from torch import Tensor, nn

from .boxes import detections_of_anchors, size_of
from .fuse import fuse, scripted_ranking
from .image import Preparation
from .rois import roi_outputs
from .segments import Segmented
from .stuff import stuff_of
from .two_stage import with_masks


class SpatialFlowGraph(nn.Module):
    """From an image, uint8 RGB of shape (H, W, 3), to its segments.

    Args:
        model: :class:`~mmpanoptic.models.SpatialFlow`, in eval mode.
        preparation: What becomes of the image before.
    """

    def __init__(self, model: nn.Module, preparation: Preparation) -> None:
        super().__init__()
        self.model, self.preparation = model, preparation
        self.ranking = scripted_ranking(model.panoptic_fusion_head)

    def forward(self, image: Tensor) -> Segmented:
        """The segments of an image."""
        model, head = self.model, self.model.panoptic_fusion_head
        shape = torch._shape_as_tensor(image)
        output_size = shape[0], shape[1]
        inputs, *size = self.preparation(image, *output_size)
        outputs, stuff_feats = model.extract_feats(inputs)
        meta = dict(batch_input_shape=size_of(inputs), img_shape=tuple(size), ori_shape=output_size)
        found = detections_of_anchors(
            model.bbox_head, outputs.cls_scores, outputs.bbox_preds, size, model.bbox_head.test_cfg, head.score_thr
        )
        logits = roi_outputs(model.mask_roi_extractor, model.mask_head, outputs.thing_feats, found.boxes)
        instances = with_masks(found, logits, size, output_size, model.test_cfg.mask_thr_binary)
        semantic = stuff_of(model, stuff_feats, meta)
        return fuse(head, instances, semantic, size, self.ranking)
