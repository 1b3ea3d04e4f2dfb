"""Categories and instances of the pixels of an image, for losses of embeddings."""

from typing import NamedTuple

import torch
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import get_box_tensor
from torch import Tensor

#: Pixels of the input, down and across, per pixel of the raw embedding map.
EMBEDDING_STRIDE = 4
_IGNORED = 255


class EmbeddingTargets(NamedTuple):
    """Ground truth of one image.

    Attributes:
        categories: Category of each pixel, int64 of shape (H, W): stuff from 0 to S - 1, then things, -1 where void.
        instances: Index of each pixel's instance, int64 of shape (H, W), -1 where there is none.
        boxes: Boxes x1, y1, x2, y2 of the instances, of shape (n, 4), in pixels of the (padded) input.
    """

    categories: Tensor
    instances: Tensor
    boxes: Tensor


def embedding_targets(
    sample: DetDataSample, num_things_classes: int, num_stuff_classes: int, merge_things: bool = True
) -> EmbeddingTargets:
    """Ground truth of one image.

    A pixel belongs to an instance if it lies in the instance's mask and has the instance's label. Where masks overlap,
    it belongs to the smallest one by area, and to the first one of equal areas. Pixels of crowds, and of things whose
    instance was dropped, keep their category and have no instance.

    Args:
        sample: With ``gt_sem_seg`` (contiguous labels, things first, 255 is void) and ``gt_instances`` (``bboxes``,
            ``labels``, ``masks``). Masks may lack the padding at the right and at the bottom that the labels have.
        num_things_classes: Number of thing classes T.
        num_stuff_classes: Number of stuff classes S.
        merge_things: Whether all things are one category, S; otherwise they are S to S + T - 1.

    Raises:
        ValueError: If a label is neither void nor below T + S.
    """
    labels = sample.gt_sem_seg.sem_seg.squeeze(0).long()
    num_classes = num_things_classes + num_stuff_classes
    is_void = labels == _IGNORED
    if ((labels >= num_classes) & ~is_void).any():
        name = sample.get('img_path', 'a sample')
        raise ValueError(f'{name} has labels from {num_classes} to 254: there are {num_classes} classes, 255 is void')
    things = torch.full_like(labels, num_stuff_classes) if merge_things else labels + num_stuff_classes
    categories = torch.where(labels < num_things_classes, things, labels - num_things_classes)
    categories.masked_fill_(is_void, -1)

    gt_instances = sample.gt_instances
    masks = gt_instances.masks.to_tensor(torch.bool, labels.device)
    height, width = masks.shape[-2:]
    labels_under_masks = labels[:height, :width]
    instances = torch.full_like(labels, -1)
    areas, classes = masks.flatten(1).sum(1).tolist(), gt_instances.labels.tolist()
    for index in sorted(range(len(masks)), key=lambda i: (-areas[i], -i)):
        instances[:height, :width].masked_fill_(masks[index] & (labels_under_masks == classes[index]), index)
    return EmbeddingTargets(categories, instances, get_box_tensor(gt_instances.bboxes))
