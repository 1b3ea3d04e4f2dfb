"""Supervisely's projects: meta.json, and folders with img/ and ann/.

Format: https://docs.supervisely.com/data-organization/00_ann_format_navi. Objects later in a file lie on top.
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
from .records import LabelledImage, Labels, LeftOut, Shape, parted
from .sources import ImageFinder, each, files_below, load_json, reading, require_folder_of, split_of

_SAYS = 'name the folder of the project, with meta.json and a folder with img/ and ann/ for each dataset'
_MOST = 2**28  # bytes of an unpacked mask


def read(source: Path, images: Path | None = None) -> Labels:
    """Read a project; a dataset with the name of a split is that split.

    Args:
        source: The folder.
        images: The folder of the images; by default img/ of each dataset.

    Raises:
        DatasetError: If there is no meta.json, or no dataset.
    """
    require_folder_of(source, _SAYS)
    meta = load_json(source / 'meta.json', dict, _SAYS)
    with reading(str(source / 'meta.json')):
        classes = [{'name': str(category['title'])} for category in meta['classes'] if category['shape'] != 'graph']
    known = {category['name'] for category in classes}
    made: list[LabelledImage] = []
    left_out: list[LeftOut] = []
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
    found = []
    for index, entry in enumerate(content['objects']):
        what = f'object {entry.get("id", index)!r}'
        if entry['classTitle'] not in known:
            raise DatasetError(f'{file}: {what} has class {entry["classTitle"]!r}, which meta.json lacks: add it')
        found.append(_shape(entry, what, size, file))
    shapes, left_out = parted(found)
    name = f'{prefix}/{name}' if prefix else name
    return LabelledImage(path, name, str(file), shapes, size=size, split=split, left_out=left_out)


def _shape(entry: dict[str, Any], what: str, size: tuple[int, int], file: Path) -> Shape | LeftOut:
    kind, label, where = entry['geometryType'], entry['classTitle'], f'{file}: {what}'
    group = entry.get('instance')
    group = None if group is None else str(group)
    if kind == 'polygon':
        points = entry['points']
        holes = [flat(hole, where) for hole in points.get('interior', [])]
        return Shape(label, [with_holes(flat(points['exterior'], where), holes)], what, group=group)
    if kind in ('bitmap', 'alpha_mask'):
        left, top = entry['bitmap']['origin']
        part = _mask(entry['bitmap']['data'], where)
        return Shape(label, placed(part, int(left), int(top), size, where), what, group=group)
    if kind == 'rectangle':
        (left, top), (right, bottom) = entry['points']['exterior']
        return box_shape(label, left, top, right, bottom, what)
    return LeftOut(str(file), what, f'a {kind} has no area: draw a polygon or a mask')


def _mask(text: Any, where: str) -> np.ndarray:
    """Decode a mask from a PNG in base64, compressed by zlib or not."""
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
        if image.mode == 'P':  # a palette of two greys
            opaque = image.convert('RGBA').getchannel('A') if 'transparency' in image.info else image
        return np.array(opaque) > 0
