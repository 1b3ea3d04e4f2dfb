"""Ground truth and scores of panoptic files once more, by other programs: json, Pillow, pycocotools, Cityscapes'."""

import contextlib
import io
import json
import shutil
import tempfile
from pathlib import Path

import numpy as np
from helpers.attack import WrongError
from helpers.pq_judges import judge_cityscapes
from PIL import Image, ImageOps
from pycocotools import mask as coco_mask


def _json(path: Path) -> dict:
    return json.loads(path.read_bytes())


def _decoded(path: Path) -> Image.Image:
    try:
        image = Image.open(path)
        image.load()
    except Exception as error:
        raise WrongError(f'read although Pillow says of {path.name}: {type(error).__name__}: {error}') from None
    return image


def ids_of(path: Path) -> np.ndarray:
    """Ids of a panoptic PNG."""
    rgb = np.array(_decoded(path).convert('RGB'), np.int64)
    return rgb[..., 0] + 256 * rgb[..., 1] + 65536 * rgb[..., 2]


def _same(ours: object, theirs: object, what: str) -> None:
    if not np.array_equal(np.asarray(ours), np.asarray(theirs)):
        raise WrongError(f'{what} differ: {ours!r} against {theirs!r}'[:600])


def check_samples(root: Path, samples: list[dict], with_instances: bool) -> None:
    """Compare samples, loaded but not transformed, with a second reading of ``panoptic.json``, PNGs and images.

    Raises:
        WrongError: If they differ.
    """
    data = _json(root / 'panoptic.json')
    in_order = sorted(data['categories'], key=lambda category: not category['isthing'])
    label_of = {category['id']: label for label, category in enumerate(in_order)}
    things = {category['id'] for category in in_order if category['isthing']}
    image_of = {image['id']: image for image in data['images']}
    instances = _instances(root, label_of) if with_instances else None
    _same([s['img_id'] for s in samples], [a['image_id'] for a in data['annotations']], 'image ids')
    for sample, annotation in zip(samples, data['annotations'], strict=True):
        name = annotation['file_name']
        segments = annotation['segments_info']
        ids = ids_of(root / 'panoptic' / name)
        _same(sample['gt_panoptic_map'], ids, f'{name}: ids')
        present, counts = np.unique(ids[ids > 0], return_counts=True)
        areas = dict(zip(present.tolist(), counts.tolist(), strict=True))
        _same(sorted((s['id'], s['area']) for s in segments), sorted(areas.items()), f'{name}: areas')
        labels = np.full(ids.shape, 255)
        for segment in segments:
            labels[ids == segment['id']] = label_of[segment['category_id']]
        _same(sample['gt_seg_map'], labels, f'{name}: labels')
        _check_image(root / 'images' / image_of[annotation['image_id']]['file_name'], sample['img'])
        if instances is None:
            found = [(s, ids == s['id']) for s in segments if s['category_id'] in things]
        else:
            found = instances(annotation['image_id'], ids.shape)
        _check_instances(sample, found, label_of, name)


def _check_instances(sample: dict, found: list[tuple[dict, np.ndarray]], label_of: dict, name: str) -> None:
    found = [(entry, mask) for entry, mask in found if min(entry['bbox'][2:]) >= 1]
    boxes = [np.float32([x, y, x + w, y + h]) for (x, y, w, h) in (entry['bbox'] for entry, _ in found)]
    _same(sample['gt_bboxes'].tensor.numpy(), np.reshape(boxes, (-1, 4)), f'{name}: boxes')
    _same(sample['gt_bboxes_labels'], [label_of[entry['category_id']] for entry, _ in found], f'{name}: things')
    _same(sample['gt_ignore_flags'], [entry.get('iscrowd', 0) == 1 for entry, _ in found], f'{name}: crowds')
    masks = sample['gt_masks'].masks
    _same(masks, np.reshape([mask for _, mask in found], masks.shape), f'{name}: masks')


def _instances(root: Path, label_of: dict):
    annotations = _json(root / 'instances.json')['annotations']

    def of(image_id: int | str, size: tuple[int, int]) -> list[tuple[dict, np.ndarray]]:
        chosen = [a for a in annotations if a['image_id'] == image_id and not a.get('ignore', False)]
        return [(a, _mask(a['segmentation'], size)) for a in chosen if a.get('area', 1) > 0]

    return of


def _mask(segmentation: list | dict, size: tuple[int, int]) -> np.ndarray:
    if isinstance(segmentation, list):
        encoded = coco_mask.merge(coco_mask.frPyObjects(segmentation, *size)) if segmentation else None
    elif isinstance(segmentation['counts'], list):
        encoded = coco_mask.frPyObjects(segmentation, *size)
    else:
        encoded = segmentation
    return np.zeros(size, np.uint8) if encoded is None else coco_mask.decode(encoded)


def _check_image(path: Path, ours: np.ndarray) -> None:
    """A JPEG may differ a little, or be damaged: it has no checksums."""
    try:
        image = Image.open(path)
        image.load()
    except Exception as error:
        if path.suffix == '.jpg':
            return
        raise WrongError(f'read although Pillow says of {path.name}: {type(error).__name__}: {error}') from None
    theirs = np.asarray(ImageOps.exif_transpose(image).convert('RGB'), np.int64)[..., ::-1]
    if theirs.shape != ours.shape:
        raise WrongError(f'{path.name} is {ours.shape}, for Pillow {theirs.shape}')
    difference = np.abs(theirs - ours)
    limit = 0 if image.format in ('PNG', 'BMP', 'PPM') and image.mode == 'RGB' else 255
    if difference.max(initial=0) > limit:
        raise WrongError(f'{path.name} has other pixels for Pillow')


def check_score(ours: dict, gt_json: Path, gt_dir: Path, pred_json: Path, pred_dir: Path) -> None:
    """Compare what ``evaluate_files`` gives with what the official rules give on a second reading of the files.

    Raises:
        WrongError: If they differ, or a score is not within 0 and 1.
    """
    if not all(0 <= quality['pq'] <= 1 for quality in ours['per_class'].values()):
        raise WrongError(f'a score beyond 0 to 1: {ours}')
    folder = Path(tempfile.mkdtemp())
    try:
        gt, pred = _json(gt_json), _json(pred_json)
        annotated = {annotation['image_id'] for annotation in gt['annotations']}
        pred['annotations'] = [a for a in pred['annotations'] if a['image_id'] in annotated]
        for side, content, old in (('gt', gt, gt_dir), ('pred', pred, pred_dir)):
            (folder / side).mkdir()
            for number, annotation in enumerate(content['annotations']):
                image = _decoded(Path(old, annotation['file_name'])).convert('RGB')
                annotation['file_name'] = f'{number}.png'
                image.save(folder / side / annotation['file_name'])
                for segment in annotation['segments_info']:
                    segment.setdefault('iscrowd', 0)
            (folder / f'{side}.json').write_text(json.dumps(content))
        with contextlib.redirect_stdout(io.StringIO()):
            per_class, averages = judge_cityscapes(
                *(folder / name for name in ('gt.json', 'gt', 'pred.json', 'pred'))
            )
    finally:
        shutil.rmtree(folder)
    mine = {c: (q['tp'], q['fp'], q['fn'], q['iou_sum']) for c, q in ours['per_class'].items()}
    if mine != per_class or {name: ours[name]['pq'] for name in averages} != averages:
        raise WrongError(f'scored {mine} where the official rules give {per_class}')
