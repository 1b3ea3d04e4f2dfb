"""From a sample of mmdet's kind, with predictions, to a result that needs no torch."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData, PixelData

from mmpanoptic.results import Instances, PanopticResult, Segment
from mmpanoptic.structures import INSTANCE_OFFSET, MAX_ID, panoptic_to_coco, segments_of_map
from mmpanoptic.utils import DatasetError


def to_result(
    sample: DetDataSample, path: str | None, image: np.ndarray, categories: Sequence[dict[str, Any]]
) -> PanopticResult:
    """What a model says about an image.

    Args:
        sample: Its predictions, on the CPU and at the image's original size.
        path: The image's file, or None.
        image: uint8 RGB of shape (H, W, 3).
        categories: By label, see :class:`~mmpanoptic.results.PanopticResult`.

    Raises:
        DatasetError: If the map has more things than there are ids for.
    """
    id_map, segments = None, []
    if 'pred_panoptic_seg' in sample:
        id_map, segments = _to_segments(sample.pred_panoptic_seg, categories, path or 'the image')
    instances = _to_instances(sample.get('pred_instances', InstanceData()))
    return PanopticResult(path, image, id_map, segments, instances, categories)


def _to_segments(
    found: PixelData, categories: Sequence[dict[str, Any]], place: str
) -> tuple[np.ndarray, list[Segment]]:
    """The map of ids and the segments of a panoptic map in mmdet's encoding."""
    panoptic, void = found.sem_seg[0].numpy(), len(categories)
    infos = found.get('segments_info')
    if infos is None:  # a fusion head of mmdet
        infos = segments_of_map(panoptic, void)
    if infos and max(info['id'] for info in infos) >= MAX_ID:  # one is added: 0 is void
        things = sum(info['id'] >= INSTANCE_OFFSET for info in infos)
        raise DatasetError(
            f'{place} has {things} things, and a PNG has ids for {MAX_ID // INSTANCE_OFFSET}: predict parts of it'
        )
    id_map, placed = panoptic_to_coco(panoptic, infos, range(void), void)
    return id_map, [
        Segment(
            id=where['id'],
            label=info['label'],
            name=categories[info['label']]['name'],
            isthing=info['id'] >= INSTANCE_OFFSET,
            score=info.get('score'),
            area=where['area'],
            bbox=tuple(where['bbox']),
            instance=info.get('instance'),
            ranking_score=info.get('ranking_score'),
            similarity=info.get('similarity'),
        )
        for info, where in zip(infos, placed, strict=True)
    ]


def _to_instances(found: InstanceData) -> Instances:
    """Instances that a model has found, which lie on the CPU."""
    if 'labels' not in found:
        found = InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long), scores=torch.zeros(0))
    masks = found.masks.numpy().astype(bool, copy=False) if 'masks' in found else None
    return Instances(found.bboxes.float().numpy(), found.labels.numpy(), found.scores.float().numpy(), masks)
