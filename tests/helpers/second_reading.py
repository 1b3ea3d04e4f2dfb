"""Ground truth and scores of panoptic files once more, by other programs: json, Pillow, pycocotools, Cityscapes'."""

import contextlib
import io
import json
import shutil
import struct
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from helpers.attack import WrongError
from helpers.pq_judges import judge_cityscapes
from PIL import Image, ImageOps
from pycocotools import mask as coco_mask


def _json(path: Path) -> dict:
    return json.loads(path.read_bytes())


def plain_png(data: bytes) -> np.ndarray:
    """Pixels of a PNG of 8-bit RGB or RGBA as (H, W, 3), its other chunks left aside; checksums have to be right."""
    place, header, stream = 8, None, b''
    while place < len(data):
        (length,) = struct.unpack('>I', data[place : place + 4])
        kind, content = data[place + 4 : place + 8], data[place + 8 : place + 8 + length]
        if kind[:1].isupper() and struct.pack('>I', zlib.crc32(kind + content)) != data[place + 8 + length :][:4]:
            raise ValueError(f'checksum of {kind}')
        place += length + 12
        if kind == b'IHDR':
            header = struct.unpack('>IIBBBBB', content)
        elif kind == b'IDAT':
            stream += content
        elif kind == b'IEND':
            break
    width, height, depth, colours, *ways = header
    if depth != 8 or colours not in (2, 6) or any(ways):
        raise ValueError(f'header {header}')
    channels = 3 if colours == 2 else 4
    lines = np.frombuffer(zlib.decompressobj().decompress(stream), np.uint8)[: height * (1 + width * channels)]
    lines = lines.reshape(height, -1)
    rows = np.zeros((height + 1, width + 1, channels), np.int64)
    for row, line in enumerate(lines, 1):
        _unfilter(int(line[0]), line[1:].reshape(width, channels), rows[row], rows[row - 1])
    return rows[1:, 1:, :3]


def _unfilter(kind: int, line: np.ndarray, out: np.ndarray, above: np.ndarray) -> None:
    """One row of pixels; place 0 of ``out`` and ``above`` is the zero left of the image."""
    for column, value in enumerate(line.astype(np.int64), 1):
        left, up, corner = out[column - 1], above[column], above[column - 1]
        if kind == 4:
            distances = np.abs([up - corner, left - corner, left + up - 2 * corner])
            nearest = np.argmin(distances, 0)  # the first of equal ones
            predicted = np.choose(nearest, [left, up, corner])
        else:
            predicted = (0, left, up, (left + up) // 2)[kind]
        out[column] = (value + predicted) % 256


def _rgb(path: Path) -> np.ndarray:
    """Pixels of a PNG by Pillow, or by hand where Pillow does not like a chunk that is not needed."""
    try:
        return np.array(Image.open(path).convert('RGB'), np.int64)
    except Exception as error:
        try:
            return plain_png(path.read_bytes())
        except Exception as other:
            raise WrongError(f'read although {path.name} is damaged: {error!r}, {other!r}') from None


def ids_of(path: Path) -> np.ndarray:
    """Ids of a panoptic PNG."""
    rgb = _rgb(path)
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
    instances = _instances(root) if with_instances else None
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


def check_instance_samples(root: Path, samples: list[dict]) -> None:
    """Compare samples of ``instances.json`` alone, loaded but not transformed, with a second reading.

    Raises:
        WrongError: If they differ.
    """
    data = _json(root / 'instances.json')
    label_of = {category['id']: label for label, category in enumerate(data['categories'])}
    instances = _instances(root)
    for sample, image in zip(samples, data['images'], strict=True):
        _same(sample['img_id'], image['id'], 'image ids')
        _check_instances(sample, instances(image['id'], (image['height'], image['width'])), label_of, str(image['id']))


def _check_instances(sample: dict, found: list[tuple[dict, np.ndarray]], label_of: dict, name: str) -> None:
    found = [(entry, mask) for entry, mask in found if min(entry['bbox'][2:]) >= 1]
    boxes = [np.float32([x, y, x + w, y + h]) for (x, y, w, h) in (entry['bbox'] for entry, _ in found)]
    _same(sample['gt_bboxes'].tensor.numpy(), np.reshape(boxes, (-1, 4)), f'{name}: boxes')
    _same(sample['gt_bboxes_labels'], [label_of[entry['category_id']] for entry, _ in found], f'{name}: things')
    _same(sample['gt_ignore_flags'], [_is_ignored(entry) for entry, _ in found], f'{name}: crowds')
    masks = sample['gt_masks'].masks
    _same(masks, np.reshape([mask for _, mask in found], masks.shape), f'{name}: masks')


def _instances(root: Path) -> Callable[[int | str, tuple[int, int]], list[tuple[dict, np.ndarray]]]:
    annotations = _json(root / 'instances.json')['annotations']

    def of(image_id: int | str, size: tuple[int, int]) -> list[tuple[dict, np.ndarray]]:
        chosen = [a for a in annotations if a['image_id'] == image_id and not a.get('ignore', False)]
        return [(a, _mask(a['segmentation'], size)) for a in chosen if a.get('area', 1) > 0]

    return of


def _polygons(segmentation: list) -> list:
    """Those of whole corners that have an area, as mmdet has it; without any, it ignores the instance like a crowd."""
    return [polygon for polygon in segmentation if len(polygon) >= 6 and len(polygon) % 2 == 0]


def _is_ignored(entry: dict) -> bool:
    segmentation = entry.get('segmentation')
    return entry.get('iscrowd', 0) == 1 or (isinstance(segmentation, list) and not _polygons(segmentation))


def _mask(segmentation: list | dict, size: tuple[int, int]) -> np.ndarray:
    if isinstance(segmentation, list):
        polygons = _polygons(segmentation)
        encoded = coco_mask.merge(coco_mask.frPyObjects(polygons, *size)) if polygons else None
    elif isinstance(segmentation['counts'], list):
        encoded = coco_mask.frPyObjects(segmentation, *size)
    else:
        encoded = segmentation
    return np.zeros(size, np.uint8) if encoded is None else coco_mask.decode(encoded)


def _check_image(path: Path, ours: np.ndarray) -> None:
    """A JPEG may differ a little, or be damaged: it has no checksums. Of a PNG of other kinds the size is compared."""
    if ours.dtype != np.uint8 or ours.ndim != 3 or ours.shape[2] != 3:
        raise WrongError(f'{path.name} is {ours.dtype} of shape {ours.shape}')
    try:
        image = Image.open(path)
        with contextlib.suppress(SyntaxError):  # of EXIF that is none
            image = ImageOps.exif_transpose(image)
        theirs, is_plain = np.array(image.convert('RGB'), np.int64), image.mode == 'RGB' and path.suffix == '.png'
    except Exception:
        if path.suffix == '.jpg':
            return
        theirs, is_plain = _rgb(path), True
    if theirs.shape != ours.shape or (is_plain and not np.array_equal(theirs[..., ::-1], ours)):
        raise WrongError(f'{path.name} is another image for Pillow, of shape {theirs.shape} against {ours.shape}')


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
                image = Image.fromarray(_rgb(Path(old, annotation['file_name'])).astype(np.uint8))
                annotation['file_name'] = f'{number}.png'
                image.save(folder / side / annotation['file_name'])
                for segment in annotation['segments_info']:
                    segment.setdefault('iscrowd', 0)
            (folder / f'{side}.json').write_text(json.dumps(content))
        with contextlib.redirect_stdout(io.StringIO()):
            per_class, averages = judge_cityscapes(*(folder / name for name in ('gt.json', 'gt', 'pred.json', 'pred')))
    finally:
        shutil.rmtree(folder)
    mine = {c: (q['tp'], q['fp'], q['fn'], q['iou_sum']) for c, q in ours['per_class'].items()}
    if mine != per_class or {name: ours[name]['pq'] for name in averages} != averages:
        raise WrongError(f'scored {mine} where the official rules give {per_class}')
