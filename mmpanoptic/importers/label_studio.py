"""Label Studio's JSON export of tasks.

Format: https://labelstud.io/guide/export.html, and for areas https://labelstud.io/tags/brushlabels and
https://labelstud.io/tags/polygonlabels. Coordinates are percentages of the image's width and height.
"""

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from mmpanoptic.formats.brush_rle import decode_brush
from mmpanoptic.formats.images import check_pixels
from mmpanoptic.utils import DatasetError

from .classes import names_of
from .coco_instances import Turn, box_shape
from .rasterise import encode, flat
from .records import LabelledImage, Labels, LeftOut, Shape, parted
from .sources import SUFFIXES, ImageFinder, each, load_json

_SAYS = "export as 'JSON', which is a list of tasks with `data` and `annotations`"
_KINDS = {'brushlabels': 'brush', 'polygonlabels': 'polygon', 'rectanglelabels': 'rectangle'}
_KINDS |= {'ellipselabels': 'ellipse', 'labels': 'labels'}


def read(source: Path, images: Path | None = None) -> Labels:
    """Read an export.

    Args:
        source: The JSON.
        images: The folder of the images; by default the JSON's folder and ``images`` in it. Label Studio puts 8
            characters and a dash in front of the names of uploaded files: images are looked for by both names.

    Raises:
        DatasetError: If it cannot be read, or is no list of tasks.
    """
    tasks = load_json(source, list, _SAYS)
    finder = ImageFinder(images, [source.parent / 'images', source.parent])
    made, left_out = each(tasks, lambda task: _task(task, source, finder), str(source), _name)
    return Labels(made, names_of(made), left_out)


def _name(task: Any) -> str:
    return f'task {task.get("id") if isinstance(task, dict) else None!r}'


def _task(task: dict[str, Any], source: Path, finder: ImageFinder) -> LabelledImage:
    where = f'{source}: {_name(task)}'
    path, name = _find(_image_of(task['data'], where), finder, where)
    done = [annotation for annotation in task['annotations'] if not annotation.get('was_cancelled')]
    if not done:
        raise DatasetError(f'{where} has no annotation that was submitted: label it, or remove the task')
    latest = max(done, key=lambda annotation: str(annotation.get('updated_at', '')))
    left_out = [
        LeftOut(
            str(source), f'annotation {annotation.get("id")!r} of {_name(task)}', 'a later one of the task was taken'
        )
        for annotation in done
        if annotation is not latest
    ]
    results = [result for result in latest['result'] if _KINDS.get(result.get('type'), result.get('type')) is not None]
    sizes = {(result['original_height'], result['original_width']) for result in results if 'original_width' in result}
    if len(sizes) > 1 or any(type(side) is not int for size in sizes for side in size):
        raise DatasetError(f'{where} has results of several sizes ({sorted(sizes)[:3]}): export it again')
    size = next(iter(sizes), None)
    if size:
        check_pixels(*size, where)
    labels = _labels_by_region(results)
    found = [_shape(result, labels, size, where, str(source)) for result in results]
    shapes, missing = parted(shape for shape in found if shape is not None)
    return LabelledImage(path, name, str(source), shapes, size=size, left_out=left_out + missing)


def _image_of(data: dict[str, Any], where: str) -> str:
    """Find the image among the values of a task."""
    values = [data['image']] if 'image' in data else list(data.values())
    for value in values:
        if isinstance(value, str) and PurePosixPath(_path_of(value)).suffix.lower() in SUFFIXES:
            return _path_of(value)
    raise DatasetError(f'{where} has no image in its `data`: {str(data)[:100]}')


def _path_of(address: str) -> str:
    """The path in an address. Addresses of local files have it as an argument: '/data/local-files/?d=a/b.jpg'."""
    parts = urlsplit(address)
    local = parse_qs(parts.query).get('d')
    return local[0] if local else unquote(parts.path)


def _find(path: str, finder: ImageFinder, where: str) -> tuple[Path, str]:
    last = PurePosixPath(path).name
    original = re.sub(r'^[0-9a-f]{8}-(?=.)', '', last)
    for candidate in (path, last):
        try:
            return finder.find(candidate, where)
        except DatasetError:
            continue
    return finder.find(original, where)


def _labels_by_region(results: Sequence[dict[str, Any]]) -> dict[Any, list[str]]:
    """Labels of regions by id. With <Labels>, a separate result with the region's id holds the labels."""
    found: dict[Any, list[str]] = {}
    for result in results:
        for kind in _KINDS:
            if labels := (result.get('value') or {}).get(kind):
                found[result.get('id')] = labels
    return found


def _shape(
    result: dict[str, Any], labels_of: dict[Any, list[str]], size: tuple[int, int] | None, where: str, file: str
) -> Shape | LeftOut | None:
    """Convert a result to a shape; None if the result only holds the labels of another."""
    kind, value = _KINDS.get(result['type'], result['type']), result.get('value') or {}
    what = f'region {result.get("id", result.get("from_id"))!r}'
    if kind == 'labels':
        return None
    labels = labels_of.get(result.get('id'), [])
    if kind not in ('brush', 'polygon', 'rectangle', 'ellipse'):
        return LeftOut(file, f'{what} in {where}', f'a {kind!r} has no area: draw a polygon or use the brush')
    if len(labels) != 1 or not isinstance(labels[0], str):
        raise DatasetError(f'{where}: {what} has {len(labels)} labels: give it one')
    if result.get('image_rotation'):
        raise DatasetError(
            f'{where}: {what} was drawn on an image turned by {result["image_rotation"]!r}: draw it again'
        )
    if size is None:
        raise DatasetError(f'{where}: {what} lacks original_width and original_height: export it again')
    height, width = size
    texts = (result.get('meta') or {}).get('text') or []
    crowd = 'iscrowd' in texts
    if kind == 'brush':
        return Shape(labels[0], encode(decode_brush(value.get('rle'), height, width, f'{where}: {what}')), what, crowd)
    if kind == 'polygon':
        points = [(x * width / 100, y * height / 100) for x, y in value['points']]
        return Shape(labels[0], [flat(points, f'{where}: {what}')], what, crowd)
    (left, top, right, bottom), turn = _box(kind, value, width, height)
    return box_shape(labels[0], left, top, right, bottom, what, turn=turn)


def _box(kind: str, value: dict[str, Any], width: int, height: int) -> tuple[list[float], Turn]:
    """The sides of a rectangle's or an ellipse's box, and its rotation about its x, y, in pixels."""
    x, y = value['x'], value['y']
    if kind == 'ellipse':
        box = (x - value['radiusX'], y - value['radiusY'], x + value['radiusX'], y + value['radiusY'])
    else:
        box = (x, y, x + value['width'], y + value['height'])
    scaled = [share * side / 100 for share, side in zip(box, (width, height) * 2, strict=True)]
    return scaled, (float(value.get('rotation') or 0), x * width / 100, y * height / 100)
