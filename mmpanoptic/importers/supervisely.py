"""Supervisely's projects: meta.json, and folders with img/ and ann/.

Format: https://docs.supervisely.com/data-organization/00_ann_format_navi. What comes later in a file lies on top.
"""

import base64
import io
import zlib
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mmpanoptic.formats.images import decoding, image_size
from mmpanoptic.utils import DatasetError

from .coco_instances import box_shape
from .maps import refuse_without_images
from .rasterise import flat, placed, with_holes
from .records import LabelledImage, Labels, LeftOut, Shape
from .sources import ImageFinder, each, files_below, load_json, reading, require_folder_of, split_of

_SAYS = 'name the folder of the project, with meta.json and a folder with img/ and ann/ for each dataset'
_MOST = 2**28  # bytes of a mask that is unpacked


def read(source: Path, images: Path | None = None) -> Labels:
    """Read a project; a dataset of the name of a split is that split.

    Args:
        source: The folder.
        images: The folder of the images; by default img/ of each dataset.

    Raises:
        DatasetError: If there is no meta.json, or no dataset.
    """
    require_folder_of(source, _SAYS)
    meta = load_json(source / 'meta.json', dict, _SAYS)
    with reading(str(source / 'meta.json')):
        classes = [{'name': str(one['title'])} for one in meta['classes'] if one['shape'] != 'graph']
    known = {one['name'] for one in classes}
    made, left_out = [], []
    folders = sorted({path.parent for path in files_below(source, 'ann/*.json')})
    for folder in folders:
        dataset = folder.parent.relative_to(source)
        finder = ImageFinder(images, [folder.parent / 'img'])
        prefix = dataset.as_posix() if len(folders) > 1 else ''

        split = split_of(*dataset.parts)
        make = partial(_image, finder=finder, prefix=prefix, split=split, known=known)

        found, missing = each(sorted(folder.glob('*.json')), make, '', str)
        made += found
        left_out += missing
    refuse_without_images(made, source, left_out[0].reason if left_out else _SAYS)
    return Labels(made, classes, left_out)


def _image(file: Path, finder: ImageFinder, prefix: str, split: str | None, known: set[str]) -> LabelledImage:
    content = load_json(file, dict, _SAYS)
    path, name = finder.find(file.name.removesuffix('.json'), str(file), split)
    size = (content['size']['height'], content['size']['width'])
    if not all(type(side) is int for side in size):
        raise DatasetError(f'{file} has a size that is no number of pixels: export it again')
    shapes, left_out = [], []
    for index, one in enumerate(content['objects']):
        what = f'object {one.get("id", index)!r}'
        if one['classTitle'] not in known:
            raise DatasetError(f'{file}: {what} has class {one["classTitle"]!r}, which meta.json lacks: add it')
        shape = _shape(one, what, size, file)
        (left_out if isinstance(shape, LeftOut) else shapes).append(shape)
    name = f'{prefix}/{name}' if prefix else name
    return LabelledImage(path, name, str(file), shapes, size=size, split=split, left_out=left_out)


def _shape(one: dict[str, Any], what: str, size: tuple[int, int], file: Path) -> Shape | LeftOut:
    kind, label, where = one['geometryType'], one['classTitle'], f'{file}: {what}'
    group = one.get('instance')
    group = None if group is None else str(group)
    if kind == 'polygon':
        points = one['points']
        holes = [flat(hole, where) for hole in points.get('interior', [])]
        return Shape(label, [with_holes(flat(points['exterior'], where), holes)], what, group=group)
    if kind in ('bitmap', 'alpha_mask'):
        left, top = one['bitmap']['origin']
        part = _mask(one['bitmap']['data'], where)
        return Shape(label, placed(part, int(left), int(top), size, where), what, group=group)
    if kind == 'rectangle':
        (left, top), (right, bottom) = one['points']['exterior']
        return box_shape(label, left, top, right, bottom, what)
    return LeftOut(str(file), what, f'a {kind} has no area: draw a polygon or a mask')


def _mask(text: object, where: str) -> np.ndarray:
    """A mask that is a PNG, packed by zlib or not, in base64."""
    try:
        data = base64.b64decode(text, validate=True)
        if not data.startswith(b'\x89PNG'):
            unpacker = zlib.decompressobj()
            data = unpacker.decompress(data, _MOST)
            if not unpacker.eof:
                raise ValueError
    except (TypeError, ValueError, zlib.error):
        raise DatasetError(f'{where} has a mask that is no PNG in base64: export it again') from None
    image_size(data, f'{where}: its mask')
    with decoding(where), Image.open(io.BytesIO(data)) as image:
        opaque = image.getchannel('A') if 'A' in image.getbands() else image.convert('L')
        if image.mode == 'P':  # grey in a palette of two
            opaque = image.convert('RGBA').getchannel('A') if 'transparency' in image.info else image
        return np.array(opaque) > 0
