"""A list of test images as COCO distributes one, of the images of a tiny model."""

import json
from pathlib import Path

from mmpanoptic.datasets.shapes.categories import CATEGORIES

NAMES = {12: '12.png', 7: '07.png', 11: '11.jpg'}  # an odd number, in another order than that of the names
THINGS = [dict(id=one['id'], name=one['name']) for one in CATEGORIES if one['isthing']]


def write_list(path: Path, categories: list[dict], size: tuple[int, int] = (64, 96)) -> Path:
    """A list as COCO distributes that of test-dev, of images of ``size`` (height, width)."""
    height, width = size
    images = [
        dict(license=3, file_name=name, coco_url=f'http://images.cocodataset.org/test2017/{name}', height=height,
             width=width, date_captured='2013-11-14 17:02:52', id=number)
        for number, name in NAMES.items()
    ]  # fmt: skip
    path.write_text(json.dumps(dict(info={}, images=images, licenses=[], categories=categories)))
    return path
