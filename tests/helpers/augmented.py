"""Samples before they are packed, and what the loader says of the panoptic files that they would be."""

from pathlib import Path

import numpy as np
from mmengine.dataset import Compose

from mmpanoptic.datasets.transforms import LoadPanopticAnnotations
from mmpanoptic.formats.panoptic_png import encode_panoptic_png
from mmpanoptic.registry import DATASETS

LOAD = (dict(type='LoadImageFromFile'), dict(type='LoadPanopticAnnotations', with_panoptic=False))
FIELDS = ('gt_bboxes', 'gt_bboxes_labels', 'gt_ignore_flags', 'gt_masks', 'gt_seg_map')


def shapes_config(root: Path, steps: tuple[dict, ...] = LOAD, **options) -> dict:
    """A config of the training set of Shapes at ``root``."""
    return dict(
        type='CocoPanopticDataset',
        data_root=f'{root}/',
        ann_file='annotations/panoptic_train.json',
        data_prefix=dict(img='train/', seg='annotations/panoptic_train/'),
        pipeline=list(steps),
        serialize_data=False,
        **options,
    )


def samples_of(config: dict, *places: int) -> list[dict]:
    """Results of a dataset's pipeline."""
    dataset = DATASETS.build(config)
    return [dataset[place] for place in places]


def reloaded(results: dict, folder: Path, num_things: int) -> dict:
    """What the loader gives for the panoptic PNG and JSON that a sample of disjoint masks stands for."""
    masks, semantic = results['gt_masks'].masks.astype(bool), results['gt_seg_map']
    assert masks.sum(axis=0).max(initial=0) <= 1
    ids = np.where((semantic != 255) & (semantic >= num_things), semantic.astype(np.int32) + 1, 0)
    segments = [dict(id=int(i), label=int(i) - 1) for i in np.unique(ids[ids > 0])]
    instances = []
    fields = results['gt_bboxes_labels'].tolist(), results['gt_ignore_flags'].tolist()
    for mask, label, ignored in zip(masks, *fields, strict=True):
        rows, columns = np.nonzero(mask)
        ids[mask] = 1000 + len(segments)
        box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        instances.append(dict(bbox=box, bbox_label=label, ignore_flag=ignored, segment=len(segments)))
        segments.append(dict(id=1000 + len(segments), label=label))
    path = folder / 'made.png'
    path.write_bytes(encode_panoptic_png(ids))
    info = dict(seg_map_path=str(path), segments_info=segments, instances=instances)
    return Compose([LoadPanopticAnnotations(with_panoptic=False)])(
        info | dict(height=ids.shape[0], width=ids.shape[1], img_path='x')
    )


def assert_same(found: dict, expected: dict) -> None:
    """All annotations are equal, in the same order."""
    for key in FIELDS:
        np.testing.assert_array_equal(_array(found[key]), _array(expected[key]), err_msg=key)


def _array(value) -> np.ndarray:
    """Of boxes, masks, or what is one."""
    return np.asarray(getattr(value, 'tensor', getattr(value, 'masks', value)))
