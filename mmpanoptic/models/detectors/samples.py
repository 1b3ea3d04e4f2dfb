"""Samples as parts of a detector want to see them."""

import torch
import torch.nn.functional as F
from mmdet.structures import DetDataSample, SampleList
from mmengine.structures import InstanceData, PixelData

from mmpanoptic.structures import Evidence


def without_classes(sample: DetDataSample) -> DetDataSample:
    """A sample with the same instances, all of class 0, for what finds things without telling their classes apart.

    Args:
        sample: With ``gt_instances`` and perhaps ``ignored_instances``; it stays as it is.

    Returns:
        A sample with these alone. All but the labels is shared with ``sample``, not copied.
    """
    plain = DetDataSample(metainfo=sample.metainfo)
    plain.gt_instances = InstanceData(**dict(sample.gt_instances.items()))
    plain.gt_instances.labels = torch.zeros_like(sample.gt_instances.labels)
    if 'ignored_instances' in sample:
        plain.ignored_instances = sample.ignored_instances
    return plain


def fit_masks(instances: InstanceData, meta: dict) -> InstanceData:
    """Instances whose masks, (N, H, W), have the size of the image that was fed in.

    mmdet pastes masks onto the scaled original image, also where that was cropped or padded before it was fed in.

    Args:
        instances: With ``masks``, which are replaced.
        meta: Metainfo of the image, with ``img_shape``.
    """
    height, width = meta['img_shape'][:2]
    masks = instances.masks
    instances.masks = F.pad(masks, (0, width - masks.shape[2], 0, height - masks.shape[1]))  # crops where negative
    return instances


def no_instances(size: tuple[int, int], device: torch.device) -> InstanceData:
    """What an image has where nothing looks for instances.

    Args:
        size: Height and width of the masks.
        device: Where to put them.
    """
    return InstanceData(
        bboxes=torch.zeros((0, 4), device=device),
        labels=torch.zeros(0, dtype=torch.long, device=device),
        scores=torch.zeros(0, device=device),
        masks=torch.zeros((0, *size), dtype=torch.bool, device=device),
    )


def add_predictions(samples: SampleList, evidence: list[Evidence], maps: list[PixelData]) -> SampleList:
    """The samples, with ``pred_instances`` and ``pred_panoptic_seg`` set."""
    for sample, found, panoptic in zip(samples, evidence, maps, strict=True):
        sample.pred_instances = found.instances
        sample.pred_panoptic_seg = panoptic
    return samples


def output_size(meta: dict, rescale: bool) -> tuple[int, int]:
    """Height and width of the panoptic map to make: those of the original image or, without ``rescale``, as fed in."""
    return tuple(meta['ori_shape' if rescale else 'img_shape'][:2])
