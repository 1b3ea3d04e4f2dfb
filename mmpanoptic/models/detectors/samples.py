"""Conversions of samples, instances and sizes for the parts of a detector."""

import torch
import torch.nn.functional as F
from mmdet.structures import DetDataSample, SampleList
from mmengine.structures import InstanceData, PixelData

from mmpanoptic.structures import Evidence


def without_classes(sample: DetDataSample) -> DetDataSample:
    """A sample with the same instances, all of class 0, for class-agnostic heads.

    Args:
        sample: Sample with ``gt_instances`` and perhaps ``ignored_instances``; it is not modified.

    Returns:
        A sample with only these fields. All data but the labels are shared with ``sample``, not copied.
    """
    plain = DetDataSample(metainfo=sample.metainfo)
    plain.gt_instances = InstanceData(**dict(sample.gt_instances.items()))
    plain.gt_instances.labels = torch.zeros_like(sample.gt_instances.labels)
    if 'ignored_instances' in sample:
        plain.ignored_instances = sample.ignored_instances
    return plain


def fit_masks(instances: InstanceData, meta: dict) -> InstanceData:
    """Crop or pad masks, (N, H, W), to the size of the network's input without padding.

    mmdet pastes masks onto the scaled original image, even if that was cropped or padded afterwards.

    Args:
        instances: Instances with ``masks``, which are replaced.
        meta: Metainfo of the image, with ``img_shape``.
    """
    height, width = meta['img_shape'][:2]
    masks = instances.masks
    instances.masks = F.pad(masks, (0, width - masks.shape[2], 0, height - masks.shape[1]))  # crops where negative
    return instances


def no_instances(size: tuple[int, int], device: torch.device) -> InstanceData:
    """Empty instances, for a detector without instance heads.

    Args:
        size: Height and width of the masks.
        device: Device of the tensors.
    """
    return InstanceData(
        bboxes=torch.zeros((0, 4), device=device),
        labels=torch.zeros(0, dtype=torch.long, device=device),
        scores=torch.zeros(0, device=device),
        masks=torch.zeros((0, *size), dtype=torch.bool, device=device),
    )


def add_predictions(samples: SampleList, evidence: list[Evidence], maps: list[PixelData]) -> SampleList:
    """Set ``pred_instances`` and ``pred_panoptic_seg`` of the samples and return the samples."""
    for sample, found, panoptic in zip(samples, evidence, maps, strict=True):
        sample.pred_instances = found.instances
        sample.pred_panoptic_seg = panoptic
    return samples


def output_size(meta: dict, rescale: bool) -> tuple[int, int]:
    """Height and width of the panoptic map to make: the original size or, without ``rescale``, the input's."""
    height, width = meta['ori_shape' if rescale else 'img_shape'][:2]
    return height, width
