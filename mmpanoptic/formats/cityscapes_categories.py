"""The classes that Cityscapes' benchmarks score.

https://github.com/mcordts/cityscapesScripts (``helpers/labels.py``)
"""

from typing import Any

from cityscapesscripts.helpers.labels import labels


def panoptic_categories() -> list[dict[str, Any]]:
    """The 8 thing and 11 stuff categories as createPanopticImgs writes them; ids are label ids, not train ids."""
    return [
        {
            'id': label.id,
            'name': label.name,
            'color': label.color,
            'supercategory': label.category,
            'isthing': int(label.hasInstances),
        }
        for label in labels
        if not label.ignoreInEval
    ]


def thing_categories() -> list[dict[str, Any]]:
    """The 8 categories of the instance benchmark."""
    return [category for category in panoptic_categories() if category['isthing']]
