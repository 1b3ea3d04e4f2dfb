"""Make a COCO instances JSON from the distributed files of Mapillary Vistas.

ROOT holds config.json and {training,validation}/{images,instances}/. Values of the 16-bit instance PNGs are 256 times
the index of the label in config.json plus the number of the instance. The thing classes are the labels that config.json
marks as `instances` (37 in v1.2). The archive of v2.0 can be used with the classes of v1.2: config_v1.2.json and
SPLIT/v1.2/instances/. The images for the test server, testing/images/, have no instances. The result is
ROOT/annotations/instances_SPLIT.json; category ids are indices of labels plus one.

https://www.mapillary.com/dataset/vistas
"""

import argparse
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mmpanoptic.engine import cli
from mmpanoptic.formats.images import image_size, load_label_map
from mmpanoptic.formats.instances_writer import (
    InstanceItem,
    has_instances_of,
    instances_to_coco,
    write_instances,
)
from mmpanoptic.importers.mapillary import IDS_PER_LABEL, find_images, find_layout, read_labels
from mmpanoptic.utils import DatasetError, tracked_map


def thing_categories(labels: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Categories in COCO's format of the labels that have instances."""
    return [
        {
            'id': place + 1,
            'name': label['readable'],
            'supercategory': label['name'],
            'isthing': 1,
            'color': list(label['color']),
        }
        for place, label in enumerate(labels)
        if label['instances']
    ]


def convert(stem: str, folder: Path, instances: str, labels: list[dict[str, Any]]) -> InstanceItem:
    """Convert one image of the split in ``folder``."""
    image, instance_map = folder / 'images' / f'{stem}.jpg', folder / instances / f'{stem}.png'
    height, width = image_size(image)  # size as stored: instance maps are not rotated by EXIF tags either
    entry = {'id': stem, 'file_name': image.name, 'width': width, 'height': height}
    if folder.name == 'testing':
        return InstanceItem(entry, [])
    values = load_label_map(instance_map, (height, width), 'its image')
    if values.ndim != 2:
        raise DatasetError(f'{instance_map} is of shape {values.shape}, no map of one channel: fetch it again')
    present = np.flatnonzero(np.bincount(values.ravel(), minlength=1)).tolist()
    if present and present[-1] // IDS_PER_LABEL >= len(labels):
        raise DatasetError(
            f'{instance_map} holds {present[-1]}, that is label {present[-1] // IDS_PER_LABEL}; the configuration has '
            f'{len(labels)} labels: do not mix versions'
        )
    category_of_id = {
        value: value // IDS_PER_LABEL + 1 for value in present if labels[value // IDS_PER_LABEL]['instances']
    }
    return InstanceItem(entry, instances_to_coco(values, category_of_id))


def run(args: argparse.Namespace) -> None:
    config, instances = find_layout(args.root)
    labels = read_labels(config)
    categories = thing_categories(labels)
    stems_of = {split: find_images(args.root, split, instances) for split in args.split}
    print(f'{len(categories)} of {len(labels)} labels have instances')
    for split, stems in stems_of.items():
        out_json = args.root / 'annotations' / f'instances_{split}.json'
        if has_instances_of(out_json, stems):
            print(f'{split}: {out_json} is complete ({len(stems)} images); delete it to make it again')
            continue
        job = partial(convert, folder=args.root / split, instances=instances, labels=labels)
        items = tracked_map(job, stems, args.workers, f'Converting {split}')
        dataset = write_instances(out_json, items, categories)
        print(f'{split}: {len(stems)} images, {len(dataset["annotations"])} instances: {out_json}')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split('\n\n')[0])
    parser.add_argument('root', type=Path, help='folder that holds config.json, training/ and validation/')
    splits = ['training', 'validation', 'testing']
    parser.add_argument('--split', nargs='+', default=splits[:2], choices=splits, help='default: the first two')
    parser.add_argument('--workers', type=int, default=2, help='number of processes (default: 2)')
    cli.add_image_arguments(parser)
    return parser.parse_args()


if __name__ == '__main__':
    cli.run(lambda: run(parse_args()))
