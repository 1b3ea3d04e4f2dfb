"""Writing of Shapes in COCO's formats (https://cocodataset.org/#format-data)."""

import json
import multiprocessing
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as rle

from mmpanoptic.datasets.shapes.categories import CATEGORIES
from mmpanoptic.datasets.shapes.scene import Scene, render_scene
from mmpanoptic.datasets.shapes.textures import Rng
from mmpanoptic.drawing.encode import encode_png
from mmpanoptic.structures import id_to_rgb, rgb_to_id
from mmpanoptic.utils import UserError, tracked_map, whole_folder

#: The splits; the index of a split is part of its scenes' seeds.
SPLITS = ('train', 'val')
_SMALLEST_SIZE = 96
_PNG = (cv2.IMWRITE_PNG_COMPRESSION, 1)


def scene_rng(seed: int, split: str, index: int) -> Rng:
    """Random generator of one scene, independent of other scenes and of their number."""
    return np.random.default_rng(np.random.SeedSequence([seed, SPLITS.index(split), index]))


def segment_ids(scene: Scene) -> list[int]:
    """Ids of a scene's segments, in order: 24 bits, unique, and as colours close to the category's colour."""
    ids: list[int] = []
    for segment in scene.segments:
        colour = np.array(CATEGORIES[segment.label]['color'])
        while (new := int(rgb_to_id(colour.astype(np.uint8)[None, None])[0, 0])) in ids:
            colour = np.maximum(colour - [12, 8, 10], [0, 1, 0])  # enough shades for at most 14 segments of a class
        ids.append(new)
    return ids


def panoptic_map(scene: Scene) -> np.ndarray:
    """Segment ids per pixel, 0 where void: int32 of shape (H, W)."""
    ids = np.zeros(scene.image.shape[:2], np.int32)
    for new, segment in zip(segment_ids(scene), scene.segments, strict=True):
        ids[segment.visible] = new
    return ids


def _area_and_bbox(mask: np.ndarray) -> tuple[int, list[int]]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box = [columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1]
    return int(np.count_nonzero(mask)), [int(value) for value in box]


def _encode(mask: np.ndarray) -> dict:
    encoded = rle.encode(np.asfortranarray(mask, np.uint8))
    return {'size': list(mask.shape), 'counts': encoded['counts'].decode()}


def describe_scene(scene: Scene) -> tuple[list[dict], list[dict]]:
    """``segments_info`` of a scene and its instances, both in the order of ``scene.segments``.

    Returns:
        COCO's ``segments_info`` and COCO's instance annotations, the latter without ``id`` and ``image_id``; an
        instance's ``panoptic_id`` is the id of its segment.
    """
    infos, instances = [], []
    for new, segment in zip(segment_ids(scene), scene.segments, strict=True):
        category = CATEGORIES[segment.label]
        area, bbox = _area_and_bbox(segment.visible)
        info = {'id': new, 'category_id': category['id'], 'iscrowd': segment.iscrowd, 'area': area, 'bbox': bbox}
        infos.append(info)
        if category['isthing']:
            area, bbox = _area_and_bbox(segment.overlapping)
            mask = _encode(segment.overlapping)
            instances.append(info | {'panoptic_id': new, 'area': area, 'bbox': bbox, 'segmentation': mask})
    return infos, instances


def _write_scene(job: tuple[Path, str, int, tuple[int, int], int]) -> tuple[list[dict], list[dict]]:
    out, split, index, size, seed = job
    if multiprocessing.parent_process():
        cv2.setNumThreads(0)  # OpenCV's threads do not survive a fork
    scene = render_scene(scene_rng(seed, split, index), size)
    (out / split / _file_name(index)).write_bytes(encode_png(scene.image, _PNG))
    ids = id_to_rgb(panoptic_map(scene))
    (out / 'annotations' / f'panoptic_{split}' / _file_name(index)).write_bytes(encode_png(ids, _PNG))
    return describe_scene(scene)


def _file_name(index: int) -> str:
    return f'{index + 1:06d}.png'


def write_split(
    out: Path,
    split: str,
    num_images: int,
    size: tuple[int, int] = (192, 288),
    seed: int = 0,
    workers: int = 1,
) -> int:
    """Render one split, with a progress bar.

    It writes ``out/{split}/*.png``, ``out/annotations/panoptic_{split}/*.png``,
    ``out/annotations/panoptic_{split}.json`` and ``out/annotations/instances_{split}.json``, whose masks (compressed
    RLE) are those of ``Segment.overlapping``. The bytes of the files do not depend on ``workers``.

    Args:
        out: Folder to write to; made if missing.
        split: One of ``SPLITS``.
        num_images: Number of scenes.
        size: Height and width of an image in pixels.
        seed: Seed of the scenes.
        workers: Number of processes.

    Returns:
        Number of instances, crowds included.

    Raises:
        OSError: If a file cannot be written.
    """
    for folder in (out / split, out / 'annotations' / f'panoptic_{split}'):
        folder.mkdir(parents=True, exist_ok=True)
    images, panoptic = [], []
    instances: list[dict[str, Any]] = []
    jobs = [(out, split, index, size, seed) for index in range(num_images)]
    for index, (infos, found) in enumerate(tracked_map(_write_scene, jobs, workers, split)):
        name, image_id = _file_name(index), index + 1
        images.append({'id': image_id, 'file_name': name, 'height': size[0], 'width': size[1]})
        panoptic.append({'image_id': image_id, 'file_name': name, 'segments_info': infos})
        for instance in found:
            instances.append(instance | {'id': len(instances) + 1, 'image_id': image_id})
    head = {'info': {'description': f'Shapes {split}', 'seed': seed}, 'images': images}
    things = [category for category in CATEGORIES if category['isthing']]
    for kind, annotations, categories in (('panoptic', panoptic, CATEGORIES), ('instances', instances, things)):
        content = head | {'annotations': annotations, 'categories': categories}
        (out / 'annotations' / f'{kind}_{split}.json').write_text(json.dumps(content, separators=(',', ':')))
    return len(instances)


def write_dataset(
    out: Path,
    num_images: dict[str, int],
    size: tuple[int, int] = (192, 288),
    seed: int = 0,
    workers: int = 1,
) -> int:
    """Render all splits into a folder, atomically (:func:`mmpanoptic.utils.whole_folder`).

    Args:
        out: The folder; the result of an earlier call is replaced.
        num_images: Number of images by split.
        size: Height and width of an image in pixels, each at least 96.
        seed: Seed of the scenes.
        workers: Number of processes.

    Returns:
        Number of instances, crowds included.

    Raises:
        UserError: If a number is out of range, ``out`` holds other files, or another process writes to it.
        WriteError: If the folder cannot be written.
    """
    if min(size) < _SMALLEST_SIZE:
        raise UserError(
            f'size {size[0]} {size[1]} is too small for a scene: use at least {_SMALLEST_SIZE} each', 'size'
        )
    for split, number in num_images.items():
        if number < 1:
            raise UserError(f'{number} images of {split}: a split needs at least one', argument=split)
    if seed < 0:
        raise UserError(f'seed {seed} is negative: use 0 or more', argument='seed')
    with whole_folder(out, 'tools/dataset_converters/shapes.py', 'out') as folder:
        return sum(write_split(folder, split, number, size, seed, workers) for split, number in num_images.items())
