"""Scores by COCO's AP of an image with many objects."""

import json
from pathlib import Path

import torch

from mmpanoptic.evaluation.metrics import InstanceMetric


def crowd_of(
    numbers: list[int], tmp_path: Path, missed: int = 0, metric='bbox', masks: bool = False, **options
) -> dict[str, float]:
    """Scores of an image with so many objects of each class, found but for the last ``missed`` ones."""
    labels = [label for label, number in enumerate(numbers) for _ in range(number)]
    boxes = [[20 * (i % 40), 20 * (i // 40), 12, 12] for i in range(len(labels))]
    annotations = [
        dict(id=i + 1, image_id=1, category_id=label, bbox=box, area=144, iscrowd=0, segmentation=[rectangle(box)])
        for i, (label, box) in enumerate(zip(labels, boxes, strict=True))
    ]
    names = ['a', 'b']
    content = dict(
        images=[dict(id=1, file_name='x', width=800, height=800)],
        annotations=annotations,
        categories=[dict(id=label, name=name) for label, name in enumerate(names)],
    )
    (tmp_path / 'gt.json').write_text(json.dumps(content))
    metric = InstanceMetric(ann_file=str(tmp_path / 'gt.json'), metric=metric, **options)
    metric.dataset_meta = dict(classes=names, thing_classes=names)
    kept = len(boxes) - missed
    found = torch.tensor(boxes, dtype=torch.float)[:kept]
    found[:, 2:] += found[:, :2]
    instances = dict(bboxes=found, scores=torch.linspace(1, 0.5, kept), labels=torch.tensor(labels[:kept]))
    if masks:
        instances['masks'] = torch.zeros(kept, 800, 800, dtype=torch.bool)
        for mask, (x, y, w, h) in zip(instances['masks'], boxes, strict=False):
            mask[y : y + h, x : x + w] = True
    metric.process({}, [dict(img_id=1, img_path='x', ori_shape=(800, 800), pred_instances=instances)])
    return metric.evaluate(1)


def rectangle(box: list[int]) -> list[int]:
    x, y, w, h = box
    return [x, y, x + w, y, x + w, y + h, x, y + h]
