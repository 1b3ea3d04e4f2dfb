"""A user's data: so many classes, in the folders that the starter configs look in."""

import json
from pathlib import Path

import cv2
import numpy as np

from mmpanoptic.structures import id_to_rgb

SIZE = 64, 96  # height and width
IMAGES = {'train': 4, 'val': 2}


def write_own_data(root: Path, things: int, stuff: int, empty: bool = False) -> Path:
    """Write panoptic and instances files of noise with bright rectangles; pixels without a class are void.

    Args:
        root: Folder to write into.
        things, stuff: Numbers of classes, named 'thing 0', ..., 'stuff 0', ...
        empty: Whether the first image of each split is without segments.
    """
    categories = [dict(id=k + 1, name=f'thing {k}', isthing=1) for k in range(things)]
    categories += [dict(id=1001 + k, name=f'stuff {k}', isthing=0) for k in range(stuff)]
    rng = np.random.default_rng(0)
    for split, number in IMAGES.items():
        (root / split).mkdir(parents=True)
        (root / f'annotations/panoptic_{split}').mkdir(parents=True)
        images, panoptic, instances = [], [], []
        for place in range(number):
            image = rng.integers(0, 120, (*SIZE, 3), np.uint8)
            ids, segments = np.zeros(SIZE, np.int32), {}
            if stuff and not (empty and place == 0):
                segments[1] = 1001 + place % stuff
                ids[32:] = 1
            for k in range(3 if things and not (empty and place == 0) else 0):
                top, left = 8 + 4 * k, 4 + 30 * k
                ids[top : top + 24, left : left + 20] = 10 + k
                image[top : top + 24, left : left + 20] += 120
                segments[10 + k] = 1 + (place + k) % things
            infos = [_segment(ids, segment, category) for segment, category in segments.items()]
            entry = dict(id=place, file_name=f'{place}.png', height=SIZE[0], width=SIZE[1])
            images.append(entry)
            panoptic.append(dict(image_id=place, file_name=f'{place}.png', segments_info=infos))
            instances += [_instance(info, place) for info in infos if info['category_id'] <= 1000]
            cv2.imwrite(str(root / split / f'{place}.png'), image)
            cv2.imwrite(str(root / f'annotations/panoptic_{split}/{place}.png'), id_to_rgb(ids)[..., ::-1])
        instances = [dict(one, id=number) for number, one in enumerate(instances, 1)]
        listed = [dict(id=one['id'], name=one['name']) for one in categories if one['isthing']]
        for kind, annotations, names in (('panoptic', panoptic, categories), ('instances', instances, listed)):
            content = dict(images=images, annotations=annotations, categories=names)
            (root / f'annotations/{kind}_{split}.json').write_text(json.dumps(content))
    return root


def _segment(ids: np.ndarray, segment: int, category: int) -> dict:
    rows, columns = np.nonzero(ids == segment)
    x, y = int(columns.min()), int(rows.min())
    bbox = [x, y, int(columns.max()) - x + 1, int(rows.max()) - y + 1]
    return dict(id=segment, category_id=category, iscrowd=0, area=len(rows), bbox=bbox)


def _instance(info: dict, image_id: int) -> dict:
    x, y, w, h = info['bbox']
    polygon = [x, y, x + w, y, x + w, y + h, x, y + h]
    kept = {key: info[key] for key in ('category_id', 'iscrowd', 'area', 'bbox')}
    return dict(kept, image_id=image_id, segmentation=[polygon])
