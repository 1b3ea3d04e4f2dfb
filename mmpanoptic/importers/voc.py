"""Pascal VOC's masks: SegmentationClass/ and SegmentationObject/.

Format: http://host.robots.ox.ac.uk/pascal/VOC/voc2012/htmldoc/devkit_doc.html. Colours stand for classes; (224, 224,
192) is void. If there is a labelmap.txt, as CVAT (with colours) and datumaro (without) write it, its classes apply.
"""

from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from mmpanoptic.formats.images import check_size, decoding, image_size
from mmpanoptic.structures import rgb_to_id
from mmpanoptic.utils import DatasetError

from .maps import check_known, refuse_without_images, shapes_of_map
from .records import LabelledImage, Labels, LeftOut, Shape
from .sources import each, images_below, reading, require_folder_of, split_of

_SAYS = 'it should have JPEGImages/, SegmentationClass/ and SegmentationObject/'
_VOID = (224, 224, 192)
_BACKGROUND = 'background'
# fmt: off
_NAMES = (
    'aeroplane', 'bicycle', 'bird', 'boat', 'bottle', 'bus', 'car', 'cat', 'chair', 'cow', 'diningtable', 'dog',
    'horse', 'motorbike', 'person', 'pottedplant', 'sheep', 'sofa', 'train', 'tvmonitor',
)
# fmt: on


def voc_colour(index: int) -> tuple[int, int, int]:
    """The devkit's colour of a class: the bits of its index, spread over the high bits of red, green and blue."""
    red, green, blue = (
        sum(((index >> (3 * bit + channel)) & 1) << (7 - bit) for bit in range(8)) for channel in range(3)
    )
    return red, green, blue


class _Layout(NamedTuple):
    root: Path
    label_of: dict[int, str | None]  # class by colour as a number, without the background
    background: int  # its colour as a number


def read(source: Path, images: Path | None = None) -> Labels:
    """Read the images in the lists in ImageSets/Segmentation, or all images that have masks.

    An object has the class of most of its pixels. Pixels of a class without an object are void; pixels of the
    background have no label.

    Args:
        source: The folder.
        images: The folder of the images; by default JPEGImages in the source.

    Raises:
        DatasetError: If a folder is missing, or a list is damaged.
    """
    require_folder_of(source, _SAYS)
    for kind in ('SegmentationClass', 'SegmentationObject'):
        require_folder_of(source / kind, _SAYS)
    label_of, background = _colours(source)
    folder = images or source / 'JPEGImages'
    require_folder_of(folder, _SAYS)
    files = {path.relative_to(folder).with_suffix('').as_posix(): path for path in images_below(folder)}
    layout = _Layout(source, label_of, background)
    made: list[LabelledImage] = []
    left_out: list[LeftOut] = []
    for split, listed, stems in _lists(source, files):
        found, missing = each(stems, partial(_image, files=files, layout=layout, split=split), listed, str)
        made += found
        left_out += missing
    refuse_without_images(made, source, left_out[0].reason if left_out else _SAYS)
    return Labels(made, [{'name': name} for name in label_of.values() if name], left_out)


def _colours(source: Path) -> tuple[dict[int, str | None], int]:
    """Classes by colour, and the colour of the background."""
    colours = {_BACKGROUND: (0, 0, 0), **{name: voc_colour(index) for index, name in enumerate(_NAMES, 1)}}
    file = source / 'labelmap.txt'
    if file.is_file():
        colours = {}
        with reading(str(file)):
            lines = [line for line in file.read_text(encoding='utf-8').splitlines() if line.strip() and line[0] != '#']
            for index, line in enumerate(lines):
                name, colour, *_ = line.split(':')  # without a colour, the devkit's for this index
                values = tuple(int(value) for value in colour.split(',')) if colour.strip() else voc_colour(index)
                if len(values) != 3 or not all(0 <= value < 256 for value in values):
                    raise DatasetError(f'{file}: {name} has colour {colour}: write three numbers from 0 to 255')
                colours[name.strip()] = values
    number_of = {name: _number(colour) for name, colour in colours.items()}
    if len(set(number_of.values())) < len(number_of):
        raise DatasetError(f'{file} has a colour twice: give every class one')
    background = number_of.pop(_BACKGROUND, 0)
    return {_number(_VOID): None, **{number: name for name, number in number_of.items()}}, background


def _number(colour: tuple[int, int, int]) -> int:
    return int(rgb_to_id(np.array([[colour]], np.uint8))[0, 0])


def _lists(source: Path, files: dict[str, Path]) -> list[tuple[str | None, str, list[str]]]:
    """Splits with the names of their images, from the lists, or one split of all images that have a mask."""
    folder = source / 'ImageSets' / 'Segmentation'
    lists = [path for path in sorted(folder.glob('*.txt')) if path.stem != 'trainval']
    if not lists:
        have = [stem for stem in files if (source / 'SegmentationClass' / f'{stem}.png').is_file()]
        return [(None, str(source), have)]
    with reading(str(folder)):
        return [
            (
                split_of(path.stem),
                str(path),
                [line.split()[0] for line in path.read_text('utf-8').splitlines() if line.strip()],
            )
            for path in lists
        ]


def _image(stem: str, files: dict[str, Path], layout: _Layout, split: str | None) -> LabelledImage:
    if stem not in files:
        raise DatasetError(f'image {stem} does not exist: add it to JPEGImages, or remove it from the list')
    path, map_file = files[stem], layout.root / 'SegmentationClass' / f'{stem}.png'
    name = f'{stem}{path.suffix}'
    return LabelledImage(path, name, str(map_file), load=partial(_load, stem=stem, layout=layout), split=split)


def _load(size: tuple[int, int], stem: str, layout: _Layout) -> tuple[list[Shape], list[LeftOut]]:
    class_file, object_file = (layout.root / f'Segmentation{kind}' / f'{stem}.png' for kind in ('Class', 'Object'))
    classes, objects = _read_colours(class_file, size), _read_colours(object_file, size)
    check_known(classes, [*layout.label_of, layout.background], class_file, 'the list of colours')
    void = _number(_VOID)
    shapes = shapes_of_map(np.where(classes == layout.background, -1, 0), {0: None}, order=-1)
    label_of_object: dict[int, str | None] = {}
    for value in np.setdiff1d(objects, [0, void]).tolist():
        counts = np.unique(classes[(objects == value) & (classes != layout.background)], return_counts=True)
        kinds = [
            (count, -kind) for kind, count in zip(*(part.tolist() for part in counts), strict=True) if kind != void
        ]
        if not kinds:
            raise DatasetError(
                f'{object_file}: object {value} has no class in {class_file.name}: mend one of the files'
            )
        label_of_object[value] = layout.label_of[-max(kinds)[1]]
    return shapes + shapes_of_map(objects, label_of_object), []


def _read_colours(path: Path, size: tuple[int, int]) -> np.ndarray:
    """Colours of a PNG as numbers of shape (H, W); values of a grey PNG are taken as the devkit's class indices."""
    check_size(image_size(path), size, str(path), 'its image')
    with decoding(str(path)), Image.open(path) as image:
        if image.format != 'PNG':
            raise DatasetError(f'{path} is {image.format}: masks are PNGs')
        if image.mode in ('L', '1'):
            table = np.array([voc_colour(index) for index in range(256)], np.uint8)
            return rgb_to_id(table[np.array(image.convert('L'))]).astype(np.int64)
        return rgb_to_id(np.array(image.convert('RGB'))).astype(np.int64)
