"""SpatialFlow."""

from collections.abc import Sequence

import torch
from mmdet.models import SingleStageDetector
from mmdet.models.task_modules import BaseAssigner, SamplingResult
from mmdet.structures import OptSampleList, SampleList
from mmdet.structures.bbox import bbox2roi
from mmengine.structures import InstanceData
from torch import Tensor

from mmpanoptic.models.dense_heads.spatialflow_head import SpatialFlowOutputs
from mmpanoptic.models.layers.precision import full
from mmpanoptic.registry import MODELS, TASK_UTILS
from mmpanoptic.structures import Evidence

from .base import PanopticDetector
from .samples import fit_masks, output_size


@MODELS.register_module()
class SpatialFlow(PanopticDetector, SingleStageDetector):
    """RetinaNet with a mask head and a stuff head, each on a separate sub-network, and flows between them.

    Masks are trained on the annotated boxes and, as in RetinaMask, on the boxes that the network detects in the same
    training step and that match an object.

    Source: Chen et al., SpatialFlow: Bridging All Tasks for Panoptic Segmentation, https://arxiv.org/abs/1910.08787;
    details as in https://github.com/chensnathan/SpatialFlow

    Args:
        backbone, neck, data_preprocessor, init_cfg: See :class:`mmdet.models.SingleStageDetector`.
        bbox_head: Config of :class:`~mmpanoptic.models.SpatialFlowHead`.
        mask_roi_extractor, mask_head: As in a two-stage detector; their inputs are the features of things.
        semantic_head: Config of :class:`~mmpanoptic.models.SpatialFlowStuffHead`; its inputs are the features of stuff.
        panoptic_fusion_head: Config of a fusion head, such as :class:`~mmpanoptic.models.BoxFillFusion`.
        train_cfg: Config of a RetinaHead, with ``proposal``, thresholds of the boxes that masks are trained on, and
            ``thing``, with ``assigner`` and ``mask_size`` for these boxes.
        test_cfg: Config of a RetinaHead, with ``mask_thr_binary``.

    Raises:
        ValueError: If the parts differ in the number of levels with features of things and stuff.
    """

    def __init__(
        self,
        *args,
        mask_roi_extractor: dict,
        mask_head: dict,
        semantic_head: dict,
        panoptic_fusion_head: dict,
        **kwargs,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.mask_roi_extractor = MODELS.build(mask_roi_extractor)
        self.mask_head = MODELS.build(mask_head)
        self.semantic_head = MODELS.build(semantic_head)
        self.build_fusion_head(panoptic_fusion_head)
        given, pooled = self.bbox_head.num_panoptic_levels, self.mask_roi_extractor.num_inputs
        summed = getattr(self.semantic_head, 'num_levels', given)  # heads without it take the levels that they need
        if not given == pooled == summed:
            raise ValueError(
                f'numbers of levels of things and stuff must be equal: num_panoptic_levels is {given} in bbox_head, '
                f'mask_roi_extractor has {pooled} featmap_strides, num_levels is {summed} in semantic_head'
            )
        if self.train_cfg:
            self.thing_assigner = TASK_UTILS.build(self.train_cfg.thing.assigner)

    def extract_feats(self, batch_inputs: Tensor) -> tuple[SpatialFlowOutputs, tuple[Tensor, ...]]:
        """Outputs of the sub-networks, and among these the input of the stuff head."""
        outputs = self.bbox_head(self.extract_feat(batch_inputs))
        return outputs, tuple(outputs.stuff_feats)

    def loss(self, batch_inputs: Tensor, batch_data_samples: SampleList) -> dict[str, Tensor | list[Tensor]]:
        """Losses of boxes, masks, semantics and, if it is trained, the fusion head.

        Args:
            batch_inputs: Images of shape (N, 3, H, W), normalised and padded.
            batch_data_samples: One sample per image, with ``gt_instances``, ``ignored_instances`` and ``gt_sem_seg``.

        Returns:
            Losses by name.
        """
        outputs, stuff_feats = self.extract_feats(batch_inputs)
        metas = [sample.metainfo for sample in batch_data_samples]
        losses = self.bbox_head.detection_loss(outputs, batch_data_samples)
        proposals = self.bbox_head.detect(outputs, metas, self.train_cfg.proposal)
        samples = [
            match_things(detected.bboxes, sample.gt_instances, self.thing_assigner)
            for detected, sample in zip(proposals, batch_data_samples, strict=True)
        ]
        mask_preds = self.mask_logits(outputs.thing_feats, [sample.pos_priors for sample in samples])
        gt_instances = [sample.gt_instances for sample in batch_data_samples]
        losses.update(
            self.mask_head.loss_and_target(mask_preds, samples, gt_instances, self.train_cfg.thing)['loss_mask']
        )
        losses.update(self.semantic_head.loss(stuff_feats, batch_data_samples))
        losses.update(
            self.panoptic_fusion_head.loss(
                batch_data_samples,
                lambda: self._predict_instances(outputs, metas, rescale=False),
            )
        )
        return losses

    def mask_logits(self, thing_feats: Sequence[Tensor], boxes: list[Tensor]) -> Tensor:
        """Mask logits of shape (R, T, h, w) of the boxes of all images, from the sub-network for things."""
        return full(self.mask_head(self.mask_roi_extractor(thing_feats, bbox2roi(boxes))))

    @torch.no_grad()
    def _predict_instances(self, outputs: SpatialFlowOutputs, metas: list[dict], rescale: bool) -> list[InstanceData]:
        """Instances with masks of each image, at its original size or at the size of the input."""
        instances = self.bbox_head.detect(outputs, metas)
        mask_preds = self.mask_logits(outputs.thing_feats, [found.bboxes for found in instances])
        by_image = mask_preds.split([len(found) for found in instances])
        for found, logits, meta in zip(instances, by_image, metas, strict=True):
            if len(found):
                # Boxes are brought to the original size along with the masks.
                self.mask_head.predict_by_feat([logits], [found], [meta], self.test_cfg, rescale=rescale)
            else:
                size = output_size(meta, rescale)
                found.masks = torch.zeros((0, *size), dtype=torch.bool, device=found.bboxes.device)
        return instances if rescale else list(map(fit_masks, instances, metas))

    def evidence(self, batch_inputs: Tensor, batch_data_samples: SampleList, rescale: bool = True) -> list[Evidence]:
        """Instances with masks and the prediction of the stuff head, see :meth:`PanopticDetector.evidence`."""
        outputs, stuff_feats = self.extract_feats(batch_inputs)
        metas = [sample.metainfo for sample in batch_data_samples]
        instances = self._predict_instances(outputs, metas, rescale)
        semantics = self.semantic_head.predict(stuff_feats, metas, rescale)
        return [
            Evidence(found, stuff, tuple(meta['img_shape'][:2]), output_size(meta, rescale))
            for found, stuff, meta in zip(instances, semantics, metas, strict=True)
        ]

    def _forward(self, batch_inputs: Tensor, batch_data_samples: OptSampleList = None) -> tuple:
        """Raw outputs, for counting operations: class logits, deltas, mask logits of detections, semantic logits."""
        outputs, stuff_feats = self.extract_feats(batch_inputs)
        if batch_data_samples is None:
            metas = [dict(img_shape=image.shape[-2:]) for image in batch_inputs]
        else:
            metas = [sample.metainfo for sample in batch_data_samples]
        boxes = [found.bboxes for found in self.bbox_head.detect(outputs, metas)]
        mask_preds = self.mask_logits(outputs.thing_feats, boxes)
        return outputs.cls_scores, outputs.bbox_preds, mask_preds, self.semantic_head(stuff_feats)['seg_preds']


def match_things(proposals: Tensor, gt_instances: InstanceData, assigner: BaseAssigner) -> SamplingResult:
    """Boxes on which masks are trained: the annotated boxes, then the proposals that match one of them.

    Args:
        proposals: Boxes of shape (N, 4), without gradient.
        gt_instances: Annotated ``bboxes`` and ``labels``.
        assigner: Matches boxes to objects.

    Returns:
        Sampling result with positives only, annotated boxes first.
    """
    boxes, labels = gt_instances.bboxes, gt_instances.labels
    assigned = assigner.assign(
        InstanceData(priors=proposals), InstanceData(bboxes=boxes, labels=labels), InstanceData(bboxes=boxes[:0])
    )
    assigned.add_gt_(labels)
    priors = torch.cat([boxes, proposals])
    is_annotated = torch.zeros(len(priors), dtype=torch.uint8, device=priors.device)
    is_annotated[: len(boxes)] = 1
    positives = (assigned.gt_inds > 0).nonzero().flatten()
    return SamplingResult(
        pos_inds=positives,
        neg_inds=positives[:0],
        priors=priors,
        gt_bboxes=boxes,
        assign_result=assigned,
        gt_flags=is_annotated,
        avg_factor_with_neg=False,
    )
