"""Convert images with instance label maps to COCO's panoptic format.

A label map has one channel, the size of its image, and the file name of its image with another suffix. Value 0 is
background; every other value is an instance. PNG, TIFF and .npy files are read. Semantic maps are optional and have the
same form; values are category ids, 0 is void. With them, an instance gets the thing category of most of its pixels.
Outside of instances, stuff categories are kept, and thing categories become void.
"""

import argparse
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from mmpanoptic.engine import cli
from mmpanoptic.formats.images import decode_image
from mmpanoptic.formats.panoptic_png import encode_panoptic_png
from mmpanoptic.formats.panoptic_writer import (
    PanopticItem,
    image_ids,
    read_categories,
    segments_to_coco,
    write_panoptic,
)
from mmpanoptic.importers.label_maps import (
    DEFAULT_CATEGORIES,
    check_categories,
    check_same_stems,
    files_by_stem,
    read_map,
    to_panoptic,
)
from mmpanoptic.utils import read_bytes, tracked_map


def convert(job: tuple[int, Path, Path, Path | None], categories: Sequence[dict[str, Any]]) -> PanopticItem:
    """Convert one image, given as (image id, image, label map, semantic map)."""
    image_id, image_path, label_path, semantic_path = job
    height, width = decode_image(read_bytes(str(image_path)), str(image_path)).shape[:2]
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
    check_categories(categories, args.semantic is not None, str(args.categories))
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
