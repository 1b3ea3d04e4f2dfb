"""Cityscapes' polygons, and those of datasets that are labelled in the same way.

Format: https://github.com/mcordts/cityscapesScripts. Annotators drew from back to front, so polygons later in the file
lie on top. Polygons are filled as cityscapesscripts fills them.
"""

import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from cityscapesscripts.helpers.labels import labels as official
from cityscapesscripts.helpers.labels import name2label
from PIL import Image, ImageDraw

from mmpanoptic.formats.images import check_pixels
from mmpanoptic.utils import DatasetError

from .maps import refuse_without_images
from .rasterise import encode
from .records import LabelledImage, Labels, Shape
from .sources import SUFFIXES, each, files_below, images_below, load_json, may_be_of, require_folder_of, split_of

_SAYS = 'it should have *_polygons.json files, and images of the same names'
_STEM = re.compile(r'(_gt\w+)?_polygons$')
_IMAGE = re.compile(r'_leftImg8bit$')


def draw(polygon: list, size: tuple[int, int]) -> np.ndarray:
    """Fill a polygon as cityscapesscripts fills it: uint8 of shape (H, W) for a size (H, W)."""
    canvas = Image.new('L', size[::-1])
    ImageDraw.Draw(canvas).polygon([tuple(point) for point in polygon], fill=1)
    return np.array(canvas)


def read(source: Path, images: Path | None = None) -> Labels:
    """Read all ``*_polygons.json`` of a folder.

    If all labels are Cityscapes' labels, the classes are the 19 of its benchmark, and all others are void. Otherwise
    every label is a class; labels in Cityscapes' list are things or stuff as there. ``NAMEgroup`` is a crowd of NAME.

    Args:
        source: The folder, such as the one that holds gtFine/ and leftImg8bit/.
        images: The folder of the images; by default the source.

    Raises:
        DatasetError: If it holds no such file.
    """
    require_folder_of(source, _SAYS)
    folder = images or source
    image_of: dict[str, list[Path]] = {}
    for path in images_below(folder):
        if not re.search(r'_(color|labelIds|instanceIds|labelTrainIds|disparity)$', path.stem):
            image_of.setdefault(_IMAGE.sub('', path.stem), []).append(path)
    folders = {path.parent.name for paths in image_of.values() for path in paths}
    files = files_below(source, '*_polygons.json')
    made, left_out = each(
        files, partial(_image, image_of=image_of, folders=folders, folder=folder, source=source), '', str
    )
    refuse_without_images(made, source, left_out[0].reason if left_out else _SAYS)
    found = {shape.label for image in made for shape in image.shapes if shape.label is not None}
    if all(_base(name, found) in name2label for name in found):
        classes = [
            {'id': label.id, 'name': label.name, 'isthing': int(label.hasInstances), 'color': list(label.color)}
            for label in official
            if not label.ignoreInEval
        ]
    else:
        classes = [
            {'name': name} | ({'isthing': int(name2label[name].hasInstances)} if name in name2label else {})
            for name in sorted(name for name in found if _base(name, found) == name)
        ]
    known = {category['name'] for category in classes}
    return Labels([_with_classes(image, known, found) for image in made], classes, left_out)


def _base(name: str, found: set[str]) -> str:
    """The class of a label; a group has the class of its members."""
    member = name.removesuffix('group')
    return member if member != name and name not in name2label and (member in name2label or member in found) else name


def _with_classes(image: LabelledImage, known: set[str], found: set[str]) -> LabelledImage:
    shapes = []
    for shape in image.shapes:
        assert shape.label is not None  # _image gives every shape a label
        name = _base(shape.label, found)
        shapes.append(
            Shape(name if name in known else None, shape.mask, shape.what, name != shape.label and name in known)
        )
    return LabelledImage(image.path, image.name, image.file, shapes, size=image.size, split=image.split)


def _image(file: Path, image_of: dict[str, list[Path]], folders: set[str], folder: Path, source: Path) -> LabelledImage:
    content: dict[str, Any] = load_json(file, dict, _SAYS)
    size = (int(content['imgHeight']), int(content['imgWidth']))
    check_pixels(*size, str(file))
    stem = _STEM.sub('', file.stem)
    split = split_of(*file.relative_to(source).parts[:-1])
    candidates = [path for path in image_of.get(stem, []) if may_be_of(path, [folder], split)]
    if file.parent.name in folders:  # then the image lies in a folder of the same name
        candidates = [path for path in candidates if path.parent.name == file.parent.name]
    if len(candidates) != 1:
        raise DatasetError(
            f'{file} has {len(candidates)} images of the name {stem} or {stem}_leftImg8bit '
            f'({", ".join(SUFFIXES[:3])}, ...) in {folder}: give `images`, their folder'
        )
    shapes = []
    for index, entry in enumerate(content['objects']):
        polygon = [(float(x), float(y)) for x, y in entry['polygon']]
        known = name2label.get(entry['label'])
        if entry.get('deleted') or len(polygon) < 3 or (known is not None and known.id < 0):
            continue  # as in cityscapesscripts; license plates are part of their cars
        if max(abs(value) for point in polygon for value in point) > 10 * max(size):
            raise DatasetError(f'{file}: object {index} lies far outside of its image: mend its polygon')
        mask = encode(draw(entry['polygon'], size).astype(bool))
        shapes.append(Shape(str(entry['label']), mask, f'object {index}'))
    path = candidates[0]
    return LabelledImage(path, path.relative_to(folder).as_posix(), str(file), shapes, size=size, split=split)
