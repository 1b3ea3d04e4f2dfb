"""Folders of images and instance label maps, with or without semantic maps.

A label map has one channel, its image's size, and its image's file name with any suffix. In it, 0 is background, and
every other value is an instance. In a semantic map, values are category ids, and 0 is void. See :func:`to_panoptic`.
"""

from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mmpanoptic.formats.images import check_size, load_label_map
from mmpanoptic.formats.panoptic_writer import distinct_id, read_categories
from mmpanoptic.utils import DatasetError, UserError

from .classes import as_stuff
from .maps import shapes_of_map
from .records import LabelledImage, Labels, LeftOut, Shape
from .sources import split_of

DEFAULT_CATEGORIES = [{'id': 1, 'name': 'object', 'isthing': 1}, {'id': 2, 'name': 'background', 'isthing': 0}]


def files_by_stem(folder: Path) -> dict[str, Path]:
    """The files of a folder by their names without suffix, sorted by name, without hidden files."""
    if not folder.is_dir():
        raise DatasetError(f'{folder} is no folder')
    files: dict[str, Path] = {}
    for path in sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith('.')):
        if path.stem in files:
            raise DatasetError(f'{files[path.stem]} and {path.name} differ in their suffix only: rename or remove one')
        files[path.stem] = path
    if not files:
        raise DatasetError(f'{folder} is empty')
    return files


def check_same_stems(images: dict[str, Path], maps: dict[str, Path], what: str) -> None:
    """Raise a DatasetError unless every image has a map and every map an image."""
    for here, there, wanted in ((images, maps, what), (maps, images, 'image')):
        if missing := sorted(here.keys() - there.keys()):
            folder = next(iter(there.values())).parent
            raise DatasetError(
                f'{len(missing)} of {len(here)} files have no {wanted}, first {here[missing[0]]}: '
                f'add {folder / missing[0]}.* or remove the file'
            )


def read_map(path: Path, image: Path, size: tuple[int, int]) -> np.ndarray:
    """Read the label map or semantic map of an image as non-negative integers, int64 of shape (H, W).

    Args:
        path: The map.
        image: The image.
        size: Height and width of the image.

    Raises:
        DatasetError: If the map has another size or another type, or cannot be read.
    """
    of = f'{image.name} is'
    if path.suffix.lower() == '.npy':
        try:
            array = np.lib.format.open_memmap(path, mode='r')  # a header may claim more than memory holds
        except (OSError, ValueError, EOFError, SyntaxError, OverflowError) as error:
            raise DatasetError(f'{path} cannot be read: {error}') from error
    else:
        array = load_label_map(path, size, of)
    if array.ndim != 2 or array.dtype.kind not in 'biu':
        raise DatasetError(f'{path} is {array.dtype} of shape {array.shape}: maps are integers and have one channel')
    check_size(array.shape, size, str(path), of)
    if array.size and array.min() < 0:
        raise DatasetError(f'{path} holds {array.min()}: values start at 0')
    return array.astype(np.int64)


def to_panoptic(
    instances: np.ndarray, semantic: np.ndarray | None, categories: Sequence[dict[str, Any]], name: str
) -> tuple[np.ndarray, dict[int, int]]:
    """Combine a label map and a semantic map to segment ids.

    Args:
        instances: Label map of shape (H, W), 0 where there is no instance.
        semantic: Category ids of shape (H, W), 0 where void; None if there is one thing and one stuff category only.
        categories: ``id`` and ``isthing`` of every category.
        name: What to call the image in an error.

    Returns:
        Segment ids of shape (H, W), int32, and the category id of every segment id: stuff first, in the order of the
        categories, then the instances by their values.

    Raises:
        DatasetError: If a semantic value is no category, or no pixel of an instance is of a thing category.
    """
    things = np.array([c['id'] for c in categories if c['isthing']], np.int64)
    stuff = np.array([c['id'] for c in categories if not c['isthing']], np.int64)
    values, index = np.unique(instances, return_inverse=True)
    index = index.reshape(instances.shape)
    if semantic is None:
        thing_of_value = np.full(len(values), things[0])
        semantic = np.where(instances == 0, stuff[0], things[0])
    else:
        unknown = np.setdiff1d(semantic, [0, *things, *stuff])
        if len(unknown):
            raise DatasetError(f'{name}: semantic value {unknown[0]} is no category: add it, or make these pixels 0')
        counts = np.stack([np.bincount(index[semantic == thing], minlength=len(values)) for thing in things])
        for value, best in zip(values, counts.max(0), strict=True):
            if value and not best:
                raise DatasetError(f'{name}: instance {value} has no pixel of a thing category: mend the semantic map')
        thing_of_value = things[counts.argmax(0)]

    id_map = np.zeros(instances.shape, np.int32)
    category_of_id = {}
    for k, category in enumerate(stuff.tolist(), start=1):
        category_of_id[distinct_id(k)] = category
        id_map[semantic == category] = distinct_id(k)
    id_of_value = np.zeros(len(values), np.int32)
    for k, i in enumerate(np.flatnonzero(values), start=len(stuff) + 1):
        id_of_value[i] = distinct_id(k)
        category_of_id[distinct_id(k)] = int(thing_of_value[i])
    return np.where(instances == 0, id_map, id_of_value[index]), category_of_id


def check_categories(
    categories: Sequence[dict[str, Any]], semantic: bool, listed: str, way_out: str = 'give --semantic'
) -> None:
    """Refuse categories that the maps cannot distinguish.

    Args:
        categories: ``isthing`` of every category.
        semantic: Whether there are semantic maps.
        listed: What to call the categories in an error.
        way_out: How to give semantic maps, for the error.

    Raises:
        UserError: If there is no thing category, or, without semantic maps, there are others than one thing and one
            stuff category.
    """
    num_things = sum(c['isthing'] for c in categories)
    if not semantic and (num_things, len(categories)) != (1, 2):
        raise UserError(
            f'{listed} has {num_things} thing and {len(categories) - num_things} stuff categories; label maps '
            f'alone tell one of each: {way_out}'
        )
    if not num_things:
        raise UserError(f'{listed} has no thing category: an instance must be of one')


def read(
    source: Path,
    images: Path | None = None,
    classes: Sequence[dict[str, Any]] | None = None,
    stuff: Collection[str] = (),
) -> Labels:
    """Read ``images/``, ``labels/`` and the optional ``semantic/`` of a folder, or of train/, val/ and test/ in it.

    Args:
        source: The folder.
        images: The folder of the images; by default ``images/``.
        classes: Categories; by default those of categories.json in the folder, or 'object' and 'background'.
        stuff: Names of classes that are stuff, whatever the categories say.

    Raises:
        DatasetError: If a folder is missing or empty, or file names do not match.
        UserError: See :func:`check_categories`.
    """
    file = source / 'categories.json'
    listed = str(file)
    if classes is None:
        classes = read_categories(file) if file.is_file() else DEFAULT_CATEGORIES
    else:
        listed = 'the list of categories'
        classes = [{'id': number, 'isthing': 1, **category} for number, category in enumerate(classes, 1)]
    classes = as_stuff(classes, stuff)
    folders = [source / split for split in ('train', 'val', 'test') if (source / split / 'labels').is_dir()] or [source]
    made = []
    for folder in folders:
        found = files_by_stem(images or folder / 'images')
        labels = files_by_stem(folder / 'labels')
        check_same_stems(found, labels, 'label map')
        semantic = files_by_stem(folder / 'semantic') if (folder / 'semantic').is_dir() else {}
        if semantic:
            check_same_stems(found, semantic, 'semantic map')
        check_categories(classes, bool(semantic), listed, f'add {folder / "semantic"}, or take --stuff')
        for stem, path in found.items():
            load = partial(_load, image=path, label=labels[stem], semantic=semantic.get(stem), categories=classes)
            split = split_of(folder.name) if folder is not source else None
            made.append(LabelledImage(path, path.name, str(labels[stem]), load=load, split=split))
    return Labels(made, list(classes))


def _load(
    size: tuple[int, int], image: Path, label: Path, semantic: Path | None, categories: Sequence[dict[str, Any]]
) -> tuple[list[Shape], list[LeftOut]]:
    semantic_map = None if semantic is None else read_map(semantic, image, size)
    ids, category_of_id = to_panoptic(read_map(label, image, size), semantic_map, categories, str(semantic or label))
    name_of = {category['id']: category['name'] for category in categories}
    return shapes_of_map(ids, {i: name_of[category] for i, category in category_of_id.items()}), []
