"""Random panoptic images with predictions, COCO's files of them, and a slow reference for panoptic quality."""

import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from mmpanoptic.structures import id_to_rgb

# Stuff and things mixed, so that the order of the file is not the order of the labels.
CATEGORIES = [
    {'id': 7, 'name': 'sky', 'isthing': 0, 'label': 3},
    {'id': 3, 'name': 'cat', 'isthing': 1, 'label': 0},
    {'id': 200, 'name': 'road', 'isthing': 0, 'label': 4},
    {'id': 4, 'name': 'dog', 'isthing': 1, 'label': 1},
    {'id': 90, 'name': 'cup', 'isthing': 1, 'label': 2},
    {'id': 91, 'name': 'never there', 'isthing': 0, 'label': 5},
]
_ID_OF_LABEL = {c['label']: c['id'] for c in CATEGORIES}


class Case(NamedTuple):
    """One image; maps of shape (H, W) hold 24-bit ids, 0 is void."""

    gt_ids: np.ndarray
    gt_segments: list[dict[str, Any]]
    pred_map: np.ndarray
    pred_segments: list[dict[str, Any]]


def random_case(
    seed: int,
    crowd: float = 0.2,
    several_crowds: bool = True,
    size: tuple[int, int] = (24, 32),
) -> Case:
    """A ground truth of rectangles and single pixels, and a prediction that resembles it.

    Args:
        seed: Seed.
        crowd: Share of crowd segments in the ground truth.
        several_crowds: Whether an image may have several crowd segments of one class.
        size: Height and width, multiples of 4.
    """
    rng = np.random.default_rng(seed)
    num = int(rng.integers(0, 9))
    gt = np.kron(rng.integers(0, num + 1, (size[0] // 4, size[1] // 4)), np.ones((4, 4), int))
    if num:
        gt[:, : size[1] // 2] = np.where(gt[:, : size[1] // 2] % 3 == 0, gt[:, : size[1] // 2], 1)
        gt[rng.integers(size[0]), rng.integers(size[1])] = num + 1  # a segment of one pixel
    pred = np.roll(gt, rng.integers(0, 2, 2), (0, 1))
    if rng.random() < 0.5:
        top, left = rng.integers(0, size[0]), rng.integers(0, size[1])
        pred[top : top + 12, left : left + 12] = rng.integers(0, num + 3)
    pred[rng.integers(size[0]), rng.integers(size[1])] = num + 3
    if rng.random() < 0.1:
        pred[:] = 0

    labels = rng.integers(0, 5, num + 4)
    gt_ids = _random_ids(rng, num + 4)
    seen_crowds = set()
    gt_segments = []
    for index in rng.permutation(np.unique(gt[gt > 0])):
        label = int(labels[index])
        iscrowd = int(rng.random() < crowd and (several_crowds or label not in seen_crowds))
        if iscrowd:
            seen_crowds.add(label)
        area = int((gt == index).sum())
        gt_segments.append({'id': int(gt_ids[index]), 'label': label, 'iscrowd': iscrowd, 'area': area})
    pred_ids = _random_ids(rng, num + 4)
    pred_labels = np.where(rng.random(num + 4) < 0.8, labels, rng.integers(0, 5, num + 4))
    present = rng.permutation(np.unique(pred[pred > 0]))
    pred_segments = [{'id': int(pred_ids[i]), 'label': int(pred_labels[i])} for i in present]
    return Case(gt_ids[gt], gt_segments, pred_ids[pred], pred_segments)


def _random_ids(rng: np.random.Generator, num: int) -> np.ndarray:
    extremes = np.array([1, 255, 256, 2**24 - 1])
    ids = np.concatenate([rng.choice(extremes, 2, replace=False), rng.integers(300, 2**24 - 1, 4 * num)])
    ids = rng.permutation(np.unique(ids))[:num]
    ids[0] = 0
    return ids.astype(np.int32)


def write_files(root: Path, cases: list[Case]) -> tuple[Path, Path, Path, Path]:
    """Write COCO's panoptic files: ground-truth JSON and folder, prediction JSON and folder."""
    images, gt_annotations, pred_annotations = [], [], []
    for side in ('gt', 'pred'):
        (root / side).mkdir()
    for image_id, case in enumerate(cases, 1):
        png = f'{image_id:04d}.png'
        for side, ids in (('gt', case.gt_ids), ('pred', case.pred_map)):
            assert cv2.imwrite(str(root / side / png), id_to_rgb(ids)[..., ::-1])
        height, width = case.gt_ids.shape
        images.append({'id': image_id, 'file_name': f'{image_id:04d}.jpg', 'height': height, 'width': width})
        for annotations, segments in ((gt_annotations, case.gt_segments), (pred_annotations, case.pred_segments)):
            segments_info = [
                {**{k: v for k, v in s.items() if k != 'label'}, 'category_id': _ID_OF_LABEL[s['label']]}
                | ({'bbox': [0, 0, 1, 1]} if 'area' in s else {})
                for s in segments
            ]
            annotations.append({'image_id': image_id, 'file_name': png, 'segments_info': segments_info})
    categories = [{k: v for k, v in c.items() if k != 'label'} for c in CATEGORIES]
    gt = {'images': images, 'annotations': gt_annotations, 'categories': categories}
    (root / 'gt.json').write_text(json.dumps(gt))
    (root / 'pred.json').write_text(json.dumps({'annotations': pred_annotations[::-1]}))
    return root / 'gt.json', root / 'gt', root / 'pred.json', root / 'pred'


def reference_matches(case: Case, void: int = 0) -> tuple[list[tuple[int, float]], list[int], list[int]]:
    """True positives in order of (ground-truth id, predicted id), sorted labels of false positives and negatives."""
    overlap = Counter(zip(case.gt_ids.ravel().tolist(), case.pred_map.ravel().tolist(), strict=True))
    pred_pixels = Counter(case.pred_map.ravel().tolist())
    crowds = defaultdict(lambda: None)
    for gt in case.gt_segments:
        if gt['iscrowd']:
            crowds[gt['label']] = gt['id']
    pairs = {}
    for gt in case.gt_segments:
        for pred in case.pred_segments:
            common = overlap[gt['id'], pred['id']]
            if gt['iscrowd'] or gt['label'] != pred['label'] or not common:
                continue
            union = gt['area'] + pred_pixels[pred['id']] - common - overlap[0, pred['id']]
            if 2 * common > union:
                pairs[gt['id'], pred['id']] = gt['label'], common / union
    hit_gt, hit_pred = {pair[0] for pair in pairs}, {pair[1] for pair in pairs}
    missed = [gt['label'] for gt in case.gt_segments if not gt['iscrowd'] and gt['id'] not in hit_gt]
    false = []
    for pred in case.pred_segments:
        excused = overlap[0, pred['id']] + overlap[crowds[pred['label']], pred['id']]
        if pred['id'] not in hit_pred and 2 * excused <= pred_pixels[pred['id']]:
            false.append(pred['label'])
    return [pairs[key] for key in sorted(pairs)], sorted(false), sorted(missed)
