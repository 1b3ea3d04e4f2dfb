"""Writers of the export formats: for each format, the data of one image and the files of all images.

Polygons run along the borders of pixels (:mod:`mmpanoptic.formats.contours`), so that an import gives exactly the same
masks.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree

import numpy as np
import yaml

from mmpanoptic.drawing.encode import encode_png
from mmpanoptic.formats.brush_rle import encode_brush
from mmpanoptic.formats.contours import mask_polygon
from mmpanoptic.formats.instances_writer import InstanceItem, fill_instances, instances_to_coco
from mmpanoptic.results.coco import Category, CheckedSegment, CocoImage
from mmpanoptic.utils import DatasetError

from .items import Item

Categories = Sequence[Category]


@dataclass(frozen=True)
class Options:
    """A user's choices.

    Attributes:
        polygons: Whether to write polygons if a format has both polygons and masks.
        final: Whether the labels are final and no predictions to correct, if a format distinguishes these.
        image_prefix: Text before the name of an image in Label Studio.
        split: Name of the split, if a format has splits.
    """

    polygons: bool = False
    final: bool = False
    image_prefix: str = '/data/local-files/?d=images/'
    split: str = 'train'


@dataclass(frozen=True)
class Target:
    """A format that can be exported to.

    Attributes:
        image: Makes the data of one image; picklable, as its result is.
        write: Writes the files of all images into a folder.
        says: Description of the files, for help.
        images: The folder of links to the images; {split} stands for the name of the split.
        crowds: Whether the format can mark crowds; if not, they are left out.
    """

    image: Callable[[Item, Categories, Options], Any]
    write: Callable[[Path, Iterable[Any], Categories, Options], None]
    says: str
    images: str = 'images'
    crowds: bool = True


def points_of(mask: np.ndarray) -> list[tuple[int, int]]:
    """Corners (x, y) of a mask's polygon, see :func:`~mmpanoptic.formats.contours.mask_polygon`."""
    values = mask_polygon(mask)
    return list(zip(values[0::2], values[1::2], strict=True))


def name_of(segment: CheckedSegment, categories: Categories) -> str:
    """Name of a segment's class."""
    return next(category['name'] for category in categories if category['id'] == segment['category_id'])


def with_suffix(name: str, suffix: str, taken: set[str]) -> str:
    """The name of an image's label file, which is added to ``taken``.

    Raises:
        DatasetError: If another image has the same name for its label file.
    """
    other = str(PurePosixPath(name).with_suffix(suffix))
    if other in taken:
        raise DatasetError(f'two images would have the label file {other}: rename {name}')
    taken.add(other)
    return other


def _put(path: Path, content: str | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def coco_image(item: Item, categories: Categories, options: Options) -> InstanceItem:
    """The things of an image as instances."""
    things = [segment for segment in item.segments if segment['is_thing']]
    category_of = {segment['id']: segment['category_id'] for segment in things}
    crowds = [segment['id'] for segment in things if segment['iscrowd']]
    entry = CocoImage(id=item.image_id, file_name=item.name, width=item.size[1], height=item.size[0])
    return InstanceItem(entry, instances_to_coco(item.ids, category_of, crowds))


def write_coco(folder: Path, results: Iterable[InstanceItem], categories: Categories, options: Options) -> None:
    """Write instances.json."""
    things = [{'id': category['id'], 'name': category['name']} for category in categories if category['isthing']]
    content = fill_instances(folder / 'instances.json', results, things)
    _put(folder / 'instances.json', json.dumps(content))


def semantic_image(item: Item, categories: Categories, options: Options) -> tuple[str, bytes]:
    """A PNG of category ids, 0 where void; 16 bits if an id needs them."""
    largest = max((category['id'] for category in categories if isinstance(category['id'], int)), default=0)
    if not all(type(category['id']) is int and 0 < category['id'] < 2**16 for category in categories):
        raise DatasetError(f'category ids up to {largest} are no values of a PNG: use whole numbers from 1 to 65535')
    values = np.zeros(item.size, np.uint8 if largest < 256 else np.uint16)
    for _, segment, mask in item.masks():
        values[mask] = segment['category_id']
    return item.name, encode_png(values)


def write_semantic(folder: Path, results: Iterable[tuple[str, bytes]], categories: Categories, _: Options) -> None:
    """Write ``semantic/*.png`` and ``categories.json``."""
    taken: set[str] = set()
    for name, png in results:
        _put(folder / 'semantic' / with_suffix(name, '.png', taken), png)
    kept = [
        {'id': category['id'], 'name': category['name'], 'isthing': int(category['isthing'])} for category in categories
    ]
    _put(folder / 'categories.json', json.dumps(kept, indent=1))


def labelme_image(item: Item, categories: Categories, options: Options) -> tuple[str, dict[str, Any]]:
    """Contents of the JSON beside an image."""
    shapes = [
        {
            'label': name_of(segment, categories),
            'points': [[x, y] for x, y in points_of(mask)],
            'group_id': None,
            'description': '',
            'shape_type': 'polygon',
            'flags': {'iscrowd': True} if segment['iscrowd'] else {},
            'mask': None,
        }
        for _, segment, mask in item.masks()
    ]
    content = {'version': '5.5.0', 'flags': {}, 'shapes': shapes, 'imagePath': PurePosixPath(item.name).name}
    return item.name, content | {'imageData': None, 'imageHeight': item.size[0], 'imageWidth': item.size[1]}


def write_labelme(folder: Path, results: Iterable[tuple[str, dict]], _: Categories, options: Options) -> None:
    """Write a JSON beside each image."""
    taken: set[str] = set()
    for name, content in results:
        _put(folder / with_suffix(name, '.json', taken), json.dumps(content))


def yolo_image(item: Item, categories: Categories, options: Options) -> tuple[str, str]:
    """A line per segment: number of the class, and a polygon in shares of width and height."""
    number_of = {category['id']: number for number, category in enumerate(categories)}
    height, width = item.size
    lines = [
        ' '.join(
            [str(number_of[segment['category_id']]), *(f'{x / width!r} {y / height!r}' for x, y in points_of(mask))]
        )
        for _, segment, mask in item.masks()
        if not segment['iscrowd']
    ]
    return item.name, ''.join(f'{line}\n' for line in lines)


def write_yolo(folder: Path, results: Iterable[tuple[str, str]], categories: Categories, options: Options) -> None:
    """Write ``labels/SPLIT/*.txt`` and ``data.yaml``."""
    taken: set[str] = set()
    for name, text in results:
        _put(folder / 'labels' / options.split / with_suffix(name, '.txt', taken), text)
    names = {number: category['name'] for number, category in enumerate(categories)}
    content = {options.split: f'images/{options.split}', 'names': names}
    _put(folder / 'data.yaml', yaml.safe_dump(content, sort_keys=False, allow_unicode=True))


def cvat_image(item: Item, categories: Categories, options: Options) -> tuple[str, str]:
    """The element <image> of an image, without its id."""
    height, width = item.size
    image = ElementTree.Element('image', {'name': item.name, 'width': str(width), 'height': str(height)})
    for _, segment, mask in item.masks():
        shape = {'label': name_of(segment, categories), 'source': 'file', 'occluded': '0', 'z_order': '0'}
        if options.polygons:
            points = ';'.join(f'{x},{y}' for x, y in points_of(mask))
            drawn = ElementTree.SubElement(image, 'polygon', shape | {'points': points})
        else:
            drawn = ElementTree.SubElement(image, 'mask', shape | _cvat_mask(mask))
        if segment['iscrowd']:
            ElementTree.SubElement(drawn, 'attribute', {'name': 'iscrowd'}).text = 'true'
    return item.name, ElementTree.tostring(image, encoding='unicode')


def _cvat_mask(mask: np.ndarray) -> dict[str, str]:
    """Alternating counts of pixels outside and inside, along the rows of a mask's box."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    part = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    flat = np.concatenate([[False], part.ravel()])
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    counts = np.diff(changes, prepend=0, append=part.size)
    box = {'left': columns[0], 'top': rows[0], 'width': part.shape[1], 'height': part.shape[0]}
    return {'rle': ', '.join(map(str, counts.tolist()))} | {key: str(value) for key, value in box.items()}


def write_cvat(folder: Path, results: Iterable[tuple[str, str]], categories: Categories, options: Options) -> None:
    """Write annotations.xml."""
    root = ElementTree.Element('annotations')
    ElementTree.SubElement(root, 'version').text = '1.1'
    task = ElementTree.SubElement(ElementTree.SubElement(root, 'meta'), 'task')
    labels = ElementTree.SubElement(task, 'labels')
    for category in categories:
        label = ElementTree.SubElement(labels, 'label')
        ElementTree.SubElement(label, 'name').text = category['name']
        attribute = ElementTree.SubElement(ElementTree.SubElement(label, 'attributes'), 'attribute')
        values = {'name': 'iscrowd', 'mutable': 'False', 'input_type': 'checkbox', 'default_value': 'false'}
        for key, value in (values | {'values': 'false'}).items():
            ElementTree.SubElement(attribute, key).text = value
    for number, (_, text) in enumerate(results):
        image = ElementTree.fromstring(text)
        image.attrib = {'id': str(number), **image.attrib}
        root.append(image)
    _put(folder / 'annotations.xml', ElementTree.tostring(root, encoding='utf-8', xml_declaration=True))


def label_studio_image(item: Item, categories: Categories, options: Options) -> dict[str, Any]:
    """The task of an image."""
    height, width = item.size
    results = []
    for number, segment, mask in item.masks():
        kind = 'polygonlabels' if options.polygons else 'brushlabels'
        value: dict[str, Any] = {kind: [name_of(segment, categories)]}
        if options.polygons:
            value |= {'points': [[x * 100 / width, y * 100 / height] for x, y in points_of(mask)], 'closed': True}
        else:
            value |= {'format': 'rle', 'rle': encode_brush(mask)}
        result: dict[str, Any] = {
            'id': f's{number}',
            'type': kind,
            'from_name': 'label',
            'to_name': 'image',
            'value': value,
        }
        result |= {'original_width': width, 'original_height': height, 'image_rotation': 0}
        results.append(result | ({'meta': {'text': ['iscrowd']}} if segment['iscrowd'] else {}))
    data = {'image': options.image_prefix + quote(item.name)}
    return {'data': data, ('annotations' if options.final else 'predictions'): [{'result': results}]}


def write_label_studio(folder: Path, results: Iterable[dict], categories: Categories, options: Options) -> None:
    """Write tasks.json and the labelling interface, label_config.xml."""
    _put(folder / 'tasks.json', json.dumps(list(results)))
    view = ElementTree.Element('View')
    ElementTree.SubElement(view, 'Image', {'name': 'image', 'value': '$image'})
    kind = 'PolygonLabels' if options.polygons else 'BrushLabels'
    labels = ElementTree.SubElement(view, kind, {'name': 'label', 'toName': 'image'})
    for category in categories:
        ElementTree.SubElement(labels, 'Label', {'value': category['name']})
    _put(folder / 'label_config.xml', ElementTree.tostring(view, encoding='utf-8'))
