"""Panoptic maps from several views of an image."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from mmdet.structures import SampleList
from torch import Tensor

from mmpanoptic.models.detectors.samples import add_predictions
from mmpanoptic.registry import MODELS
from mmpanoptic.structures import Evidence, StuffLabels, StuffLogits
from mmpanoptic.utils import UserError

from . import voting
from .instance_tta import InstanceTTAModel, View, batches_of
from .stages import Detectron, OneStage, Stages, TwoStage, stages_of


@MODELS.register_module()
class PanopticTTAModel(InstanceTTAModel):
    """Multi-scale and flip testing of panoptic models: the evidence of all views is merged, then fused once.

    The boxes of all views are merged by one NMS; every view predicts masks for the result, and the mask probabilities
    are averaged, as in :class:`InstanceTTAModel`. Semantic logits are resized to the original size (bilinear) and
    averaged. The merged evidence goes to the model's fusion head. A head that ranks instances on a map of the size of
    the network's input (:class:`~mmpanoptic.models.RankingFusion`) uses the size of the first view, which should be
    the size of training.

    A single view gives the same result as testing without this class, to the last bit if it is not flipped. A semantic
    head that resizes labels (:class:`~mmpanoptic.models.SpatialFlowStuffHead`) does so for a single view, and returns
    logits for several views.

    Views are computed one after the other; only the features for masks are kept of each.

    Source: Chen et al., SpatialFlow, https://arxiv.org/abs/1910.08787; https://github.com/chensnathan/SpatialFlow

    Args:
        vote_iou_thr, tight_boxes: See :class:`InstanceTTAModel`; by default no box changes after NMS.
        module: The detector or its config. It has ``extract_feats``, ``fuse``, a ``semantic_head``, a
            ``panoptic_fusion_head``, and either RoI heads or, like :class:`~mmpanoptic.models.SpatialFlow`, a
            ``mask_head``.
        data_preprocessor: See mmengine's BaseTTAModel.

    Raises:
        UserError: If the detector lacks one of these parts.
    """

    def __init__(self, vote_iou_thr: float | None = None, tight_boxes: bool = False, **kwargs) -> None:
        super().__init__(vote_iou_thr=vote_iou_thr, tight_boxes=tight_boxes, **kwargs)

    def find_stages(self) -> Stages:
        """The parts of the detector that find boxes and masks in a view.

        Raises:
            UserError: If the detector has no such parts.
        """
        stages = stages_of(self.module, (Detectron, TwoStage, OneStage))
        parts = ('extract_feats', 'semantic_head', 'panoptic_fusion_head', 'fuse')
        missing = [name for name in parts if getattr(self.module, name, None) is None]
        if stages is None or stages.mask_head is None:
            missing.append('mask head over boxes')
        if stages is None or missing:
            name = type(self.module).__name__
            way_out = 'test it without test-time augmentation'
            if 'panoptic_fusion_head' in missing:
                way_out += ', or, if it has RoI heads, with InstanceTTAModel (configs/_base_/tta/voting_coco.py)'
            raise UserError(
                f'tta_model: {type(self).__name__} merges masks and semantic logits of several views, and {name} has '
                f'no {" and no ".join(missing)}: {way_out}'
            )
        return stages

    @torch.no_grad()
    def test_step(self, data: dict[str, Sequence]) -> SampleList:
        """Segment a batch.

        Args:
            data: See :class:`InstanceTTAModel`.

        Returns:
            The samples of the first view, with ``pred_instances`` and ``pred_panoptic_seg`` as the detector sets them.
        """
        evidence, samples = self.merged_evidence(data)
        return add_predictions(samples, evidence, self.module.fuse(evidence))

    @torch.no_grad()
    def merged_evidence(self, data: dict[str, Sequence]) -> tuple[list[Evidence], SampleList]:
        """Merged evidence of all views for each image of a batch.

        Args:
            data: See :class:`InstanceTTAModel`.

        Returns:
            The merged evidence, whose ``input_size`` is that of the first view, and the samples of that view.
        """
        frames = self.common_frames(data)
        batches = batches_of(data)
        views, boxes = [], []
        semantics: list[Any] = []  # StuffLogits if there are several views
        for batch in batches:
            view, semantic_features = self.extract_both(batch, frames)
            boxes.append(self.predict_boxes(view))
            views.append(self.keep_for_masks(view))
            of_view: list[Any] = self.predict_semantics(semantic_features, view.metas, as_logits=len(batches) > 1)
            if semantics:
                for total, stuff in zip(semantics, of_view, strict=True):
                    total.logits.add_(stuff.logits)
            else:
                semantics = of_view
            del view, semantic_features, of_view  # frees memory before the next view
        if len(batches) > 1:
            for total in semantics:
                total.logits.div_(len(batches))

        evidence = [
            Evidence(instances, stuff, tuple(frame['img_shape'][:2]), tuple(frame['ori_shape'][:2]))
            for instances, stuff, frame in zip(self.predict_instances(views, boxes), semantics, frames, strict=True)
        ]
        return evidence, views[0].samples

    def extract_both(self, data: dict[str, list], frames: list[dict]) -> tuple[View, tuple[Tensor, ...]]:
        """Preprocess a batch of images as it is loaded; features of instances as a view, and of the semantic head."""
        data = self.module.data_preprocessor(data, False)
        features, semantic_features = self.module.extract_feats(data['inputs'])
        return View(features, data['data_samples'], frames), semantic_features

    def predict_semantics(
        self, features: tuple[Tensor, ...], metas: list[dict], as_logits: bool
    ) -> list[StuffLogits | StuffLabels]:
        """Prediction of the semantic head for a view, by image, at the original size and not flipped.

        Args:
            features: Input of the semantic head.
            metas: Metainfo of the view.
            as_logits: Whether logits are needed; otherwise the result has the type that the head gives the fusion head.

        Returns:
            Stuff of each image.

        Raises:
            UserError: If logits are needed and the head has none.
        """
        head = self.module.semantic_head
        predict = getattr(head, 'predict_logits', head.predict) if as_logits else head.predict
        found = predict(features, metas, True)
        if as_logits and not all(isinstance(stuff, StuffLogits) for stuff in found):
            raise UserError(
                f'{type(head).__name__} gives {type(found[0]).__name__}, which cannot be averaged over views: give it '
                'a method predict_logits'
            )
        return [unflip(stuff, meta) for stuff, meta in zip(found, metas, strict=True)]


def unflip(stuff: StuffLogits | StuffLabels, meta: dict) -> StuffLogits | StuffLabels:
    """Stuff of a view without the view's flip."""
    if isinstance(stuff, StuffLogits):
        return replace(stuff, logits=voting.unflip(stuff.logits, meta))
    return replace(stuff, labels=voting.unflip(stuff.labels, meta))
