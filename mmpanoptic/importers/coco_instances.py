"""COCO instances as COCO, CVAT, Roboflow, Label Studio and FiftyOne write them.

Format: https://cocodataset.org/#format-data (1. Object Detection).
"""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmpanoptic.formats.instances_json import unused_parent
from mmpanoptic.formats.json_checks import check_types, entries, refuse_repeats
from mmpanoptic.utils import DatasetError

from .classes import merge_classes
from .records import LabelledImage, Labels, LeftOut, Shape
from .sources import ImageFinder, each, files_below, load_json, reading, split_of

_OF_LABELS = ('annotations', 'labels')  # folders beside those of images
_LISTS = 'the lists `images`, `annotations` and `categories` of instances'
_SAYS = 'name an instances JSON of COCO, or a folder with some in it'
Turn = tuple[float, float, float]  # degrees clockwise, and x, y of the point that stays


def read(source: Path, images: Path | None = None) -> Labels:
    """Read an instances JSON, or all of a folder. In a folder, a file's name or its folder gives its split.

    Args:
        source: The file or folder.
        images: The folder of the images; by default they are looked for beside the files.

    Raises:
        DatasetError: If there is no such file, or a file cannot be read at all.
    """
    left_out: list[LeftOut]
    if source.is_dir():
        contents, left_out = _instances_in(source)
        if not contents:
            reason = f'; {left_out[0].reason}' if left_out else ''
            raise DatasetError(f'{source} holds no JSON with {_LISTS}: {_SAYS}{reason}')
    else:
        contents, left_out = {source: load_json(source, dict, _SAYS)}, []
    parts = []
    for path, content in contents.items():
        with reading(str(path)):
            categories, unused = read_classes(content, path)
        left_out += unused
        parts.append((path, content, categories))
    found: list[LabelledImage] = []
    for path, content, categories in parts:
        made, missing = _images_of(path, content, categories, images, _split(path, source))
        found += made
        left_out += missing
    return Labels(found, merge_classes({str(path): categories for path, _, categories in parts}), left_out)


def _split(path: Path, source: Path) -> str | None:
    """The split of a file in a source folder, from its name or its folders; a single file has no split."""
    return split_of(*path.stem.split('_'), *path.relative_to(source).parts[:-1]) if source.is_dir() else None


def _instances_in(source: Path) -> tuple[dict[Path, dict], list[LeftOut]]:
    """Instances JSONs of a folder, and the JSONs that cannot be read but may be instances JSONs.

    If there are files called instances*, all others (such as COCO's keypoints) are ignored.

    Raises:
        DatasetError: If a file called instances* is no instances JSON.
    """
    files = files_below(source, '*.json')
    named = [path for path in files if path.name.startswith('instances')]
    found: dict[Path, dict] = {}
    left_out = []
    for path in named or files:
        try:
            content = load_json(path, object, _SAYS)
        except DatasetError as error:
            if named:
                raise
            left_out.append(LeftOut(str(path), 'the file', str(error)))
            continue
        if _is_instances(content):
            found[path] = content
        elif named:
            raise DatasetError(f'{path} is called an instances JSON but has not {_LISTS}: mend, rename or remove it')
    return found, left_out


def _is_instances(content: Any) -> bool:
    """Whether a JSON has the lists of an instances JSON and is no panoptic JSON."""
    keys = ('images', 'annotations', 'categories')
    if not isinstance(content, dict) or not all(isinstance(content.get(key), list) for key in keys):
        return False
    return not any(
        'segments_info' in annotation for annotation in content['annotations'][:1] if isinstance(annotation, dict)
    )


def read_classes(content: dict, path: Path) -> tuple[list[dict[str, Any]], list[LeftOut]]:
    """Categories of an instances JSON without :func:`~mmpanoptic.formats.instances_json.unused_parent`.

    Raises:
        DatasetError: If there are no categories, one is malformed, or an id or a name occurs twice.
    """
    categories = entries(content.get('categories'), str(path), 'categories', 'add `categories` with id and name')
    for category in categories:
        check_types(
            category, {'id': int, 'name': str}, f'{path}: category {category.get("name", category.get("id"))!r}'
        )
        if category.get('isthing', 1) not in (0, 1):
            raise DatasetError(
                f'{path}: category {category["name"]!r} has isthing {category["isthing"]!r}: write 0 or 1'
            )
    for key in ('id', 'name'):
        refuse_repeats((category[key] for category in categories), f'{path}: category {key}')
    parent, left_out = unused_parent(content), []
    if parent is not None:
        reason = 'it is the parent of all others and has no shape'
        left_out.append(LeftOut(str(path), f'class {parent["name"]!r}', reason))
    keys = ('id', 'name', 'isthing', 'supercategory', 'color')
    return [
        {key: category[key] for key in keys if key in category} for category in categories if category is not parent
    ], left_out


def _images_of(
    path: Path, content: dict, categories: Sequence[dict[str, Any]], folder: Path | None, split: str | None
) -> tuple[list[LabelledImage], list[LeftOut]]:
    with reading(str(path)):
        images = entries(content.get('images'), str(path), 'images', _SAYS)
        refuse_repeats((image.get('id') for image in images), f'{path}: image id')
        by_image: dict[Any, list[dict[str, Any]]] = defaultdict(list)
        for annotation in content['annotations'] or ():
            by_image[annotation['image_id']].append(annotation)
    above, last = path.parent.parent, path.stem.rpartition('_')[2]
    beside = [path.parent, path.parent / 'images', path.parent / 'data']
    if path.parent.name in _OF_LABELS:
        beside += [above / last, above / 'images' / last, above / 'images', above]
    finder = ImageFinder(folder, beside)
    name_of = {category['id']: category['name'] for category in categories}

    def make(image: dict) -> LabelledImage:
        where = f'{path}: image {image["id"]!r}'
        check_types(image, {'file_name': str, 'height': int, 'width': int}, where)
        file, name = finder.find(image['file_name'], where, split)
        size = (image['height'], image['width'])
        shapes = [shape_of(annotation, name_of, where) for annotation in by_image[image['id']]]
        return LabelledImage(file, name, str(path), shapes, size=size, split=split, image_id=image['id'])

    made, left_out = each(images, make, str(path), lambda image: f'image {image.get("id")!r}')
    strangers = by_image.keys() - {image['id'] for image in images}
    left_out += [
        LeftOut(
            str(path),
            f'annotation {annotation.get("id")!r}',
            f'its image {annotation["image_id"]!r} is not in `images`',
        )
        for key in sorted(strangers, key=str)
        for annotation in by_image[key]
    ]
    return made, left_out


def shape_of(annotation: dict, name_of: dict[int, str], where: str) -> Shape:
    """Convert an annotation to a shape. If it has no mask, its box is void.

    Raises:
        DatasetError: If its class is unknown, or it has neither mask nor box.
    """
    what = f'annotation {annotation.get("id")!r}'
    name = name_of.get(annotation['category_id'])
    if name is None:
        raise DatasetError(
            f'{where}: {what} has category_id {annotation["category_id"]!r}, which `categories` lacks: add the category'
        )
    if annotation.get('iscrowd', 0) not in (0, 1):
        raise DatasetError(f'{where}: {what} has iscrowd {annotation["iscrowd"]!r}: write 0 or 1')
    mask = annotation.get('segmentation')
    crowd = bool(annotation.get('iscrowd', 0))
    if mask:
        return Shape(name, mask, what, crowd)
    x, y, width, height = annotation['bbox']
    return box_shape(name, x, y, x + width, y + height, what)


def box_shape(
    label: str,
    left: float,
    top: float,
    right: float,
    bottom: float,
    what: str,
    z: int | None = None,
    turn: Turn = (0, 0, 0),
) -> Shape:
    """Make a shape of a box whose object has an unknown outline; its pixels are void.

    Args:
        label: The class.
        left: Left side in pixels, before the box is turned.
        top: Upper side in pixels.
        right: Right side in pixels.
        bottom: Lower side in pixels.
        what: See :class:`~.records.Shape`.
        z: See :class:`~.records.Shape`.
        turn: Rotation of the box.
    """
    degrees, *centre = turn
    corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float64)
    if degrees:
        cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
        corners = (corners - centre) @ [[cos, sin], [-sin, cos]] + centre
    return Shape(
        label,
        [corners.ravel().tolist()],
        what,
        z=z,
        left_out='it is a box without a mask, which is void: draw its outline',
    )
