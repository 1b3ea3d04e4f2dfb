"""Panoptic files as the data samples of a test loop."""

import json
from pathlib import Path

import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import PixelData

from mmpanoptic.formats.panoptic_json import annotations_by_image, dataset_meta, parse_categories, parse_segments
from mmpanoptic.formats.panoptic_png import decode_panoptic_png
from mmpanoptic.structures import INSTANCE_OFFSET


def in_memory(ids: np.ndarray, segments: list[dict], void: int) -> np.ndarray:
    """A predicted map in mmdet's encoding."""
    values = np.full(ids.shape, void, np.int64)
    for k, segment in enumerate(segments, 1):
        values[ids == segment['id']] = segment['label'] + INSTANCE_OFFSET * k
    return values


def samples_of(gt_json: Path, gt_dir: Path, pred_json: Path, pred_dir: Path) -> tuple[dict, list[DetDataSample]]:
    """Files as a dataset's meta and the data samples of a test loop, in the order of the annotations."""
    data = json.loads(gt_json.read_text())
    categories = parse_categories(data['categories'], 'gt')
    category_of = {category['id']: category for category in categories}
    predictions = {a['image_id']: a for a in json.loads(pred_json.read_text())['annotations']}
    samples = []
    for place, (image, annotation) in enumerate(annotations_by_image(data, 'gt')):
        prediction = predictions[image['id']]
        ids = decode_panoptic_png((pred_dir / prediction['file_name']).read_bytes(), 'pred')
        segments = [dict(id=s['id'], label=category_of[s['category_id']]['label']) for s in prediction['segments_info']]
        sample = DetDataSample(metainfo=dict(img_id=image['id'], img_path=f'images/{image["file_name"]}'))
        predicted = torch.from_numpy(in_memory(ids, segments, len(categories)))[None]
        sample.pred_panoptic_seg = PixelData(sem_seg=predicted)
        truth = decode_panoptic_png((gt_dir / annotation['file_name']).read_bytes(), 'gt')
        sample.gt_panoptic_seg = PixelData(sem_seg=torch.from_numpy(truth)[None])
        its_segments = parse_segments(annotation, category_of, 'gt')
        sample.gt_panoptic_seg.set_metainfo(dict(segments_info=its_segments, sample_idx=place))
        samples.append(sample)
    return dataset_meta(categories), samples
