"""Convert images with instance label maps to COCO's panoptic format.

A label map has one channel, the size of its image and its file name but for the suffix; 0 is background, every other
value one instance. PNG, TIFF and .npy are read. Semantic maps, if there are any, look the same; a pixel's value is its
category id, 0 is void. An instance is then of the thing category that most of its pixels have; where no instance is,
stuff categories are taken over and thing categories become void.
"""

import argparse
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mmpanoptic.engine import cli
from mmpanoptic.formats.images import check_size, decoding, image_size, load_label_map
from mmpanoptic.formats.panoptic_png import encode_panoptic_png
from mmpanoptic.formats.panoptic_writer import (
    PanopticItem,
    distinct_id,
    image_ids,
    read_categories,
    segments_to_coco,
    write_panoptic,
)
from mmpanoptic.utils import DatasetError, UserError, tracked_map

DEFAULT_CATEGORIES = [{'id': 1, 'name': 'object', 'isthing': 1}, {'id': 2, 'name': 'background', 'isthing': 0}]


def files_by_stem(folder: Path) -> dict[str, Path]:
    """The files of a folder, hidden ones left out, by their names without suffix, in the order of their names."""
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
    """The label map or semantic map of an image of that height and width, as non-negative integers of shape (H, W).

    Raises:
        DatasetError: If it is of another size, of another type, or cannot be read.
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
    """Label map and semantic map to segment ids.

    Args:
        instances: Label map of shape (H, W), 0 where no instance is.
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


def convert(job: tuple[int, Path, Path, Path | None], categories: Sequence[dict[str, Any]]) -> PanopticItem:
    """One image: (image id, image, label map, semantic map) to its part of the dataset."""
    image_id, image_path, label_path, semantic_path = job
    image_size(image_path)
    with decoding(str(image_path)):
        image = cv2.imread(str(image_path), cv2.IMREAD_COLOR)  # as in training: turned if its EXIF tag says so
    if image is None:
        raise DatasetError(f'{image_path} cannot be read as an image: write it again or remove it')
    height, width = image.shape[:2]
    paths = (label_path, semantic_path)
    maps = [None if path is None else read_map(path, image_path, (height, width)) for path in paths]
    id_map, category_of_id = to_panoptic(*maps, categories, str(semantic_path or label_path))
    return PanopticItem(
        {'id': image_id, 'file_name': image_path.name, 'width': width, 'height': height},
        f'{image_path.stem}.png',
        encode_panoptic_png(id_map),
        segments_to_coco(id_map, category_of_id),
    )


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split('\n\n')[0])
    parser.add_argument('images', type=Path, help='folder of images, in any format that OpenCV reads')
    parser.add_argument('labels', type=Path, help='folder of instance label maps: PNG, TIFF or .npy')
    parser.add_argument('out_json', type=Path, help='the JSON to write')
    parser.add_argument('--semantic', type=Path, help='folder of semantic maps; a pixel is a category id, 0 is void')
    parser.add_argument('--categories', type=Path, help='JSON: [{"id": 1, "name": "...", "isthing": 1}, ...]')
    parser.add_argument('--panoptic-dir', type=Path, help='folder for the PNGs; default: OUT_JSON without its suffix')
    parser.add_argument('--workers', type=int, default=2, help='number of processes (default: 2)')
    cli.add_image_arguments(parser)
    return parser.parse_args()


def run(args: argparse.Namespace) -> None:
    categories = read_categories(args.categories) if args.categories else DEFAULT_CATEGORIES
    num_things = sum(c['isthing'] for c in categories)
    if args.semantic is None and (num_things, len(categories)) != (1, 2):
        raise UserError(
            f'{args.categories} has {num_things} thing and {len(categories) - num_things} stuff categories; label maps '
            'alone tell one of each: give --semantic'
        )
    if not num_things:
        raise UserError(f'{args.categories} has no thing category: an instance must be of one')
    images, labels = files_by_stem(args.images), files_by_stem(args.labels)
    check_same_stems(images, labels, 'label map')
    semantic = {}
    if args.semantic:
        semantic = files_by_stem(args.semantic)
        check_same_stems(images, semantic, 'semantic map')
    ids = image_ids(list(images))
    jobs = [(i, images[stem], labels[stem], semantic.get(stem)) for i, stem in zip(ids, images, strict=True)]
    items = tracked_map(partial(convert, categories=categories), jobs, args.workers, 'Converting')
    panoptic_dir = args.panoptic_dir or args.out_json.with_suffix('')
    dataset = write_panoptic(args.out_json, items, categories, panoptic_dir)

    counts = Counter(s['category_id'] for annotation in dataset['annotations'] for s in annotation['segments_info'])
    segments = ', '.join(f'{counts[c["id"]]} {c["name"]}' for c in categories)
    print(f'{len(jobs)} images, segments: {segments}')
    print(f'JSON: {args.out_json}\nPNGs: {panoptic_dir}\nIn a config:')
    paths = [str(path.resolve()) for path in (args.out_json, args.images, panoptic_dir)]
    print(
        'dataset=dict(type={!r}, ann_file={!r}, data_prefix=dict(img={!r}, seg={!r}))'.format(
            'CocoPanopticDataset', *paths
        )
    )


if __name__ == '__main__':
    cli.run(lambda: run(parse_args()))
