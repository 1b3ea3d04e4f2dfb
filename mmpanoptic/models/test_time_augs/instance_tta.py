"""Instances from several views of an image."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from mmdet.models import StandardRoIHead
from mmdet.structures import DetDataSample, SampleList
from mmdet.structures.bbox import bbox2roi
from mmdet.structures.mask import mask2bbox
from mmengine.model import BaseTTAModel
from mmengine.structures import InstanceData
from torch import Tensor

from mmpanoptic.models.roi_heads.detectron_roi_head import DetectronRoIHead, paste_mask
from mmpanoptic.registry import MODELS
from mmpanoptic.utils import UserError

from . import voting


@dataclass(frozen=True)
class View:
    """A batch of images, all scaled and mirrored in one way.

    Attributes:
        features: What the RPN and the RoI heads take: levels of shape (B, C, H_i, W_i).
        samples: One an image.
    """

    features: tuple[Tensor, ...]
    samples: SampleList

    @property
    def metas(self) -> list[dict]:
        """Metainfo of the samples."""
        return [sample.metainfo for sample in self.samples]


@MODELS.register_module()
class InstanceTTAModel(BaseTTAModel):
    """Multi-scale and flip testing of two-stage detectors, with box voting and mask voting.

    Source: PANet, section 4.2, https://arxiv.org/abs/1803.01534; voting as in Detectron,
    https://github.com/facebookresearch/Detectron. Boxes of all views, each from proposals of its own, are put together
    in the image's coordinates and go through one NMS, with the thresholds of the detector's ``test_cfg``. Then boxes
    are voted on (:func:`~.voting.vote_boxes`). Every view predicts masks for the boxes that result, and the mean of the
    probabilities is pasted.

    One view that is the image as it is gives what testing without this class gives, if ``vote_iou_thr`` is None. Boxes
    of one view vote, too, so that voting changes boxes even then.

    The features of all views are in memory together: 170 MB a view of 1400 x 1400 pixels with a usual FPN.

    Args:
        vote_iou_thr: From which IoU on a box votes; None for no box voting. 0.8 is Detectron's, the paper gives none.
        tight_boxes: Whether ``bboxes`` become the tight boxes of the masks, as in the paper's submissions. Those of
            empty masks stay.
        module: The detector or its config: its ``roi_head`` is a ``StandardRoIHead`` or :class:`DetectronRoIHead`.
        data_preprocessor: See mmengine's BaseTTAModel.

    Raises:
        UserError: If there is no such detector, or tight boxes of masks are asked of one that predicts none.
    """

    def __init__(self, vote_iou_thr: float | None = 0.8, tight_boxes: bool = False, **kwargs) -> None:
        super().__init__(**kwargs)
        self.vote_iou_thr = vote_iou_thr
        self.tight_boxes = tight_boxes
        head = getattr(self.module, 'roi_head', None)
        # Heads that override predict_mask do more than one pass of the mask head.
        known = (StandardRoIHead.predict_mask, DetectronRoIHead.predict_mask)
        if not isinstance(head, StandardRoIHead) or type(head).predict_mask not in known:
            raise UserError(
                f'tta_model: {type(self).__name__} tests detectors with a StandardRoIHead or a DetectronRoIHead, not '
                f'{type(self.module).__name__} with {type(head).__name__ if head else "no roi_head"}'
            )
        if tight_boxes and not head.with_mask:
            raise UserError('tta_model: tight_boxes needs masks, and the detector predicts none: leave it False')
        #: How boxes end inside of the RoI heads, see :mod:`~.voting`.
        self.offset = int(isinstance(head, DetectronRoIHead))

    @torch.no_grad()
    def test_step(self, data: dict[str, Sequence]) -> SampleList:
        """Detect in a batch.

        Args:
            data: What mmcv's ``TestTimeAug`` and collation make: ``inputs`` and ``data_samples``, each a list of views,
                which are lists of images.

        Returns:
            The samples of the first view, with ``pred_instances`` in pixels of the image: ``bboxes`` (N, 4), ``scores``
            and ``labels`` (N,) and, from a detector with a mask head, ``masks`` (N, H, W) bool.
        """
        views = [self.extract_view(dict(zip(data, view, strict=True))) for view in zip(*data.values(), strict=True)]
        for sample, instances in zip(views[0].samples, self.predict_instances(views), strict=True):
            sample.pred_instances = instances
        return views[0].samples

    def merge_preds(self, data_samples_list: list[list[DetDataSample]]) -> SampleList:
        """Not to be called: finished predictions lack what is merged here."""
        raise NotImplementedError('call test_step')

    def extract_view(self, data: dict[str, list]) -> View:
        """A batch of images as it is loaded, after preprocessing and backbone."""
        data = self.module.data_preprocessor(data, False)
        return View(self.module.extract_feat(data['inputs']), data['data_samples'])

    def predict_instances(self, views: Sequence[View]) -> list[InstanceData]:
        """Both stages: boxes, then masks for them; see :meth:`test_step`."""
        head = self.module.roi_head
        results = self.merge_boxes([self.predict_boxes(view) for view in views])
        if head.with_mask:
            by_view = [self.predict_masks(view, results) for view in views]
            for instances, probabilities, meta in zip(results, zip(*by_view, strict=True), views[0].metas, strict=True):
                instances.masks = self.paste(voting.vote_masks(probabilities), instances.bboxes, meta)
        for instances in results:
            instances.bboxes = instances.bboxes + instances.bboxes.new_tensor([0, 0, self.offset, self.offset])
            if self.tight_boxes:
                filled = instances.masks.flatten(1).any(dim=1, keepdim=True)
                instances.bboxes = torch.where(filled, mask2bbox(instances.masks), instances.bboxes)
        return results

    def predict_boxes(self, view: View) -> list[InstanceData]:
        """A view's boxes before NMS, by image and in its pixels; see :func:`~.voting.candidates`."""
        head = self.module.roi_head
        proposals = self.module.rpn_head.predict(view.features, view.samples, rescale=False)
        raw = head.predict_bbox(view.features, view.metas, proposals, rcnn_test_cfg=None)
        score_thr = head.test_cfg.score_thr
        return [
            voting.candidates(voting.boxes_to_image(own.bboxes, meta, self.offset), own.scores, score_thr)
            for own, meta in zip(raw, view.metas, strict=True)
        ]

    def merge_boxes(self, by_view: Sequence[list[InstanceData]]) -> list[InstanceData]:
        """NMS and voting over the boxes of all views, by image."""
        cfg = self.module.roi_head.test_cfg
        results = []
        for own in zip(*by_view, strict=True):
            pooled = InstanceData.cat(own)
            kept = voting.suppress(pooled, cfg.nms, cfg.max_per_img)
            if self.vote_iou_thr is not None:
                kept.bboxes = voting.vote_boxes(kept, pooled, self.vote_iou_thr, self.offset)
            results.append(kept)
        return results

    def predict_masks(self, view: View, results: Sequence[InstanceData]) -> list[Tensor]:
        """A view's mask probabilities for boxes in the image's pixels, by image: (R, h, w), not mirrored."""
        head = self.module.roi_head
        metas = view.metas
        boxes = [voting.boxes_to_view(own.bboxes, meta, self.offset) for own, meta in zip(results, metas, strict=True)]
        rois = bbox2roi(boxes)
        if not len(rois):  # heads need not take an empty batch
            return [rois.new_zeros(0, 1, 1) for _ in results]
        logits = head._mask_forward(view.features, rois)['mask_preds']
        labels = torch.cat([own.labels for own in results])
        channels = torch.zeros_like(labels) if head.mask_head.class_agnostic else labels
        probabilities = logits[torch.arange(len(rois), device=rois.device), channels].float().sigmoid()
        by_image = probabilities.split([len(own) for own in results])
        return [voting.unflip(own, meta) for own, meta in zip(by_image, metas, strict=True)]

    def paste(self, probabilities: Tensor, bboxes: Tensor, meta: dict) -> Tensor:
        """Masks at the size of the image, by the RoI heads' own way.

        Args:
            probabilities: Of shape (R, h, w).
            bboxes: Of shape (R, 4), in the image's pixels.
            meta: Metainfo of a view of the image.

        Returns:
            Bool masks of shape (R, H, W).
        """
        head = self.module.roi_head
        size = tuple(meta['ori_shape'][:2])
        if not len(bboxes):
            return bboxes.new_zeros(0, *size, dtype=torch.bool)
        as_arrays = probabilities.cpu().numpy()
        if isinstance(head, DetectronRoIHead):
            threshold = head.test_cfg.mask_thr_binary
            arrays = zip(as_arrays, bboxes.float().cpu().numpy(), strict=True)
            masks = np.stack([paste_mask(mask, box, *size, threshold) for mask, box in arrays])
            return torch.from_numpy(masks).to(bboxes.device)
        # mmdet divides the boxes by the scale in place, and wants an array where there is no sigmoid left to take.
        instances = InstanceData(bboxes=bboxes.clone(), labels=bboxes.new_zeros(len(bboxes), dtype=torch.long))
        meta = dict(ori_shape=size, scale_factor=(1, 1))
        head.mask_head.predict_by_feat(
            (as_arrays[:, None],), [instances], [meta], head.test_cfg, rescale=True, activate_map=True
        )
        return instances.masks
