"""Instances from a COCO instances JSON, alone or beside a panoptic JSON.

Format: https://cocodataset.org/#format-data (1. Object Detection).
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.logging import print_log

from mmpanoptic.results.coco import Category, CocoImage, Id
from mmpanoptic.utils import DatasetError

from .json_checks import Types, check_bbox, check_types, entries, refuse_repeats
from .masks import check_mask
from .panoptic_json import parse_categories


def unused_parent(data: dict) -> dict | None:
    """The parent category that Roboflow puts first in an instances JSON and that is no class; None if there is none.

    It has id 0 and supercategory 'none', its name is the supercategory of all other categories, and no annotation uses
    it. Any other category without annotations is a class: another split may use it.

    Args:
        data: Contents of the file. If ``categories`` is malformed, the result is None; the later checks refuse it.
    """
    categories, annotations = data.get('categories'), data.get('annotations') or []
    if not isinstance(categories, list) or not all(isinstance(category, dict) for category in categories):
        return None
    parents = [
        category for category in categories if category.get('id') == 0 and category.get('supercategory') == 'none'
    ]
    others = [category for category in categories if category not in parents]
    if (
        len(parents) != 1
        or not others
        or any(category.get('supercategory') != parents[0].get('name') for category in others)
    ):
        return None
    used = any(isinstance(annotation, dict) and annotation.get('category_id') == 0 for annotation in annotations)
    return None if used else parents[0]


def with_used_categories(data: dict, path: str) -> dict:
    """Leave the :func:`unused_parent` out of an instances JSON, and log it.

    Args:
        data: Contents of the file.
        path: The file's name for the log.

    Returns:
        The same contents; if there is such a category, with a new list of ``categories``.
    """
    parent = unused_parent(data)
    if parent is None:
        return data
    name = parent.get('name')
    print_log(f'{path}: category {name!r} is the parent of all others and unused: no class', 'current')
    return {**data, 'categories': [category for category in data['categories'] if category is not parent]}


def parse_things(data: dict, path: str) -> list[Category]:
    """Check the categories of an instances JSON. A category is a thing class unless its ``isthing`` is 0.

    Returns:
        See :func:`~mmpanoptic.formats.panoptic_json.parse_categories`; their number has no limit.

    Raises:
        DatasetError: See :func:`~mmpanoptic.formats.panoptic_json.parse_categories`.
    """
    categories = entries(data.get('categories'), path, 'categories', 'give `ann_file` a COCO instances JSON')
    return parse_categories([{'isthing': 1, **category} for category in categories], path, limit=None)


def load_instances(
    data: dict,
    path: str,
    category_of: Mapping[Id, Category],
    images: Sequence[CocoImage],
    panoptic_path: str | None,
    need_masks: bool = True,
) -> dict[Id, list[dict[str, Any]]]:
    """Check an instances JSON against a panoptic one and convert its instances to mmdet's form.

    Args:
        data: Contents of the instances JSON. It may hold more images than the panoptic one and fewer categories.
        path: The instances JSON's name for errors.
        category_of: The panoptic JSON's parsed categories by id.
        images: The panoptic JSON's ``images``.
        panoptic_path: The panoptic JSON's name for errors. None if there is no panoptic JSON; ``category_of`` and
            ``images`` then come from the instances JSON.
        need_masks: Whether every annotation must have a mask.

    Returns:
        By image id, dicts with ``bbox`` ([x1, y1, x2, y2], pixels), ``bbox_label``, ``ignore_flag`` (1 for crowds) and
        ``mask`` (polygons or RLE; None without one). Annotations without area, thinner than a pixel or marked
        ``ignore`` are left out, as mmdet does.

    Raises:
        DatasetError: If the files number their things or images differently, or an annotation does not fit.
    """
    _check_categories(data, path, category_of, panoptic_path)
    _check_images(data, path, images, panoptic_path)
    size_of = {image['id']: (image['height'], image['width']) for image in images}
    key = 'ann_file' if panoptic_path is None else 'inst_ann_file'
    annotations = entries(data.get('annotations'), path, 'annotations', f'give `{key}` a COCO instances JSON')
    refuse_repeats((a['id'] for a in annotations if 'id' in a), f'{path}: annotation id')
    instances_of: dict[Id, list[dict[str, Any]]] = defaultdict(list)
    for annotation in annotations:
        where = f'{path}: annotation {annotation.get("id")!r} of image {annotation.get("image_id")!r}'
        check_types(annotation, dict(image_id=(int, str)), where)
        if annotation['image_id'] not in size_of:
            continue
        _check_annotation(annotation, where, category_of, size_of[annotation['image_id']], panoptic_path, need_masks)
        x, y, w, h = annotation['bbox']
        if annotation.get('area', w * h) <= 0 or w < 1 or h < 1 or annotation.get('ignore', False):
            continue
        instances_of[annotation['image_id']].append(
            dict(
                bbox=[x, y, x + w, y + h],
                bbox_label=category_of[annotation['category_id']]['label'],
                ignore_flag=int(annotation.get('iscrowd', 0)),
                mask=annotation.get('segmentation'),
            )
        )
    return instances_of


def _check_annotation(
    annotation: dict,
    where: str,
    category_of: Mapping[Id, Category],
    size: tuple[int, int],
    panoptic_path: str | None,
    need_masks: bool,
) -> None:
    """Refuse an annotation with wrong types, of no thing class, or whose mask does not have its image's size."""
    types: Types = dict(category_id=(int, str), bbox=list, segmentation=(list, dict), area=(int, float))
    needed = {'category_id', 'bbox'} | ({'segmentation'} if need_masks else set())
    check_types(annotation, {key: of for key, of in types.items() if key in annotation.keys() | needed}, where)
    check_bbox(annotation['bbox'], where)
    category = category_of.get(annotation['category_id'])
    if category is None or not category['isthing']:
        alone = panoptic_path is None
        reason = (
            'none of its `categories`: list it there'
            if alone
            else f'no thing in {panoptic_path}: both files must number their things alike'
        )
        raise DatasetError(f'{where} has category_id {annotation["category_id"]!r}, which is {reason}')
    if annotation.get('iscrowd', 0) not in (0, 1):
        raise DatasetError(f'{where} has iscrowd {annotation["iscrowd"]!r}: write 0 or 1')
    if 'segmentation' in annotation:
        check_mask(annotation['segmentation'], *size, where, compressed=False)  # the loader checks compressed runs


def _check_categories(data: dict, path: str, category_of: Mapping[Id, Category], panoptic_path: str | None) -> None:
    categories = entries(data.get('categories'), path, 'categories', 'give `inst_ann_file` an instances JSON')
    first = data['annotations'][:1] if isinstance(data.get('annotations'), list) else []
    if any('segments_info' in annotation for annotation in first if isinstance(annotation, dict)):
        remedy = 'give it to `ann_file`, and `inst_ann_file` the instances JSON'
        if panoptic_path is None:
            remedy = 'train it by a panoptic config (starter/panoptic-fpn_r18_fpn.py), or name the instances JSON'
        raise DatasetError(f'{path} is a panoptic JSON: {remedy}')
    for category in categories:
        check_types(category, dict(id=(int, str), name=str), f'{path}: category {category.get("id")!r}')
        known = category_of.get(category['id'])
        if panoptic_path is None and known is not None and not known['isthing']:
            name = known['name']
            raise DatasetError(f'{path}: category {name!r} has isthing 0, and instances are things: leave it out')
        if known is None or known['name'] != category['name'] or not known['isthing']:
            raise DatasetError(
                f'{path}: category {category["id"]!r} ({category["name"]!r}) is no thing of that id and name '
                f'in {panoptic_path}: both files must number their things alike'
            )


def _check_images(data: dict, path: str, images: Sequence[CocoImage], panoptic_path: str | None) -> None:
    """Refuse an instances JSON that lacks an image: an image without instances must still be listed."""
    listed = entries(data.get('images'), path, 'images', 'give `inst_ann_file` a COCO instances JSON')
    refuse_repeats((image.get('id') for image in listed), f'{path}: image id')
    listed_by_id = {image['id']: image for image in listed}
    for image in images:
        other = listed_by_id.get(image['id'])
        if other is None:
            raise DatasetError(
                f'{path} lacks image {image["id"]!r} ({image["file_name"]}) of {panoptic_path}: use the instances of '
                'the same split'
            )
        if (other.get('height'), other.get('width')) != (image['height'], image['width']):
            raise DatasetError(
                f'{path}: image {image["id"]!r} is {other.get("height")!r}x{other.get("width")!r} (height x width), in '
                f'{panoptic_path} {image["height"]}x{image["width"]}: use the instances of the same images'
            )
