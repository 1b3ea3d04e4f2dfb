"""A common interface to the parts of different detectors that find boxes in a view, and masks for boxes."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmdet.models import BaseDetector, FCNMaskHead, StandardRoIHead
from mmdet.structures import SampleList
from mmdet.structures.bbox import bbox2roi
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmpanoptic.models.dense_heads import SpatialFlowOutputs
from mmpanoptic.models.roi_heads.detectron_roi_head import DetectronRoIHead, paste_mask

from . import voting


class Stages(ABC):
    """Boxes and masks of a detector. ``features`` are those that its ``extract_feats`` returns for instances.

    Args:
        detector: A detector for which ``fits`` is true.
    """

    #: Offset of box ends inside of the detector, see :mod:`~.voting`.
    offset: int = 0

    def __init__(self, detector: BaseDetector) -> None:
        self.detector = detector

    @staticmethod
    @abstractmethod
    def fits(detector: nn.Module) -> bool:
        """Whether a detector has the parts that this class needs."""

    @property
    @abstractmethod
    def test_cfg(self) -> ConfigDict:
        """``nms``, ``max_per_img`` and ``mask_thr_binary``."""

    @property
    @abstractmethod
    def mask_head(self) -> FCNMaskHead | None:
        """Mask head; None if no masks are predicted."""

    @abstractmethod
    def candidates(self, features: Any, samples: SampleList) -> list[InstanceData]:
        """Boxes above the score threshold before NMS, by image, in pixels of the view.

        See :func:`~.voting.candidates`.
        """

    def mask_features(self, features: Any) -> tuple[Tensor, ...]:
        """The features that masks need."""
        return tuple(features)

    @abstractmethod
    def mask_logits(self, features: tuple[Tensor, ...], boxes: list[Tensor]) -> Tensor:
        """Mask logits of shape (R, K or 1, h, w) for the boxes of all images, in pixels of the view.

        Args:
            features: Result of :meth:`mask_features`.
            boxes: Boxes of each image, R in total.
        """

    def mask_probabilities(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mask probabilities of one image, of shape (R, h, w), from logits and labels of shape (R,)."""
        # Sigmoid before selection equals plain testing to the last bit: on a CPU it depends on a value's position.
        return logits.sigmoid()[self._channels(labels)].float()

    def _channels(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        assert self.mask_head is not None  # masks are predicted only with a mask head
        channels = torch.zeros_like(labels) if self.mask_head.class_agnostic else labels
        return torch.arange(len(labels), device=labels.device), channels

    def paste(self, probabilities: Tensor, bboxes: Tensor, size: tuple[int, int]) -> Tensor:
        """Paste masks at the size of the image, by the detector's method.

        Args:
            probabilities: Of shape (R, h, w).
            bboxes: Of shape (R, 4), in the image's pixels.
            size: Height and width of the image.

        Returns:
            Bool masks of shape (R, H, W).
        """
        if not len(bboxes):
            return bboxes.new_zeros(0, *size, dtype=torch.bool)
        # mmdet divides the boxes by the scale in place, and takes probabilities, unlike logits, as an array.
        assert self.mask_head is not None  # masks are predicted only with a mask head
        instances = InstanceData(bboxes=bboxes.clone(), labels=bboxes.new_zeros(len(bboxes), dtype=torch.long))
        meta = dict(ori_shape=size, scale_factor=(1, 1))
        self.mask_head.predict_by_feat(
            (probabilities.cpu().numpy()[:, None],), [instances], [meta], self.test_cfg, rescale=True, activate_map=True
        )
        return instances.masks


class TwoStage(Stages):
    """An RPN, and RoI heads that make one pass for boxes and one for masks: mmdet's TwoStageDetector."""

    @staticmethod
    def fits(detector: nn.Module) -> bool:
        """Whether a detector has such parts. Heads that override ``predict_mask`` make more passes and do not fit."""
        head = getattr(detector, 'roi_head', None)
        known = (StandardRoIHead.predict_mask, DetectronRoIHead.predict_mask)
        return isinstance(head, StandardRoIHead) and type(head).predict_mask in known

    @property
    def test_cfg(self) -> ConfigDict:
        return self.detector.roi_head.test_cfg

    @property
    def mask_head(self) -> FCNMaskHead | None:
        return self.detector.roi_head.mask_head if self.detector.roi_head.with_mask else None

    def candidates(self, features: tuple[Tensor, ...], samples: SampleList) -> list[InstanceData]:
        head = self.detector.roi_head
        proposals = self.detector.rpn_head.predict(features, samples, rescale=False)
        raw = head.predict_bbox(features, [sample.metainfo for sample in samples], proposals, rcnn_test_cfg=None)
        return [voting.candidates(found.bboxes, found.scores, self.test_cfg.score_thr) for found in raw]

    def mask_logits(self, features: tuple[Tensor, ...], boxes: list[Tensor]) -> Tensor:
        return self.detector.roi_head._mask_forward(features, bbox2roi(boxes))['mask_preds']


class Detectron(TwoStage):
    """RoI heads that predict as Detectron does."""

    offset = 1

    @staticmethod
    def fits(detector: nn.Module) -> bool:
        return TwoStage.fits(detector) and isinstance(detector.roi_head, DetectronRoIHead)

    def mask_probabilities(self, logits: Tensor, labels: Tensor) -> Tensor:
        return logits[self._channels(labels)].sigmoid().float()

    def paste(self, probabilities: Tensor, bboxes: Tensor, size: tuple[int, int]) -> Tensor:
        threshold = self.test_cfg.mask_thr_binary
        arrays = zip(probabilities.cpu().numpy(), bboxes.float().cpu().numpy(), strict=True)
        masks = [paste_mask(mask, box, *size, threshold) for mask, box in arrays]
        return torch.from_numpy(np.array(masks, bool).reshape(-1, *size)).to(bboxes.device)


class OneStage(Stages):
    """A dense head with class logits, deltas and features of things, and a mask head: SpatialFlow."""

    @staticmethod
    def fits(detector: nn.Module) -> bool:
        return all(hasattr(detector, name) for name in ('bbox_head', 'mask_head', 'mask_logits'))

    @property
    def test_cfg(self) -> ConfigDict:
        return self.detector.test_cfg

    @property
    def mask_head(self) -> FCNMaskHead:
        return self.detector.mask_head

    def candidates(self, features: SpatialFlowOutputs, samples: SampleList) -> list[InstanceData]:
        metas = [sample.metainfo for sample in samples]
        return self.detector.bbox_head.detect(features, metas, with_nms=False)

    def mask_features(self, features: SpatialFlowOutputs) -> tuple[Tensor, ...]:
        return tuple(features.thing_feats)

    def mask_logits(self, features: tuple[Tensor, ...], boxes: list[Tensor]) -> Tensor:
        return self.detector.mask_logits(features, boxes)


def stages_of(detector: nn.Module, kinds: Sequence[type[Stages]]) -> Stages | None:
    """The first kind that fits a detector, or None."""
    return next((kind(detector) for kind in kinds if kind.fits(detector)), None)
