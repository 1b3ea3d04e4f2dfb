"""Panoptic FPN."""

import torch
from mmdet.models import TwoStagePanopticSegmentor
from mmdet.structures import OptSampleList, SampleList

from mmpanoptic.registry import MODELS


@MODELS.register_module()
class PanopticFPN(TwoStagePanopticSegmentor):
    """Mask R-CNN plus a semantic branch on one FPN. https://arxiv.org/abs/1901.02446

    Differs from mmdet's class of that name in three ways: predictions keep their instances (for box and mask AP), the
    fusion head takes its thresholds as arguments of its own, and ``mode='tensor'`` works.

    Args:
        panoptic_fusion_head: Config of a fusion head, such as :class:`~mmpanoptic.models.HeuristicFusion`.
        kwargs: See :class:`mmdet.models.TwoStagePanopticSegmentor`.
    """

    def __init__(self, *args, panoptic_fusion_head: dict, **kwargs) -> None:
        super().__init__(*args, panoptic_fusion_head=None, **kwargs)
        self.panoptic_fusion_head = MODELS.build(panoptic_fusion_head)
        self.num_things_classes = self.panoptic_fusion_head.num_things_classes
        self.num_stuff_classes = self.panoptic_fusion_head.num_stuff_classes
        self.num_classes = self.panoptic_fusion_head.num_classes

    def predict(self, batch_inputs: torch.Tensor, batch_data_samples: SampleList, rescale: bool = True) -> SampleList:
        """Segment a batch.

        Args:
            batch_inputs: Images of shape (N, 3, H, W), normalised and padded.
            batch_data_samples: One sample an image.
            rescale: Whether results are given at the original size.

        Returns:
            The samples, with ``pred_instances`` and ``pred_panoptic_seg`` set.
        """
        features = self.extract_feat(batch_inputs)
        if batch_data_samples[0].get('proposals', None) is None:
            proposals = self.rpn_head.predict(features, batch_data_samples, rescale=False)
        else:
            proposals = [sample.proposals for sample in batch_data_samples]
        instances = self.roi_head.predict(features, proposals, batch_data_samples, rescale=rescale)
        metas = [sample.metainfo for sample in batch_data_samples]
        semantics = self.semantic_head.predict(features, metas, rescale)
        panoptic = self.panoptic_fusion_head.predict(instances, semantics)
        for sample, its_instances, its_panoptic in zip(batch_data_samples, instances, panoptic, strict=True):
            sample.pred_instances = its_instances
            sample.pred_panoptic_seg = its_panoptic
        return batch_data_samples

    def _forward(self, batch_inputs: torch.Tensor, batch_data_samples: OptSampleList = None) -> tuple:
        """Raw outputs, for counting operations: the RPN's, the RoI heads' and the semantic logits."""
        features = self.extract_feat(batch_inputs)
        proposals = self.rpn_head.predict(features, batch_data_samples, rescale=False)
        roi_outputs = self.roi_head.forward(features, proposals, batch_data_samples)
        return (*self.rpn_head(features), *roi_outputs, self.semantic_head(features)['seg_preds'])
