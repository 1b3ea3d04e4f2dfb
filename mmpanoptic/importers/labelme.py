"""LabelMe's JSON, one file per image.

Format: https://github.com/wkentaro/labelme (labelme/_label_file.py). Parts of an instance have the same ``group_id``.
"""

import base64
import binascii
import io
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mmpanoptic.formats.images import check_size, decoding, image_size
from mmpanoptic.formats.json_checks import Types, check_types
from mmpanoptic.utils import DatasetError

from .classes import names_of
from .rasterise import flat, placed
from .records import LabelledImage, Labels, LeftOut, Shape, parted
from .sources import ImageFinder, each, files_below, load_json, require_folder_of, split_of

_SAYS = 'LabelMe writes an object with `shapes`, `imagePath`, `imageHeight` and `imageWidth`'
_VOID, _NONE = '__ignore__', '_background_'  # as in LabelMe's own converters
_CIRCLE = np.linspace(0, 2 * np.pi, 128, endpoint=False)


def read(source: Path, images: Path | None = None) -> Labels:
    """Read all JSON files of a folder.

    Args:
        source: The folder; files in a folder 'train' or 'val' belong to that split.
        images: The folder of the images; by default images lie beside the files.

    Raises:
        DatasetError: If ``source`` is no folder, or holds no such file.
    """
    require_folder_of(source, 'name the folder of the JSON files')
    files = files_below(source, '*.json')
    if not files:
        raise DatasetError(f'{source} holds no JSON file: {_SAYS}')
    finder = ImageFinder(images, [source])
    made, left_out = each(files, lambda file: _read_file(file, source, finder, images is None), '', str)
    return Labels(made, names_of(made), left_out)


def _read_file(file: Path, source: Path, finder: ImageFinder, beside: bool) -> LabelledImage:
    content = load_json(file, dict, _SAYS)
    types: Types = {'shapes': list, 'imagePath': str, 'imageHeight': int, 'imageWidth': int}
    check_types(content, types, str(file))
    size = (content['imageHeight'], content['imageWidth'])
    folder = file.parent.relative_to(source)
    name = content['imagePath'].replace('\\', '/')
    if beside and (file.parent / Path(name).name).is_file():  # a path is relative to the file
        name = (folder / Path(name).name).as_posix()
    split = split_of(*folder.parts)
    path, name = finder.find(name, str(file), split)
    shapes, left_out = parted(
        _shape(entry, f'shape {index}', size, str(file)) for index, entry in enumerate(content['shapes'])
    )
    return LabelledImage(path, name, str(file), shapes, size=size, split=split, left_out=left_out)


def _shape(entry: dict[str, Any], what: str, size: tuple[int, int], file: str) -> Shape | LeftOut:
    where = f'{file}: {what}'
    check_types(entry, {'label': str, 'points': list}, where)
    kind = entry.get('shape_type') or 'polygon'
    label = None if entry['label'] in (_VOID, _NONE) else entry['label']
    group = entry.get('group_id')
    flags = entry.get('flags') or {}
    is_crowd = flags.get('iscrowd') is True
    shape = partial(Shape, label, what=what, is_crowd=is_crowd, group=None if group is None else str(group))
    points = [[float(value) for value in point] for point in entry['points']]
    if kind in ('polygon', 'oriented_rectangle'):
        return shape([flat(points, where)])
    if kind == 'mask':
        (left, top), (right, bottom) = points
        part = _mask(entry.get('mask'), (round(bottom) - round(top) + 1, round(right) - round(left) + 1), where)
        return shape(placed(part, round(left), round(top), size, where))
    if kind == 'circle':
        (x, y), rim = points
        radius = np.hypot(rim[0] - x, rim[1] - y)
        circle = np.stack([x + radius * np.cos(_CIRCLE), y + radius * np.sin(_CIRCLE)], axis=1)
        return shape([circle.ravel().tolist()])
    if kind == 'rectangle':
        (x1, y1), (x2, y2) = points
        reason = 'it is a rectangle, which is void: draw its outline as a polygon'
        return shape([[x1, y1, x2, y1, x2, y2, x1, y2]], left_out=reason)
    return LeftOut(file, what, f'a shape of kind {kind!r} has no area: draw a polygon or a mask')


def _mask(text: Any, size: tuple[int, int], where: str) -> np.ndarray:
    """Decode a mask from a PNG in base64."""
    try:
        data = base64.b64decode(text, validate=True)
    except (TypeError, ValueError, binascii.Error):
        raise DatasetError(f'{where} has a mask that is no PNG in base64: draw it again') from None
    check_size(image_size(data, where), size, f'{where}: its mask', 'the place between its points')
    with decoding(where), Image.open(io.BytesIO(data)) as image:
        return np.array(image.convert('L')) > 0
