"""CVAT's XML, 'CVAT for images 1.1'.

Format: https://docs.cvat.ai/docs/other/xml_format. Shapes with the same label and ``group_id`` are one instance, as in
CVAT's own export to COCO. Shapes with a greater ``z_order`` lie on top.
"""

from functools import partial
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np

from mmpanoptic.results.coco import CompressedMask
from mmpanoptic.utils import DatasetError

from .classes import names_of
from .coco_instances import Turn, box_shape
from .rasterise import flat, placed
from .records import LabelledImage, Labels, LeftOut, Shape, parted
from .sources import ImageFinder, each, files_below, load_xml, reading, split_of

_SAYS = "export the task as 'CVAT for images 1.1', and name its annotations.xml or the unpacked folder"


def read(source: Path, images: Path | None = None) -> Labels:
    """Read an annotations.xml, or all of a folder.

    Args:
        source: The file or the folder.
        images: The folder of the images; by default they are looked for beside the file.

    Raises:
        DatasetError: If there is no such file, or a file cannot be read at all.
    """
    files = files_below(source, '*.xml') if source.is_dir() else [source]
    if not files:
        raise DatasetError(f'{source} holds no XML file: {_SAYS}')
    made: list[LabelledImage] = []
    left_out: list[LeftOut] = []
    declared: dict[str, None] = {}  # a set that keeps the order
    for file in files:
        root = load_xml(file)
        with reading(str(file)):
            if root.tag != 'annotations' or root.find('track') is not None:
                kind = 'tracks of a video' if root.find('track') is not None else f'<{root.tag}>'
                raise DatasetError(f'{file} holds {kind}: {_SAYS}')
            meta = root.find('meta')
            declared |= dict.fromkeys(_labels(meta) if meta is not None else ())
        finder = ImageFinder(images, [file.parent / 'images', file.parent])
        known = set(declared)
        read_image = _Reader(file, finder, known)
        found, missing = each(
            root.findall('image'), read_image, str(file), lambda image: f'image {image.get("name")!r}'
        )
        made += found
        left_out += missing
    return Labels(made, names_of(made, list(declared)), left_out)


def _labels(meta: Element) -> list[str]:
    """Names of the labels of a task or project, without parts of skeletons, which have a parent."""
    return [
        label.findtext('name', '').strip()
        for label in meta.iter('label')
        if label.find('parent') is None and label.findtext('name', '').strip()
    ]


class _Reader:
    """Reads the images of one file."""

    def __init__(self, file: Path, finder: ImageFinder, known: set[str]) -> None:
        self.file, self.finder, self.known = file, finder, known

    def __call__(self, image: Element) -> LabelledImage:
        where = f'{self.file}: image {image.get("name")!r}'
        split = split_of(image.get('subset') or '')
        path, name = self.finder.find(image.get('name'), where, split)
        size = (int(image.attrib['height']), int(image.attrib['width']))
        shapes, left_out = parted(
            self._shape(element, f'{element.tag} {index}', size, where) for index, element in enumerate(image)
        )
        return LabelledImage(path, name, str(self.file), shapes, size=size, split=split, left_out=left_out)

    def _shape(self, element: Element, what: str, size: tuple[int, int], where: str) -> Shape | LeftOut:
        label = element.attrib['label']
        if self.known and label not in self.known:
            raise DatasetError(f'{where}: {what} has label {label!r}, which <labels> lacks: add it there')
        group = element.get('group_id') or '0'
        crowd = any(
            a.get('name') == 'iscrowd' and (a.text or '').strip() == 'true' for a in element.findall('attribute')
        )
        z = int(element.get('z_order', '0'))
        shape = partial(Shape, label, what=what, is_crowd=crowd, z=z, group=None if group == '0' else group)
        if element.tag == 'polygon':
            points = [[float(value) for value in point.split(',')] for point in element.attrib['points'].split(';')]
            return shape([flat(points, f'{where}: {what}')])
        if element.tag == 'mask':
            return shape(_mask(element, size, f'{where}: {what}'))
        if element.tag == 'box':
            left, top, right, bottom = (float(element.attrib[key]) for key in ('xtl', 'ytl', 'xbr', 'ybr'))
            turn = _turn(element, (left + right) / 2, (top + bottom) / 2)
            return box_shape(label, left, top, right, bottom, what, z, turn)
        if element.tag == 'ellipse':
            x, y, rx, ry = (float(element.attrib[key]) for key in ('cx', 'cy', 'rx', 'ry'))
            return box_shape(label, x - rx, y - ry, x + rx, y + ry, what, z, _turn(element, x, y))
        image = where.removeprefix(f'{self.file}: ')
        return LeftOut(str(self.file), f'{what} of {image}', f'a <{element.tag}> has no area: draw a polygon or a mask')


def _turn(element: Element, x: float, y: float) -> Turn:
    """The rotation of a shape about the point x, y."""
    return float(element.get('rotation') or 0), x, y


def _mask(element: Element, size: tuple[int, int], where: str) -> CompressedMask:
    """Decode alternating counts of pixels outside and inside, along the rows of a box."""
    left, top, width, height = (int(element.attrib[key]) for key in ('left', 'top', 'width', 'height'))
    counts = [int(count) for count in element.attrib['rle'].split(',')]
    if min(width, height) < 1 or min(counts) < 0 or sum(counts) != width * height or width * height > size[0] * size[1]:
        raise DatasetError(
            f'{where} has a mask (rle) whose counts do not add up to its {height}x{width} pixels: export it again'
        )
    inside = np.repeat(np.arange(len(counts)) % 2 == 1, counts).reshape(height, width)
    return placed(inside, left, top, size, where)
