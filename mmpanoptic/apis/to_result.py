"""Convert the predictions in a sample of mmdet to a result without tensors."""

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
    """Convert the predictions for an image to a result.

    Args:
        sample: Sample with predictions, on the CPU and at the image's original size.
        path: Path or address of the image; None if it was given as an array.
        image: The image, uint8 RGB of shape (H, W, 3).
        categories: Categories by label, see :class:`~mmpanoptic.results.PanopticResult`.

    Raises:
        DatasetError: If the map has more things than a PNG has ids for.
    """
    id_map: np.ndarray | None = None
    segments: list[Segment] = []
    if 'pred_panoptic_seg' in sample:
        id_map, segments = _to_segments(sample.pred_panoptic_seg, categories, path or 'the image')
    instances = _to_instances(sample.get('pred_instances', InstanceData()))
    return PanopticResult(path, image, id_map, segments, instances, categories)


def _to_segments(
    found: PixelData, categories: Sequence[dict[str, Any]], place: str
) -> tuple[np.ndarray, list[Segment]]:
    """Map of segment ids and segments of a panoptic map in mmdet's encoding."""
    panoptic, void = found.sem_seg[0].numpy(), len(categories)
    infos = found.get('segments_info')
    if infos is None:  # fusion heads of mmdet give only the map
        infos = segments_of_map(panoptic, void)
    if infos and max(info['id'] for info in infos) >= MAX_ID:  # ids of segments are values + 1, since 0 is void
        things = sum(info['id'] >= INSTANCE_OFFSET for info in infos)
        raise DatasetError(
            f'{place} has {things} things, and a PNG has ids for {MAX_ID // INSTANCE_OFFSET}: predict parts of it'
        )
    id_map, placed = panoptic_to_coco(panoptic, infos, range(void), void)
    segments = []
    for info, where in zip(infos, placed, strict=True):
        x, y, width, height = where['bbox']
        segments.append(
            Segment(
                id=where['id'],
                label=info['label'],
                name=categories[info['label']]['name'],
                isthing=info['id'] >= INSTANCE_OFFSET,
                score=info.get('score'),
                area=where['area'],
                bbox=(x, y, width, height),
                instance=info.get('instance'),
                ranking_score=info.get('ranking_score'),
                similarity=info.get('similarity'),
            )
        )
    return id_map, segments


def _to_instances(found: InstanceData) -> Instances:
    """Convert predicted instances, which are on the CPU."""
    if 'labels' not in found:
        found = InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long), scores=torch.zeros(0))
    masks = found.masks.numpy().astype(bool, copy=False) if 'masks' in found else None
    return Instances(found.bboxes.float().numpy(), found.labels.numpy(), found.scores.float().numpy(), masks)
