"""A tiny dataset in COCO's format that has everything a dataset can have, to be broken by tests."""

import json
from pathlib import Path

import cv2
import numpy as np

from mmpanoptic.datasets import CocoPanopticDataset
from mmpanoptic.structures import id_to_rgb

# Stuff and things mixed: the labels are cat 0, dog 1, sky 2, road 3.
CATEGORIES = [
    {'id': 7, 'name': 'sky', 'isthing': 0},
    {'id': 3, 'name': 'cat', 'isthing': 1},
    {'id': 200, 'name': 'road', 'isthing': 0, 'color': [1, 2, 3]},
    {'id': 4, 'name': 'dog', 'isthing': 1},
]
# image id -> file name, (height, width), segments back to front: id, category id, (top, left, bottom, right), crowd
IMAGES = {
    10: (
        'a.png',
        (32, 40),
        [
            (5, 7, (0, 0, 16, 40), 0),
            (70000, 200, (16, 0, 30, 40), 0),  # the last two rows are void
            (300, 3, (10, 4, 20, 14), 0),
            (301, 3, (12, 10, 22, 26), 0),  # in front of 300
            (65536, 4, (4, 28, 10, 38), 1),
        ],
    ),
    20: ('b.jpg', (24, 36), [(5, 7, (0, 0, 12, 36), 0), (6, 200, (12, 0, 24, 36), 0)]),
    30: ('c.webp', (28, 30), [(1, 200, (0, 0, 28, 30), 0), (2**24 - 1, 4, (5, 6, 25, 27), 0)]),
}
ORDER = (30, 10, 20)  # of the annotations


class PanopticFiles:
    """Images, panoptic PNGs, ``panoptic.json`` and ``instances.json`` below ``root``; :meth:`save` after an edit."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.ids = {image_id: self._render(*IMAGES[image_id][1:]) for image_id in IMAGES}
        self.panoptic = {
            'images': [
                {'id': image_id, 'file_name': name, 'height': size[0], 'width': size[1]}
                for image_id, (name, size, _) in IMAGES.items()
            ],
            'annotations': [self._annotation(image_id) for image_id in ORDER],
            'categories': [dict(category) for category in CATEGORIES],
        }
        run_length = [12 * 40 + 6, 12, 32 * 40 - 12 * 40 - 18]  # uncompressed, column by column
        instances = [
            (10, 3, [4, 10, 10, 10], [[4, 10, 14, 10, 14, 20, 4, 20]], 0),
            (10, 3, [8, 8, 12, 12], [[8, 8, 20, 8, 20, 20, 8, 20]], 0),  # overlaps the first one
            (10, 4, [15, 6, 1, 12], {'size': [32, 40], 'counts': run_length}, 1),
            (30, 4, [6, 5, 21, 20], [[6, 5, 27, 5, 27, 25, 6, 25]], 0),
        ]
        self.instances = {
            'images': self.panoptic['images'],
            'annotations': [
                {'id': i, 'image_id': image, 'category_id': c, 'bbox': bbox, 'segmentation': mask, 'iscrowd': crowd}
                | {'area': bbox[2] * bbox[3]}
                for i, (image, c, bbox, mask, crowd) in enumerate(instances, 1)
            ],
            'categories': [{'id': c['id'], 'name': c['name']} for c in CATEGORIES if c['isthing']],
        }
        (root / 'images').mkdir()
        (root / 'panoptic').mkdir()
        rng = np.random.default_rng(0)
        for name, size, _ in IMAGES.values():
            noise = rng.integers(0, 256, (size[0] // 4, size[1] // 4, 3), np.uint8)
            cv2.imwrite(str(root / 'images' / name), cv2.resize(noise, size[::-1]))
        for image_id in self.ids:
            self.write_png(image_id)
        self.save()

    @staticmethod
    def _render(size: tuple[int, int], segments: list[tuple]) -> np.ndarray:
        ids = np.zeros(size, np.int32)
        for segment_id, _, (top, left, bottom, right), _ in segments:
            ids[top:bottom, left:right] = segment_id
        return ids

    def _annotation(self, image_id: int) -> dict:
        infos = []
        for segment_id, category_id, _, crowd in IMAGES[image_id][2]:
            rows, columns = np.nonzero(self.ids[image_id] == segment_id)
            x, y = int(columns.min()), int(rows.min())
            bbox = [x, y, int(columns.max()) - x + 1, int(rows.max()) - y + 1]
            infos.append(
                {'id': segment_id, 'category_id': category_id, 'iscrowd': crowd, 'area': len(rows), 'bbox': bbox}
            )
        return {'image_id': image_id, 'file_name': f'{image_id}.png', 'segments_info': infos}

    def png(self, image_id: int) -> Path:
        """Where an image's panoptic PNG lies."""
        return self.root / 'panoptic' / f'{image_id}.png'

    def image(self, image_id: int) -> Path:
        """Where an image lies."""
        return self.root / 'images' / IMAGES[image_id][0]

    def annotation(self, image_id: int) -> dict:
        """The panoptic annotation of an image."""
        return next(a for a in self.panoptic['annotations'] if a['image_id'] == image_id)

    def write_png(self, image_id: int) -> None:
        """Write ``self.ids[image_id]``."""
        assert cv2.imwrite(str(self.png(image_id)), id_to_rgb(self.ids[image_id])[..., ::-1])

    def save(self) -> None:
        """Write both JSON files."""
        for name in ('panoptic', 'instances'):
            (self.root / f'{name}.json').write_text(json.dumps(getattr(self, name)))

    def config(self, **options) -> dict:
        """The dataset's config."""
        return {
            'type': 'CocoPanopticDataset',
            'data_root': str(self.root),
            'ann_file': 'panoptic.json',
            'data_prefix': {'img': 'images'},
            'serialize_data': False,  # collecting garbage for it takes longer than all else
        } | options

    def dataset(self, **options) -> CocoPanopticDataset:
        """The dataset."""
        options = self.config(**options)
        del options['type']
        return CocoPanopticDataset(**options)
