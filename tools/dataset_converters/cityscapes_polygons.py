"""Make instances of Cityscapes with overlapping masks, from its polygons, in COCO's format.

Annotators drew objects from back to front and completed hidden parts where they could guess them. So polygons overlap,
while the PNGs made from them do not. A learned ranking of instances needs overlapping masks.
The result is ROOT/gtFine/cityscapes_polygons_SPLIT.json; groups are crowds.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from cityscapesscripts.helpers.labels import name2label
from pycocotools import mask as rle

from mmpanoptic.engine import cli
from mmpanoptic.formats.images import check_pixels
from mmpanoptic.formats.instances_writer import InstanceItem, write_instances
from mmpanoptic.importers.cityscapes_polygons import draw
from mmpanoptic.utils import DatasetError, tracked_map

SUFFIX = '_gtFine_polygons.json'


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split('\n\n')[0])
    parser.add_argument('root', type=Path, help='folder that holds gtFine/')
    parser.add_argument('--split', nargs='+', default=['train', 'val'], choices=['train', 'val'], help='default: both')
    parser.add_argument('--workers', type=int, default=2, help='number of processes (default: 2)')
    cli.add_image_arguments(parser)
    return parser.parse_args()


def things() -> dict[str, dict[str, Any]]:
    """The 8 thing classes of the benchmark, by name."""
    kept = {name: label for name, label in name2label.items() if label.hasInstances and not label.ignoreInEval}
    return {
        name: {'id': label.id, 'name': name, 'supercategory': label.category, 'isthing': 1}
        for name, label in kept.items()
    }


def convert(path: Path) -> InstanceItem:
    """The instances of one file, from back to front.

    Raises:
        DatasetError: If the file cannot be read.
    """
    try:
        content = json.loads(path.read_text())
        size = int(content['imgHeight']), int(content['imgWidth'])
        check_pixels(*size, str(path))
        annotations = annotations_of(content['objects'], size)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise DatasetError(f'{path} cannot be read ({error!r}): fetch it again') from error
    image_id = path.name.removesuffix(SUFFIX)
    image = {'id': image_id, 'file_name': f'{path.parent.name}/{image_id}_leftImg8bit.png'}
    return InstanceItem(image | {'height': size[0], 'width': size[1]}, annotations)


def annotations_of(objects: list[dict[str, Any]], size: tuple[int, int]) -> list[dict[str, Any]]:
    """Annotations in COCO's format of the objects in a file, for an image of this height and width."""
    categories, annotations = things(), []
    for item in objects:
        name, polygon, deleted = item['label'], item['polygon'], item.get('deleted')
        is_group = name not in name2label and name.endswith('group')
        category = categories.get(name.removesuffix('group') if is_group else name)
        if category is None or deleted or len(polygon) < 3:
            continue
        mask = rle.encode(np.asfortranarray(draw(polygon, size)))
        if not (area := int(rle.area(mask))):
            continue
        annotations.append(
            {
                'category_id': category['id'],
                'area': area,
                'bbox': [int(value) for value in rle.toBbox(mask)],
                'iscrowd': int(is_group),
                'segmentation': {'size': list(size), 'counts': mask['counts'].decode()},
            }
        )
    return annotations


def run(args: argparse.Namespace) -> None:
    for split in args.split:
        folder = args.root / 'gtFine' / split
        paths = sorted(folder.glob(f'*/*{SUFFIX}'))
        if not paths:
            raise DatasetError(f'{folder} holds no CITY/*{SUFFIX}: unpack gtFine_trainvaltest.zip in {args.root}')
        out_json = args.root / 'gtFine' / f'cityscapes_polygons_{split}.json'
        items = tracked_map(convert, paths, args.workers, f'Polygons of {split}')
        dataset = write_instances(out_json, items, list(things().values()))
        print(f'{split}: {len(paths)} images, {len(dataset["annotations"])} instances: {out_json}')


if __name__ == '__main__':
    cli.run(lambda: run(parse_args()))
