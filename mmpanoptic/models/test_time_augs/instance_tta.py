"""Instances from several views of an image."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from mmdet.structures import DetDataSample, SampleList
from mmdet.structures.mask import mask2bbox
from mmengine.model import BaseTTAModel
from mmengine.structures import InstanceData
from torch import Tensor

from mmpanoptic.registry import MODELS
from mmpanoptic.utils import UserError

from . import voting
from .stages import Detectron, Stages, TwoStage, stages_of


@dataclass(frozen=True)
class View:
    """A batch of images that are scaled and flipped in the same way.

    Attributes:
        features: Features of instances, such as levels of shape (B, C, H_i, W_i).
        samples: One sample per image.
        frames: Metainfo of each image's common frame: the pixel coordinates in which the boxes of all views are merged.
    """

    features: Any
    samples: SampleList
    frames: list[dict]

    @property
    def metas(self) -> list[dict]:
        """Metainfo of the samples."""
        return [sample.metainfo for sample in self.samples]


@MODELS.register_module()
class InstanceTTAModel(BaseTTAModel):
    """Multi-scale and flip testing of two-stage detectors, with box voting and mask voting.

    Source: PANet, section 4.2, https://arxiv.org/abs/1803.01534; voting as in Detectron,
    https://github.com/facebookresearch/Detectron. Every view has separate proposals. The boxes of all views are merged
    by one NMS, with the thresholds of the detector's ``test_cfg``, and then by box voting
    (:func:`~.voting.vote_boxes`). Every view predicts masks for the resulting boxes, and the mean of the probabilities
    is pasted.

    A single view without flip gives the same result as testing without this class if ``vote_iou_thr`` is None (with a
    :class:`DetectronRoIHead` up to rounding if the image is scaled). The boxes of a single view vote too, so box voting
    changes boxes even then.

    The features of all views are held in memory: 170 MB per view of 1400 x 1400 pixels with a usual FPN.

    Args:
        vote_iou_thr: Least IoU with which a box votes; None: no box voting. 0.8 is Detectron's, the paper states none.
        tight_boxes: Whether ``bboxes`` become the tight boxes of the masks, as in the paper's submissions. Boxes of
            empty masks stay.
        module: The detector or its config: its ``roi_head`` is a ``StandardRoIHead`` or :class:`DetectronRoIHead`.
        data_preprocessor: See mmengine's BaseTTAModel.

    Raises:
        UserError: If the detector has no such RoI head, or no masks although ``tight_boxes`` is set.
    """

    def __init__(self, vote_iou_thr: float | None = 0.8, tight_boxes: bool = False, **kwargs) -> None:
        super().__init__(**kwargs)
        self.vote_iou_thr = vote_iou_thr
        self.tight_boxes = tight_boxes
        self.stages = self.find_stages()
        if tight_boxes and self.stages.mask_head is None:
            raise UserError('tta_model: tight_boxes needs masks, and the detector predicts none: leave it False')

    def find_stages(self) -> Stages:
        """The parts of the detector that find boxes and masks in a view.

        Raises:
            UserError: If the detector has no such parts.
        """
        stages = stages_of(self.module, (Detectron, TwoStage))
        if stages is None:
            head = getattr(self.module, 'roi_head', None)
            raise UserError(
                f'tta_model: {type(self).__name__} tests detectors with a StandardRoIHead or a DetectronRoIHead, not '
                f'{type(self.module).__name__} with {type(head).__name__ if head else "no roi_head"}'
            )
        return stages

    @torch.no_grad()
    def test_step(self, data: dict[str, Sequence]) -> SampleList:
        """Detect in a batch.

        Args:
            data: Result of mmcv's ``TestTimeAug`` and collation: ``inputs`` and ``data_samples``, each a list of views,
                which are lists of images.

        Returns:
            The samples of the first view, with ``pred_instances`` in pixels of the image. These have ``bboxes`` (N, 4),
            ``scores`` and ``labels`` (N,) and, from a detector with a mask head, ``masks`` (N, H, W) bool.
        """
        frames = self.common_frames(data)
        views, boxes = [], []
        for batch in batches_of(data):
            view = self.extract_view(batch, frames)
            boxes.append(self.predict_boxes(view))
            views.append(self.keep_for_masks(view))
        results = self.predict_instances(views, boxes)
        for sample, instances in zip(views[0].samples, results, strict=True):
            sample.pred_instances = instances
        return views[0].samples

    def merge_preds(self, data_samples_list: list[list[DetDataSample]]) -> SampleList:
        """Not supported: finished predictions lack the data that are merged here."""
        raise NotImplementedError('call test_step')

    def common_frames(self, data: dict[str, Sequence]) -> list[dict]:
        """Metainfo of the frames in which the boxes of all views are merged, see :class:`View`.

        A frame is that of the first view, so that its boxes are not rounded, or that of the image if boxes include
        their last pixel.
        """
        metas = [dict(sample.metainfo, flip=False, flip_direction=None) for sample in data['data_samples'][0]]
        return [dict(meta, scale_factor=(1.0, 1.0)) if self.stages.offset else meta for meta in metas]

    def extract_view(self, data: dict[str, list], frames: list[dict]) -> View:
        """Preprocess a batch of images as it is loaded, and extract its features."""
        data = self.module.data_preprocessor(data, False)
        return View(self.module.extract_feat(data['inputs']), data['data_samples'], frames)

    def predict_instances(self, views: Sequence[View], by_view: Sequence[list[InstanceData]]) -> list[InstanceData]:
        """Merged boxes, and masks for them; see :meth:`test_step`.

        Args:
            views: All views, as :meth:`keep_for_masks` returned them.
            by_view: Result of :meth:`predict_boxes` for each view.
        """
        results = self.merge_boxes(by_view)
        has_masks = self.stages.mask_head is not None
        masks_by_view = [self.predict_masks(view, results) for view in views] if has_masks else []
        for index, (instances, frame) in enumerate(zip(results, views[0].frames, strict=True)):
            instances.bboxes = voting.boxes_to_image(instances.bboxes, frame, self.stages.offset)
            if has_masks:
                probabilities = voting.vote_masks([masks[index] for masks in masks_by_view])
                instances.masks = self.stages.paste(probabilities, instances.bboxes, tuple(frame['ori_shape'][:2]))
            instances.bboxes = instances.bboxes + instances.bboxes.new_tensor([0, 0, *[self.stages.offset] * 2])
            if self.tight_boxes:
                filled = instances.masks.flatten(1).any(dim=1, keepdim=True)
                instances.bboxes = torch.where(filled, mask2bbox(instances.masks), instances.bboxes)
        return results

    def predict_boxes(self, view: View) -> list[InstanceData]:
        """A view's boxes before NMS, by image, in pixels of the frame; see :func:`~.voting.candidates`."""
        by_image = self.stages.candidates(view.features, view.samples)
        for found, meta, frame in zip(by_image, view.metas, view.frames, strict=True):
            found.bboxes = voting.boxes_between(found.bboxes, meta, frame, self.stages.offset)
        return by_image

    def keep_for_masks(self, view: View) -> View:
        """A view without the features that only boxes need."""
        return replace(view, features=self.stages.mask_features(view.features))

    def merge_boxes(self, by_view: Sequence[list[InstanceData]]) -> list[InstanceData]:
        """NMS and voting over the boxes of all views, by image."""
        cfg = self.stages.test_cfg
        results = []
        for of_image in zip(*by_view, strict=True):
            pooled = InstanceData.cat(of_image)
            kept = voting.suppress(pooled, cfg.nms, cfg.max_per_img)
            if self.vote_iou_thr is not None:
                kept.bboxes = voting.vote_boxes(kept, pooled, self.vote_iou_thr, self.stages.offset)
            results.append(kept)
        return results

    def predict_masks(self, view: View, results: Sequence[InstanceData]) -> list[Tensor]:
        """A view's mask probabilities for boxes in pixels of the frame, by image: (R, h, w), not flipped."""
        boxes = [
            voting.boxes_between(instances.bboxes, frame, meta, self.stages.offset)
            for instances, frame, meta in zip(results, view.frames, view.metas, strict=True)
        ]
        counts = [len(image_boxes) for image_boxes in boxes]
        if not any(counts):  # some heads refuse an empty batch
            return [image_boxes.new_zeros(0, 1, 1) for image_boxes in boxes]
        by_image = self.stages.mask_logits(view.features, boxes).split(counts)
        return [
            voting.unflip(self.stages.mask_probabilities(logits, instances.labels), meta)
            for logits, instances, meta in zip(by_image, results, view.metas, strict=True)
        ]


def batches_of(data: dict[str, Sequence]) -> list[dict]:
    """The data of a test step as one batch per view."""
    return [dict(zip(data, view, strict=True)) for view in zip(*data.values(), strict=True)]
