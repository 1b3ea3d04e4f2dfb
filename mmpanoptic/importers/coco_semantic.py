"""COCO instances together with semantic PNGs: those of ``mmpanoptic export semantic-png``, or of COCO-stuff.

Format: https://cocodataset.org/#format-data (1. Object Detection) and https://github.com/nightrome/cocostuff. PNGs in
``semantic/`` hold category ids of categories.json, and 0 is void. PNGs in ``stuffthingmaps/`` hold ids of labels.txt
minus one, and 255 is void.
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from mmpanoptic.formats.panoptic_writer import read_categories
from mmpanoptic.utils import DatasetError

from . import coco_instances
from .classes import as_stuff, merge_classes
from .maps import check_known, one_channel, shapes_of_map
from .records import Labels, LeftOut, Shape
from .sources import files_below, reading, require_folder_of

_SAYS = 'it should have an instances JSON, and semantic/ with categories.json or stuffthingmaps/ with labels.txt'
_VOID_OF_STUFF = 255
_THINGS_OF_COCO = 91


def read(
    source: Path,
    images: Path | None = None,
    classes: Sequence[dict[str, Any]] | None = None,
    stuff: Collection[str] = (),
) -> Labels:
    """Read instances and, below them, the stuff of semantic maps.

    Pixels of a thing class without an instance are void. Thing classes are those of the instances JSON and those whose
    category of the maps has ``isthing`` 1.

    Args:
        source: The folder with the JSON and the maps.
        images: The folder of the images; by default they are looked for beside the JSON.
        classes: Categories of the maps; by default those of categories.json or labels.txt.
        stuff: Names of classes that are stuff, whatever the files say.

    Raises:
        DatasetError: If there is no JSON, no folder of maps, or no list of classes.
    """
    require_folder_of(source, _SAYS)
    labels = coco_instances.read(source, images)
    is_stuff = (source / 'stuffthingmaps').is_dir()
    folder = source / ('stuffthingmaps' if is_stuff else 'semantic')
    require_folder_of(folder, _SAYS)
    listed = _classes(source, is_stuff, classes)
    of_things = as_stuff([{**category, 'isthing': 1} for category in labels.classes], stuff)
    have_instances = {category['name'] for category in of_things}
    named = have_instances | {category['name'] for category in listed if category.get('isthing')}
    if is_stuff:  # of the first 91 classes, COCO uses those that have instances
        listed = [
            category for category in listed if category['name'] in named | {*stuff} or category['id'] > _THINGS_OF_COCO
        ]
    things = named - {*stuff}
    of_maps = [{**category, 'isthing': int(category['name'] in things)} for category in listed]
    name_of = {
        category['id'] - is_stuff: None if category['name'] in things else category['name'] for category in of_maps
    }
    void = _VOID_OF_STUFF if is_stuff else 0
    file_of: dict[str, list[Path]] = {}
    for path in files_below(folder, '*.png'):
        file_of.setdefault(path.stem, []).append(path)
    made, left_out = [], list(labels.left_out)
    for image in labels.images:
        files = file_of.get(image.path.stem, [])
        if len(files) != 1:
            reason = f'{folder} has {len(files)} PNGs of its name: there should be one'
            left_out.append(LeftOut(image.file, f'image {image.name}', reason))
            continue
        load = partial(_load, file=files[0], shapes=image.shapes, name_of=name_of, void=void)
        made.append(replace(image, shapes=(), load=load))
    return Labels(made, merge_classes({'the maps': of_maps, 'the instances': of_things}), left_out)


def _classes(source: Path, is_stuff: bool, given: Sequence[dict[str, Any]] | None) -> list[dict[str, Any]]:
    """Classes of the maps, with ``id`` and ``name``."""
    if given is not None:
        if not all('id' in category for category in given):
            raise DatasetError('the list of classes has no ids, which maps need: give a JSON with id, name and isthing')
        return [dict(category) for category in given]
    if not is_stuff:
        return read_categories(source / 'categories.json')
    for file in (source / 'labels.txt', source / 'stuffthingmaps' / 'labels.txt'):
        if file.is_file():
            with reading(str(file)):
                rows = re.findall(r'(?m)^\s*(\d+)\s*:\s*(\S.*?)\s*$', file.read_text(encoding='utf-8'))
                return [{'id': int(number), 'name': name} for number, name in rows if int(number)]
    raise DatasetError(f'{source} has no labels.txt: fetch that of COCO-stuff, or give --categories')


def _load(
    size: tuple[int, int], file: Path, shapes: Sequence[Shape], name_of: dict[int, str | None], void: int
) -> tuple[list[Shape], list[LeftOut]]:
    values = one_channel(file, size)
    check_known(values, {*name_of, void}, file, 'the list of classes')
    return shapes_of_map(values, {value: name for value, name in name_of.items() if value != void}, order=-1) + list(
        shapes
    ), []
