"""Read all files of a dataset once, and collect faults and the data for statistics."""

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
from mmpanoptic.results.coco import Category, CocoImage, Id, PanopticAnnotation
from mmpanoptic.utils import DatasetError, read_bytes

from .near_duplicates import Fingerprint, fingerprint
from .transforms import LoadImageFromFile
from .validation import compare_png

Mapper = Callable[[Callable[[Any], Any], Sequence[Any]], Iterable[Any]]


class Source(NamedTuple):
    """Paths of a dataset's files.

    Attributes:
        ann_file: The panoptic JSON, or an instances JSON.
        images: Path of an image, given its entry in ``images`` and its annotation; None: images are not read.
        seg_dir: Folder of the panoptic PNGs; None: there are none, and ``ann_file`` is an instances JSON.
        inst_ann_file: Instances JSON in addition to a panoptic JSON, or None.
        loader: Loader of images.
        need_masks: Whether every instance must have a mask if ``ann_file`` is an instances JSON.
    """

    ann_file: str
    images: Callable[[CocoImage, PanopticAnnotation | None], str] | None
    seg_dir: str | None
    inst_ann_file: str | None = None
    loader: LoadImageFromFile | None = None
    need_masks: bool = True


class Inspection(NamedTuple):
    """Contents of a dataset's files.

    Attributes:
        source: Paths of the files.
        categories: Parsed categories; empty if they cannot be read.
        faults: Lines by kind: 'annotations', 'segments', 'instances', 'panoptic PNGs', 'images', 'masks'.
        infos: The images whose annotations can be read: ``img_id``, ``file_name``, ``img_path``, ``height``, ``width``.
        facts: Contents of the files of each of these images.
    """

    source: Source
    categories: list[Category]
    faults: dict[str, list[str]]
    infos: list[dict[str, Any]]
    facts: list['ImageFacts']


class ImageFacts(NamedTuple):
    """Contents of the files of an image. Without a panoptic map, segments are its instances.

    Attributes:
        faults: (kind, line) of each fault.
        labels: Labels of the N segments, int64 of shape (N,).
        pixels: Number of pixels of each segment, int64 of shape (N,).
        crowds: Whether each segment is a crowd, bool of shape (N,).
        void: Number of void pixels; None without a panoptic map.
        overlap: Pixels in any mask, pixels in several masks and pairs of masks that share pixels, without crowds; None
            without masks.
        look: Fingerprint of the image; None if the image is not read or has almost no contrast.
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
        source: Paths of the files.
        mapper: ``mapper(function, jobs)`` calls a picklable function with every job, in any process, and returns the
            results in order.
    """
    faults: dict[str, list[str]] = {}
    categories, infos = _read_annotations(source, faults)
    examine = functools.partial(examine_image, loader=source.loader or LoadImageFromFile())
    facts = list(mapper(examine, infos))
    for of_image in facts:
        for kind, line in of_image.faults:
            faults.setdefault(kind, []).append(line)
    kept = ('img_id', 'file_name', 'img_path', 'height', 'width')
    return Inspection(source, categories, faults, [{key: info[key] for key in kept} for info in infos], facts)


def _read_annotations(source: Source, faults: dict[str, list[str]]) -> tuple[list[Category], list[dict[str, Any]]]:
    """Parsed categories, and an entry for each image whose annotations can be read."""
    path = source.ann_file
    pairs: list[tuple[CocoImage, PanopticAnnotation | None]]
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
        info: dict[str, Any] = dict(
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
                assert source.seg_dir is not None  # without it there are no panoptic annotations
                info['segments_info'] = parse_segments(annotation, category_of, path)
                info['seg_map_path'] = str(Path(source.seg_dir, annotation['file_name']))
        except DatasetError as error:
            faults.setdefault('segments', []).append(str(error))
            continue
        infos.append(info)
    return categories, infos


def _read_instances(
    source: Source,
    data: dict[str, Any],
    category_of: dict[Id, Category],
    images: list[CocoImage],
    faults: dict[str, list[str]],
) -> dict[Id, list[dict[str, Any]]]:
    """Instances by image id, from the instances JSON, or from ``data`` if that is an instances JSON."""
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


def examine_image(info: dict[str, Any], loader: LoadImageFromFile) -> ImageFacts:
    """Read the files of one image.

    Args:
        info: Entry of the image, see :meth:`~mmpanoptic.datasets.CocoPanopticDataset.load_data_list`. If ``img_path``
            is None, the image is not read.
        loader: Loader of the image.
    """
    faults: list[tuple[str, str]] = []
    look, void = None, None
    if info['img_path'] is not None:
        try:
            look = fingerprint(loader.transform(dict(info))['img'])
        except DatasetError as error:
            faults.append(('images', str(error)))
    instances = info['instances']
    masks: list[dict | None] = []
    overlap = None
    pixels: np.ndarray | None
    if any(instance.get('mask') for instance in instances):
        masks, wrong = _run_lengths(info)
        faults += [('masks', line) for line in wrong]
        overlap = _overlap([m for m, instance in zip(masks, instances, strict=True) if not instance['ignore_flag']])
    if info['seg_map_path'] is None:
        segments = [dict(label=instance['bbox_label'], iscrowd=instance['ignore_flag']) for instance in instances]
        pixels = _areas(instances, masks)
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
        if pixels is None:  # the PNG cannot be used
            pixels = np.array([segment['area'] for segment in segments])
    labels, crowds = (np.array([segment[key] for segment in segments], np.int64) for key in ('label', 'iscrowd'))
    return ImageFacts(faults, labels, np.asarray(pixels, np.int64), crowds.astype(bool), void, overlap, look)


def _run_lengths(info: dict[str, Any]) -> tuple[list[dict | None], list[str]]:
    """The masks of an image as run lengths, None for a missing or wrong mask, and a line for each wrong mask."""
    size = info['height'], info['width']
    masks: list[dict | None] = []
    wrong: list[str] = []
    for place, instance in enumerate(info['instances']):
        mask = instance['mask']
        if mask is None:  # a box without a mask, if masks are not needed
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


def _areas(instances: list[dict[str, Any]], masks: list[dict | None]) -> np.ndarray:
    """Pixels of instances, int64 of shape (n,): of the masks or, without a mask, of the boxes."""
    boxes = np.array([instance['bbox'] for instance in instances], np.float64).reshape(-1, 4)
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    for place, mask in enumerate(masks):
        areas[place] = areas[place] if mask is None else coco_masks.area(mask)
    return np.rint(areas).astype(np.int64)


def _overlap(masks: list[dict | None]) -> tuple[int, int, int]:
    """Pixels in any mask, pixels in several masks, and pairs of masks that share pixels."""
    present = [mask for mask in masks if mask is not None]
    if not present:
        return 0, 0, 0
    depth = coco_masks.decode(present).sum(axis=2, dtype=np.int32)
    shared = np.asarray(coco_masks.iou(present, present, [0] * len(present))) > 0
    return int((depth > 0).sum()), int((depth > 1).sum()), int(np.triu(shared, 1).sum())
