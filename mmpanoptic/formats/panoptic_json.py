"""Reading of COCO panoptic JSON files, with all checks that need no pixels.

Format: https://cocodataset.org/#format-data (4. Panoptic Segmentation).
"""

import colorsys
import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

from mmpanoptic.results.coco import Category, CheckedSegment, CocoImage, Id, PanopticAnnotation
from mmpanoptic.structures import MAX_ID
from mmpanoptic.utils import DatasetError, read_bytes

from .images import check_pixels
from .json_checks import Types, check_bbox, check_types, entries, refuse_repeats

MAX_CATEGORIES = 254  # labels are stored in 8 bits beside 255 for void
_SEGMENT: Types = dict(id=int, category_id=(int, str), area=(int, float), bbox=list)


def read_json(path: str, backend_args: dict | None = None, remedy: str = 'set `ann_file` and `data_root`') -> dict:
    """Load an annotation file.

    Args:
        path: A path or an address.
        backend_args: Storage backend, see :mod:`mmengine.fileio`.
        remedy: How to mend a path that does not exist or cannot be read, for the error.

    Raises:
        DatasetError: If it does not exist or cannot be read, is no JSON, or is no object at the top.
    """
    return parse_json(read_bytes(path, backend_args, remedy), path)


def parse_json(content: bytes, path: str, top: type = dict) -> Any:
    """Parse a JSON file whose top-level value has the type ``top``: ``dict`` for annotations, ``list`` for results.

    Raises:
        DatasetError: If it is no JSON, or its top-level value has another type.
    """
    try:
        data = json.loads(content)
    except RecursionError:
        raise DatasetError(f'{path} is nested too deeply for JSON of annotations: fetch or write it again') from None
    except ValueError as error:  # no UTF-8, no JSON, or an integer of thousands of digits
        raise DatasetError(f'{path} is not valid JSON ({error}): fetch or write it again') from None
    if not isinstance(data, top):
        wanted = 'a COCO annotation file is an object' if top is dict else 'results are a list of objects'
        raise DatasetError(f'{path} holds a {type(data).__name__}: {wanted}')
    return data


def parse_categories(categories: object, path: str, limit: int | None = MAX_CATEGORIES) -> list[Category]:
    """Check the ``categories`` of a panoptic JSON and give them contiguous labels, thing classes first.

    Args:
        categories: The list in the file.
        path: The file's name for errors.
        limit: Largest number of categories; None: any number, for instances without a semantic map.

    Returns:
        The categories in the file's order.

    Raises:
        DatasetError: If the list is missing or empty, if ``id``, ``name`` or ``isthing`` is missing or of a wrong type,
            if an id or a name occurs twice, or if there are more than ``limit``.
    """
    listed = entries(categories, path, 'categories', 'add `categories` with id, name and isthing')
    for category in listed:
        shown = category.get('name', category.get('id'))
        if 'isthing' not in category:
            if not any('isthing' in other for other in listed):
                raise DatasetError(
                    f'{path} is no panoptic JSON, as category {shown!r} lacks `isthing` and so do all: train an '
                    'instances JSON by a config of instances (starter/panet_r18_fpn.py), give it to `inst_ann_file` '
                    'beside a panoptic one, or make panoptic files of it by mmpanoptic import coco-instances'
                )
            raise DatasetError(
                f'{path}: category {shown!r} lacks `isthing`: add it to every category (1 thing, 0 stuff)'
            )
        check_types(category, dict(id=(int, str), name=str), f'{path}: category {shown!r}')
        if 'color' in category and not _is_colour(category['color']):
            raise DatasetError(
                f'{path}: category {shown!r} has color {category["color"]!r}: write [red, green, blue], each 0 to 255'
            )
        if category['isthing'] not in (0, 1):
            raise DatasetError(f'{path}: category {category["name"]!r} has isthing {category["isthing"]!r}: use 0 or 1')
    for key in ('id', 'name'):
        refuse_repeats((category[key] for category in listed), f'{path}: category {key}')
    if limit is not None and len(listed) > limit:
        raise DatasetError(
            f'{path} has {len(listed)} categories: at most {limit} are supported, as labels of a semantic map are '
            'stored in 8 bits beside 255 for void: merge or leave out some, or train on instances alone (PANet)'
        )
    things_first = sorted(listed, key=lambda category: not category['isthing'])  # stable: keeps the file's order
    label_of = {category['id']: label for label, category in enumerate(things_first)}
    return [_parsed(category, label_of[category['id']]) for category in listed]


def _parsed(category: dict, label: int) -> Category:
    parsed = Category(id=category['id'], name=category['name'], isthing=bool(category['isthing']), label=label)
    if 'color' in category:
        parsed['color'] = category['color']
    return parsed


def _is_colour(value: object) -> bool:
    return isinstance(value, (list, tuple)) and len(value) == 3 and all(v in range(256) for v in value)


def dataset_meta(categories: Sequence[Category]) -> dict[str, Any]:
    """The ``metainfo`` of a dataset from its parsed categories.

    Returns:
        dict: ``classes``, ``thing_classes`` and ``stuff_classes`` (tuples of names in label order), ``palette`` (RGB by
        label) and ``categories`` (in the file's order, in which the official tool sums).
    """
    by_label = sorted(categories, key=lambda category: category['label'])
    return dict(
        classes=tuple(category['name'] for category in by_label),
        thing_classes=tuple(category['name'] for category in by_label if category['isthing']),
        stuff_classes=tuple(category['name'] for category in by_label if not category['isthing']),
        palette=[_colour(category) for category in by_label],
        categories=[dict(category) for category in categories],
    )


@functools.cache
def _coco_colours() -> dict[str, tuple[int, int, int]]:
    import mmpanoptic.registry  # noqa: F401  (before mmdet, whose notices it drops)

    # isort: split
    from mmdet.datasets import CocoPanopticDataset  # takes seconds, and scoring of files needs no colours

    return dict(zip(CocoPanopticDataset.METAINFO['classes'], CocoPanopticDataset.METAINFO['palette'], strict=True))


def _colour(category: Category) -> tuple[int, int, int]:
    """The colour in the file, else COCO's colour for this name, else one unlike those of neighbouring labels."""
    if 'color' in category:
        red, green, blue = category['color']
        return red, green, blue
    if category['name'] in _coco_colours():
        return _coco_colours()[category['name']]
    hue = category['label'] * 0.618034 % 1.0  # the golden ratio spreads successive hues
    lightness = (0.45, 0.6, 0.35)[category['label'] % 3]
    r, g, b = colorsys.hls_to_rgb(hue, lightness, 0.75)
    return round(255 * r), round(255 * g), round(255 * b)


def check_metainfo(given: dict, meta: dict, path: str) -> None:
    """Compare a config's ``metainfo`` with the file's.

    Args:
        given: The config's; only ``classes``, ``thing_classes``, ``stuff_classes`` and ``palette`` are compared.
        meta: The file's, see :func:`dataset_meta`.
        path: The file's name for errors.

    Raises:
        DatasetError: If a list of names differs, naming the first difference, or a palette is not one RGB a class.
    """
    for key in ('classes', 'thing_classes', 'stuff_classes'):
        if key not in given:
            continue
        names = (given[key],) if isinstance(given[key], str) else tuple(given[key])
        if names != meta[key]:
            raise DatasetError(
                f'{path}: its {len(meta[key])} {key} are not the {len(names)} of `metainfo.{key}`; '
                f'{_difference(names, meta[key])}. Drop the list from the config (the file has it), or name the file '
                'it was made for'
            )
    palette = given.get('palette')
    if palette is not None and not (len(palette) == len(meta['classes']) and all(map(_is_colour, palette))):
        raise DatasetError(
            f'{path}: `metainfo.palette` must be {len(meta["classes"])} times (red, green, blue), in the order of the '
            'classes: mend it or drop it from the config'
        )


def _difference(given: Sequence[str], found: Sequence[str]) -> str:
    missing = [name for name in given if name not in found]
    extra = [name for name in found if name not in given]
    if missing or extra:
        return f'only in the config: {missing[:5]}; only in the file: {extra[:5]}'
    pairs = enumerate(zip(given, found, strict=False))
    place = next((i for i, (a, b) in pairs if a != b), min(len(given), len(found)))
    if place < len(found):
        return f'they differ from position {place} on ({given[place]!r} against {found[place]!r})'
    return f'the config repeats {given[place]!r}'


def annotations_by_image(data: dict, path: str) -> list[tuple[CocoImage, PanopticAnnotation | None]]:
    """Pair images with their annotations, in the order of ``annotations``.

    The official tool sums PQ in this order. If the file has no annotations (test sets), every image is paired with
    None, in the order of ``images``.

    Raises:
        DatasetError: If ``images`` is missing or empty, an image or annotation lacks a key or occurs twice, an
            annotation names an unknown image, or an image has no annotation although others have.
    """
    remedy = 'give `ann_file` the panoptic JSON'
    listed = entries(data.get('images'), path, 'images', remedy)
    for entry in listed:
        where = f'{path}: image {entry.get("id", entry)!r}'
        check_types(entry, dict(id=(int, str), file_name=str, height=int, width=int), where)
        check_pixels(entry['height'], entry['width'], where)
    images = cast(list[CocoImage], listed)
    refuse_repeats((image['id'] for image in images), f'{path}: image id')
    if not data.get('annotations'):
        return [(image, None) for image in images]
    annotations = _checked_annotations(entries(data['annotations'], path, 'annotations', remedy), path)
    unpaired = {image['id']: image for image in images}
    pairs: list[tuple[CocoImage, PanopticAnnotation | None]] = []
    for annotation in annotations:
        image = unpaired.pop(annotation['image_id'], None)
        if image is None:
            raise DatasetError(
                f'{path}: {annotation["file_name"]} annotates image {annotation["image_id"]!r}, which `images` lacks: '
                'add the image or drop the annotation'
            )
        pairs.append((image, annotation))
    if unpaired:
        first = next(iter(unpaired.values()))
        raise DatasetError(
            f'{path}: {len(unpaired)} images have no annotation, the first is {first["file_name"]} (id '
            f'{first["id"]!r}): remove them from `images` or annotate them'
        )
    return pairs


def _checked_annotations(annotations: list[dict], path: str) -> list[PanopticAnnotation]:
    for annotation in annotations:
        where = f'{path}: annotation of image {annotation.get("image_id")!r}'
        if 'segments_info' not in annotation:
            raise DatasetError(
                f'{where} lacks `segments_info`: give `ann_file` the panoptic JSON, `inst_ann_file` the instances JSON'
            )
        check_types(annotation, dict(image_id=(int, str), file_name=str, segments_info=list), where)
    refuse_repeats((annotation['image_id'] for annotation in annotations), f'{path}: annotation of image')
    return cast(list[PanopticAnnotation], annotations)


def parse_segments(
    annotation: PanopticAnnotation, category_of: Mapping[Id, Category], path: str
) -> list[CheckedSegment]:
    """Check one image's ``segments_info`` and add the contiguous labels.

    Args:
        annotation: One entry of ``annotations``.
        category_of: Parsed categories by id.
        path: The file's name for errors.

    Returns:
        The segments in the file's order.

    Raises:
        DatasetError: If a key is missing or of a wrong type, a number is not finite, an area or a box is empty, an id
            is 0, too large or repeated, or a category is unknown.
    """
    where = f'{path}: {annotation["file_name"]}'
    segments: list[CheckedSegment] = []
    for segment in annotation['segments_info']:
        if not isinstance(segment, dict):
            raise DatasetError(f'{where}: segments_info holds {segment!r}: write objects with {", ".join(_SEGMENT)}')
        shown = f'{where}: segment {segment.get("id")!r}'
        check_types(segment, _SEGMENT, shown)
        check_bbox(segment['bbox'], shown)
        if segment['area'] <= 0 or min(segment['bbox'][2:]) <= 0:
            raise DatasetError(
                f'{shown} has area {segment["area"]!r} and bbox {segment["bbox"]!r}: write its number of pixels, and '
                '[x, y, width, height] in pixels; leave out segments without pixels'
            )
        if not 0 < segment['id'] <= MAX_ID:
            raise DatasetError(
                f'{where}: segment id {segment["id"]!r} is outside 1..{MAX_ID}: number segments as their colours do '
                '(R + 256 G + 65536 B, 0 is void)'
            )
        category = category_of.get(segment['category_id'])
        if category is None:
            raise DatasetError(
                f'{shown} has category_id {segment["category_id"]!r}, which `categories` lacks: add it, or mend the id'
            )
        if segment.get('iscrowd', 0) not in (0, 1):
            raise DatasetError(f'{shown} has iscrowd {segment["iscrowd"]!r}: write 0 or 1')
        segments.append(
            CheckedSegment(
                id=segment['id'],
                label=category['label'],
                category_id=segment['category_id'],
                is_thing=category['isthing'],
                iscrowd=int(segment.get('iscrowd', 0)),
                area=segment['area'],
                bbox=segment['bbox'],
            )
        )
    refuse_repeats((segment['id'] for segment in segments), f'{where}: segment id')
    return segments
