"""Evidence that tests make up."""

from collections.abc import Sequence

import numpy as np
import torch
from mmengine.structures import InstanceData
from torch import Tensor

from mmpanoptic.models.fusion.paste.instances import mask_bounds
from mmpanoptic.structures import EmbeddingMap, Evidence, StuffLabels, StuffLogits
from mmpanoptic.structures.evidence import Stuff


def mask_of(size: tuple[int, int], *boxes: tuple[int, int, int, int]) -> Tensor:
    """bool mask of shape ``size``, set in boxes (top, bottom, left, right)."""
    mask = torch.zeros(size, dtype=torch.bool)
    for top, bottom, left, right in boxes:
        mask[top:bottom, left:right] = True
    return mask


def instances_of(
    masks: np.ndarray | Tensor | Sequence[np.ndarray | Tensor],
    labels: Sequence[int],
    scores: Sequence[float],
    boxes: Sequence[Sequence[float]] | None = None,
) -> InstanceData:
    """Instances with masks, which their boxes enclose unless ``boxes`` are given."""
    if not isinstance(masks, (np.ndarray, Tensor)):
        masks = torch.stack([torch.as_tensor(mask) for mask in masks])
    masks = torch.as_tensor(masks)
    if boxes is None:
        boxes = [[left, top, right, bottom] for top, bottom, left, right in mask_bounds(masks)]
    return InstanceData(
        bboxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        labels=torch.tensor(labels, dtype=torch.long),
        scores=torch.tensor(scores, dtype=torch.float32),
        masks=masks,
    )


def no_instances(size: tuple[int, int]) -> InstanceData:
    """Instances with masks of that size, none of them."""
    return instances_of(torch.zeros(0, *size, dtype=torch.bool), [], [])


def one_hot(indices: np.ndarray | Tensor | Sequence[Sequence[int]], channels: int) -> Tensor:
    """Logits of shape (C, H, W) that are largest in the channel that ``indices`` (H, W) say."""
    return torch.nn.functional.one_hot(torch.as_tensor(indices).long(), channels).permute(2, 0, 1).float()


def evidence_of(
    instances: InstanceData,
    stuff: Stuff,
    input_size: tuple[int, int] | None = None,
    output_size: tuple[int, int] | None = None,
) -> Evidence:
    """Evidence of an image.

    Args:
        instances: Its instances.
        stuff: What is known about stuff.
        input_size: Height and width that the network saw; None: those of the output.
        output_size: Height and width of the output; None: those of ``stuff`` or, for an embedding map, of the input
            that it covers.
    """
    if output_size is None:
        if isinstance(stuff, EmbeddingMap):
            output_size = tuple(stuff.stride * side for side in stuff.embedding.shape[1:])
        else:
            output_size = tuple((stuff.logits if isinstance(stuff, StuffLogits) else stuff.labels).shape[-2:])
    return Evidence(instances, stuff, input_size or output_size, output_size)


def coco_like(
    num: int = 100, size: tuple[int, int] = (800, 1333), input_size: tuple[int, int] | None = None
) -> Evidence:
    """Instances of many sizes all over an image of COCO's test size, of 20 classes, on one class of stuff."""
    generator = torch.Generator().manual_seed(0)
    masks = torch.zeros(num, *size, dtype=torch.bool)
    for mask in masks:
        height, width = (int(40 + 160 * x) for x in torch.rand(2, generator=generator))
        top = int(torch.randint(size[0] - height, (1,), generator=generator))
        left = int(torch.randint(size[1] - width, (1,), generator=generator))
        mask[top : top + height, left : left + width] = True
    instances = InstanceData(masks=masks, labels=torch.arange(num) % 20, scores=torch.full((num,), 0.9))
    return evidence_of(instances, StuffLabels(torch.zeros(size, dtype=torch.long)), input_size)
