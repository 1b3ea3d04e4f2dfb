"""LabelMe's JSON, one file an image.

Format: https://github.com/wkentaro/labelme (labelme/_label_file.py). Parts of an instance have one ``group_id``.
"""

import base64
import binascii
import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mmpanoptic.formats.images import check_size, decoding, image_size
from mmpanoptic.formats.json_checks import check_types
from mmpanoptic.utils import DatasetError

from .classes import names_of
from .rasterise import flat, placed
from .records import LabelledImage, Labels, LeftOut, Shape
from .sources import ImageFinder, each, files_below, load_json, require_folder_of, split_of

_SAYS = 'LabelMe writes an object with `shapes`, `imagePath`, `imageHeight` and `imageWidth`'
_VOID, _NONE = '__ignore__', '_background_'  # as in LabelMe's own converters
_CIRCLE = np.linspace(0, 2 * np.pi, 128, endpoint=False)


def read(source: Path, images: Path | None = None) -> Labels:
    """Read all JSON files of a folder.

    Args:
        source: The folder; files in a folder 'train' or 'val' are of that split.
        images: The folder of the images; by default they lie beside the files.

    Raises:
        DatasetError: If it is no folder, or holds no such file.
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
    types = {'shapes': list, 'imagePath': str, 'imageHeight': int, 'imageWidth': int}
    check_types(content, types, str(file))
    size = (content['imageHeight'], content['imageWidth'])
    folder = file.parent.relative_to(source)
    name = content['imagePath'].replace('\\', '/')
    if beside and (file.parent / Path(name).name).is_file():  # a path is relative to the file
        name = (folder / Path(name).name).as_posix()
    split = split_of(*folder.parts)
    path, name = finder.find(name, str(file), split)
    shapes, left_out = [], []
    for index, one in enumerate(content['shapes']):
        shape = _shape(one, f'shape {index}', size, str(file))
        (left_out if isinstance(shape, LeftOut) else shapes).append(shape)
    return LabelledImage(path, name, str(file), shapes, size=size, split=split, left_out=left_out)


def _shape(one: dict[str, Any], what: str, size: tuple[int, int], file: str) -> Shape | LeftOut:
    where = f'{file}: {what}'
    check_types(one, {'label': str, 'points': list}, where)
    kind = one.get('shape_type') or 'polygon'
    label = None if one['label'] in (_VOID, _NONE) else one['label']
    group = one.get('group_id')
    flags = one.get('flags') or {}
    more = {'is_crowd': flags.get('iscrowd') is True, 'group': None if group is None else str(group)}
    points = [[float(value) for value in point] for point in one['points']]
    if kind in ('polygon', 'oriented_rectangle'):
        return Shape(label, [flat(points, where)], what, **more)
    if kind == 'mask':
        (left, top), (right, bottom) = points
        part = _mask(one.get('mask'), (round(bottom) - round(top) + 1, round(right) - round(left) + 1), where)
        return Shape(label, placed(part, round(left), round(top), size, where), what, **more)
    if kind == 'circle':
        (x, y), rim = points
        radius = np.hypot(rim[0] - x, rim[1] - y)
        circle = np.stack([x + radius * np.cos(_CIRCLE), y + radius * np.sin(_CIRCLE)], axis=1)
        return Shape(label, [circle.ravel().tolist()], what, **more)
    if kind == 'rectangle':
        (x1, y1), (x2, y2) = points
        reason = 'it is a rectangle, which is void: draw its outline as a polygon'
        return Shape(label, [[x1, y1, x2, y1, x2, y2, x1, y2]], what, left_out=reason, **more)
    return LeftOut(file, what, f'a shape of kind {kind!r} has no area: draw a polygon or a mask')


def _mask(text: object, size: tuple[int, int], where: str) -> np.ndarray:
    """A mask that is a PNG in base64."""
    try:
        data = base64.b64decode(text, validate=True)
    except (TypeError, ValueError, binascii.Error):
        raise DatasetError(f'{where} has a mask that is no PNG in base64: draw it again') from None
    check_size(image_size(data, where), size, f'{where}: its mask', 'the place between its points')
    with decoding(where), Image.open(io.BytesIO(data)) as image:
        return np.array(image.convert('L')) > 0
