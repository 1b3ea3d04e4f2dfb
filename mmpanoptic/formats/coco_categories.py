"""COCO's categories, for models whose weights come without them."""

import mmpanoptic.registry  # noqa: F401  (before mmdet, whose notices it drops)

# isort: split
from mmdet.datasets import CocoPanopticDataset

from .panoptic_json import dataset_meta, parse_categories

# COCO's thing ids are 1 to 90, without these ten. https://cocodataset.org/#panoptic-eval
_NO_THING = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
_THING_IDS = [number for number in range(1, 91) if number not in _NO_THING]
# fmt: off
_STUFF_IDS = [
    92, 93, 95, 100, 107, 109, 112, 118, 119, 122, 125, 128, 130, 133, 138, 141, 144, 145, 147, 148, 149, 151, 154, 155,
    156, 159, 161, 166, 168, 171, 175, 176, 177, 178, 180, 181, 184, 185, 186, 187, 188, 189, 190, 191, 192, 193, 194,
    195, 196, 197, 198, 199, 200,
]
# fmt: on


def coco_meta(with_stuff: bool) -> dict:
    """The ``metainfo`` of a dataset with COCO's 80 thing classes and, if asked for, its 53 stuff classes.

    Returns:
        dict: See :func:`~mmpanoptic.formats.panoptic_json.dataset_meta`.
    """
    names = CocoPanopticDataset.METAINFO
    categories = [
        dict(id=number, name=name, isthing=isthing)
        for numbers, key, isthing in ((_THING_IDS, 'thing_classes', 1), (_STUFF_IDS, 'stuff_classes', 0))
        for number, name in zip(numbers, names[key], strict=True)
        if isthing or with_stuff
    ]
    return dataset_meta(parse_categories(categories, 'COCO'))
