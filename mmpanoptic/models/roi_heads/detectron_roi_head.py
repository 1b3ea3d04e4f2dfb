"""RoI heads that predict as Detectron does."""

import cv2
import numpy as np
import torch
from mmdet.structures import SampleList
from mmdet.structures.bbox import bbox2roi
from mmdet.utils import ConfigType, InstanceList
from torch import Tensor

from mmpanoptic.registry import MODELS

from .standard_roi_head import StandardRoIHead

__all__ = ['DetectronRoIHead', 'paste_mask']


@MODELS.register_module()
class DetectronRoIHead(StandardRoIHead):
    """mmdet's RoI heads with Detectron's boxes, which include their last pixel (x2 and y2 are pixel indices).

    Source: Detectron, https://github.com/facebookresearch/Detectron, on which the released PANet is based. Boxes are
    decoded, clipped and suppressed in pixels of the original image rather than of the network's input, and masks are
    pasted by :func:`paste_mask`. Boxes that :meth:`predict` returns follow mmdet's convention: x2 and y2 are the end of
    the last pixel. Training is mmdet's.

    Use it with :class:`~mmpanoptic.models.DetectronBBoxCoder`, and with ``offset=1`` in the NMS of ``test_cfg``.
    """

    def predict(
        self, x: tuple[Tensor], rpn_results_list: InstanceList, batch_data_samples: SampleList, rescale: bool = False
    ) -> InstanceList:
        """Detect. Arguments and results are mmdet's; ``masks`` are always bool of shape (N, H, W)."""
        results_list = super().predict(x, rpn_results_list, batch_data_samples, rescale)
        for results, sample in zip(results_list, batch_data_samples, strict=True):
            pixel = 1 if rescale else _scale(sample.metainfo, results.bboxes)[2:]
            results.bboxes[:, 2:] += pixel
        return results_list

    def predict_bbox(
        self,
        x: tuple[Tensor],
        batch_img_metas: list[dict],
        rpn_results_list: InstanceList,
        rcnn_test_cfg: ConfigType,
        rescale: bool = False,
    ) -> InstanceList:
        """Boxes that include their last pixel, in pixels of the network's input or, with ``rescale``, of the image."""
        rois = bbox2roi([proposals.bboxes for proposals in rpn_results_list])
        if not len(rois):
            return super().predict_bbox(x, batch_img_metas, rpn_results_list, rcnn_test_cfg, rescale)
        counts = [len(proposals) for proposals in rpn_results_list]
        outputs = self._bbox_forward(x, rois)
        scales = [_scale(meta, rois) for meta in batch_img_metas]
        results_list = self.bbox_head.predict_by_feat(
            rois=[
                torch.cat([image_rois[:, :1], image_rois[:, 1:] / scale], dim=1)
                for image_rois, scale in zip(rois.split(counts), scales, strict=True)
            ],
            cls_scores=outputs['cls_score'].split(counts),
            bbox_preds=outputs['bbox_pred'].split(counts),
            batch_img_metas=[dict(meta, img_shape=meta['ori_shape']) for meta in batch_img_metas],
            rcnn_test_cfg=rcnn_test_cfg,
        )
        if not rescale:
            for results, scale in zip(results_list, scales, strict=True):
                results.bboxes = (results.bboxes.unflatten(1, (-1, 4)) * scale).flatten(1)
        return results_list

    def predict_mask(
        self, x: tuple[Tensor], batch_img_metas: list[dict], results_list: InstanceList, rescale: bool = False
    ) -> InstanceList:
        """Add ``masks``, bool of shape (N, H, W), to detections in pixels of the network's input.

        With ``rescale``, boxes and masks are at the size of the image; otherwise at that of the network's input.
        """
        rois = bbox2roi([results.bboxes for results in results_list])
        if not len(rois):
            return super().predict_mask(x, batch_img_metas, results_list, rescale)
        logits = self._mask_forward(x, rois)['mask_preds'].split([len(results) for results in results_list])
        for image_logits, results, meta in zip(logits, results_list, batch_img_metas, strict=True):
            scale = _scale(meta, results.bboxes)
            height, width = meta['ori_shape'][:2]
            if rescale:
                results.bboxes = results.bboxes / scale
            else:
                across, down = scale[:2].tolist()
                height, width = round(height * down), round(width * across)
            channels = torch.zeros_like(results.labels) if self.mask_head.class_agnostic else results.labels
            index = torch.arange(len(image_logits), device=image_logits.device)
            probabilities = image_logits[index, channels].sigmoid()
            masks = [
                paste_mask(mask, box, height, width, self.test_cfg.mask_thr_binary)
                for mask, box in zip(
                    probabilities.float().cpu().numpy(), results.bboxes.float().cpu().numpy(), strict=True
                )
            ]
            results.masks = torch.from_numpy(np.array(masks, bool).reshape(-1, height, width)).to(image_logits.device)
        return results_list


def _scale(meta: dict, like: Tensor) -> Tensor:
    """Pixels of the network's input per pixel of the image, for the four sides of a box."""
    return like.new_tensor([*meta['scale_factor'], *meta['scale_factor']])


def paste_mask(probabilities: np.ndarray, box: np.ndarray, height: int, width: int, threshold: float) -> np.ndarray:
    """Paste a mask of a RoI into the image.

    Source: ``segm_results`` of Detectron. The mask gets a border of zeros, the box grows accordingly and is truncated
    to whole pixels, and the mask is resized to the pixels that the box covers, both ends included.

    Args:
        probabilities: Mask probabilities of shape (h, w), float32.
        box: x1, y1, x2, y2 in pixels, x2 and y2 included.
        height: Height of the image.
        width: Width of the image.
        threshold: Pixels with a probability above this belong to the mask.

    Returns:
        Bool mask of shape (``height``, ``width``).
    """
    growth = np.array([(side + 2) / side for side in probabilities.shape[::-1]], np.float32)
    middle, reach = (box[2:] + box[:2]) / 2, (box[2:] - box[:2]) / 2 * growth
    (x1, y1), (x2, y2) = (middle - reach).astype(int), (middle + reach).astype(int)
    resized = cv2.resize(np.pad(probabilities, 1), (max(x2 - x1 + 1, 1), max(y2 - y1 + 1, 1)))
    pasted = np.zeros((height, width), bool)
    left, top = max(x1, 0), max(y1, 0)
    right, bottom = max(min(x2 + 1, width), left), max(min(y2 + 1, height), top)
    pasted[top:bottom, left:right] = resized[top - y1 : bottom - y1, left - x1 : right - x1] > threshold
    return pasted
