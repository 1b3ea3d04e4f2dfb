"""Everything that is in a dataset's files, read once: faults, and what statistics are made of."""

import functools
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pycocotools import mask as coco_masks

from mmpanoptic.formats.instances_json import load_instances, parse_things, with_used_categories
from mmpanoptic.formats.masks import check_mask
from mmpanoptic.formats.panoptic_json import annotations_by_image, parse_categories, parse_segments, read_json
from mmpanoptic.formats.panoptic_png import decode_panoptic_png
from mmpanoptic.utils import DatasetError, read_bytes

from .near_duplicates import Fingerprint, fingerprint
from .transforms import LoadImageFromFile
from .validation import compare_png

Mapper = Callable[[Callable[[Any], Any], Sequence[Any]], Iterable[Any]]


class Source(NamedTuple):
    """Where the files of a dataset lie.

    Attributes:
        ann_file: The panoptic JSON, or an instances JSON.
        images: Path of an image, given its entry in ``images`` and its annotation; None: images are not looked at.
        seg_dir: Folder of the panoptic PNGs; None: there are none, the JSON is one of instances.
        inst_ann_file: Instances JSON beside a panoptic one, or None.
        loader: How images are read.
        need_masks: Whether every instance of an instances JSON alone must have a mask.
    """

    ann_file: str
    images: Callable[[dict, dict | None], str] | None
    seg_dir: str | None
    inst_ann_file: str | None = None
    loader: LoadImageFromFile | None = None
    need_masks: bool = True


class Inspection(NamedTuple):
    """What the files of a dataset hold.

    Attributes:
        source: Where they lie.
        categories: Parsed categories; empty if they cannot be read.
        faults: Lines by kind: 'annotations', 'segments', 'instances', 'panoptic PNGs', 'images', 'masks'.
        infos: The images whose annotations can be read: ``img_id``, ``file_name``, ``img_path``, ``height``, ``width``.
        facts: Of each of them.
    """

    source: Source
    categories: list[dict]
    faults: dict[str, list[str]]
    infos: list[dict]
    facts: list['ImageFacts']


class ImageFacts(NamedTuple):
    """What the files of an image hold.

    Attributes:
        faults: (kind, line) of each fault.
        labels: Of its N segments, or of its instances where there is no panoptic map; int64 of shape (N,).
        pixels: Of each of them.
        crowds: Whether each is one.
        void: Pixels of no segment; None without a panoptic map.
        overlap: Of masks of instances that are no crowds: pixels in any, pixels in several, pairs that share pixels;
            None without masks.
        look: What the image looks like; None if it is not looked at, or flat.
    """

    faults: list[tuple[str, str]]
    labels: np.ndarray
    pixels: np.ndarray
    crowds: np.ndarray
    void: int | None
    overlap: tuple[int, int, int] | None
    look: Fingerprint | None


def inspect(source: Source, mapper: Mapper = map) -> Inspection:
    """Read all files of a dataset; every file is decoded once.

    Args:
        source: Where they lie.
        mapper: ``mapper(function, jobs)`` calls a picklable function of every job, in any process, and gives its
            results in order.
    """
    faults: dict[str, list[str]] = {}
    categories, infos = _read_annotations(source, faults)
    examine = functools.partial(examine_image, loader=source.loader or LoadImageFromFile())
    facts = list(mapper(examine, infos))
    for one in facts:
        for kind, line in one.faults:
            faults.setdefault(kind, []).append(line)
    kept = ('img_id', 'file_name', 'img_path', 'height', 'width')
    return Inspection(source, categories, faults, [{key: info[key] for key in kept} for info in infos], facts)


def _read_annotations(source: Source, faults: dict[str, list[str]]) -> tuple[list[dict], list[dict]]:
    """Parsed categories, and an entry for each image whose annotations can be read."""
    path = source.ann_file
    try:
        data = read_json(path)
        if source.seg_dir is None:
            data = with_used_categories(data, path)
            categories = parse_things(data, path)
            pairs = [(image, None) for image, _ in annotations_by_image({'images': data.get('images')}, path)]
        else:
            categories = parse_categories(data.get('categories'), path)
            pairs = annotations_by_image(data, path)
    except DatasetError as error:
        faults['annotations'] = [str(error)]
        return [], []
    category_of = {category['id']: category for category in categories}
    instances_of = _read_instances(source, data, category_of, [image for image, _ in pairs], faults)
    infos = []
    for image, annotation in pairs:
        info = dict(
            img_id=image['id'],
            file_name=image['file_name'],
            img_path=source.images(image, annotation) if source.images else None,
            height=image['height'],
            width=image['width'],
            seg_map_path=None,
            instances=instances_of.get(image['id'], []),
        )
        try:
            if annotation is not None:
                info['segments_info'] = parse_segments(annotation, category_of, path)
                info['seg_map_path'] = str(Path(source.seg_dir, annotation['file_name']))
        except DatasetError as error:
            faults.setdefault('segments', []).append(str(error))
            continue
        infos.append(info)
    return categories, infos


def _read_instances(
    source: Source, data: dict, category_of: dict, images: list[dict], faults: dict[str, list[str]]
) -> dict:
    """Instances by image: of the instances JSON, or of ``data`` if that is one."""
    alone = source.seg_dir is None
    path = source.ann_file if alone else source.inst_ann_file
    if path is None:
        return {}
    try:
        if alone:
            return load_instances(data, path, category_of, images, None, source.need_masks)
        return load_instances(read_json(path), path, category_of, images, source.ann_file)
    except DatasetError as error:
        faults['instances'] = [str(error)]
        return {}


def examine_image(info: dict, loader: LoadImageFromFile) -> ImageFacts:
    """Read the files of one image.

    Args:
        info: Its entry, see :meth:`~mmpanoptic.datasets.CocoPanopticDataset.load_data_list`; with ``img_path`` None the
            image is not looked at.
        loader: How it is read.
    """
    faults, look, void = [], None, None
    if info['img_path'] is not None:
        try:
            look = fingerprint(loader.transform(dict(info))['img'])
        except DatasetError as error:
            faults.append(('images', str(error)))
    masks, overlap = [], None
    if any(one.get('mask') for one in info['instances']):
        masks, wrong = _run_lengths(info)
        faults += [('masks', line) for line in wrong]
        overlap = _overlap([mask for mask, one in zip(masks, info['instances'], strict=True) if not one['ignore_flag']])
    if info['seg_map_path'] is None:
        segments = [dict(label=one['bbox_label'], iscrowd=one['ignore_flag']) for one in info['instances']]
        pixels = _areas(info['instances'], masks)
    else:
        segments, pixels = info['segments_info'], None
        try:
            path = info['seg_map_path']
            ids = decode_panoptic_png(read_bytes(path), path, (info['height'], info['width']))
            wrong, pixels = compare_png(ids, info)
            faults += [('panoptic PNGs', line) for line in wrong]
            void = int((ids == 0).sum())
        except DatasetError as error:
            faults.append(('panoptic PNGs', str(error)))
        if pixels is None:  # of a PNG that cannot be used
            pixels = np.array([segment['area'] for segment in segments])
    labels, crowds = (np.array([segment[key] for segment in segments], np.int64) for key in ('label', 'iscrowd'))
    return ImageFacts(faults, labels, np.asarray(pixels, np.int64), crowds.astype(bool), void, overlap, look)


def _run_lengths(info: dict) -> tuple[list[dict | None], list[str]]:
    """The masks of an image as run lengths, None without one, and a line for each that is wrong."""
    size, masks, wrong = (info['height'], info['width']), [], []
    for place, instance in enumerate(info['instances']):
        mask = instance['mask']
        if mask is None:  # a box alone, where masks are not needed
            masks.append(None)
            continue
        try:
            check_mask(mask, *size, f'{info["file_name"]}: instance {place}')
        except DatasetError as error:
            wrong.append(str(error))
            masks.append(None)
            continue
        if isinstance(mask, list):
            polygons = [polygon for polygon in mask if len(polygon) >= 6]
            mask = coco_masks.merge(coco_masks.frPyObjects(polygons or [[0, 0, 0, 0, 0, 0]], *size))
        elif isinstance(mask['counts'], list):
            mask = coco_masks.frPyObjects(mask, *size)
        masks.append(mask)
    return masks, wrong


def _areas(instances: list[dict], masks: list[dict | None]) -> list[int]:
    """Pixels of instances: of the masks or, without one, of the boxes."""
    boxes = np.array([one['bbox'] for one in instances], np.float64).reshape(-1, 4)
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    for place, mask in enumerate(masks):
        areas[place] = areas[place] if mask is None else coco_masks.area(mask)
    return np.rint(areas).astype(np.int64).tolist()


def _overlap(masks: list[dict | None]) -> tuple[int, int, int]:
    """Pixels in any mask, pixels in several of them, and pairs that share pixels."""
    masks = [mask for mask in masks if mask is not None]
    if not masks:
        return 0, 0, 0
    depth = coco_masks.decode(masks).sum(axis=2, dtype=np.int32)
    shared = np.asarray(coco_masks.iou(masks, masks, [0] * len(masks))) > 0
    return int((depth > 0).sum()), int((depth > 1).sum()), int(np.triu(shared, 1).sum())
