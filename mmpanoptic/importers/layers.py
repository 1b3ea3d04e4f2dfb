"""Panoptic maps from overlapping shapes.

The order decides which shape lies on top:

- ``z``: the shape with the greater z; among equals, the rule of ``area``.
- ``area``: things on stuff, instances on crowds, and shapes with a smaller mask on those with a larger one; among
  equals, the shape later in the file.
- ``file``: the shape later in the file.

Maps of whole images always lie at the bottom.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
from pycocotools import mask as rle

from mmpanoptic.formats.panoptic_writer import distinct_id
from mmpanoptic.results.coco import CompressedMask
from mmpanoptic.structures import VOID_ID

from .records import Shape

ORDERS = ('z', 'area', 'file')


@dataclass(frozen=True)
class Layered:
    """A panoptic map.

    Attributes:
        ids: Segment ids of shape (H, W), int32, 0 where void.
        category_of_id: Category id by segment id, for everything that was drawn.
        crowd_ids: Segment ids of crowds.
        overlap: Number of pixels that more than one shape claims, without shapes of whole maps.
        hidden: Things that have no visible pixel.
    """

    ids: np.ndarray
    category_of_id: dict[int, int]
    crowd_ids: set[int]
    overlap: int
    hidden: list[Shape]


def merge_groups(shapes: Sequence[Shape]) -> list[Shape]:
    """Join the parts of an instance, which have the same label and group, to one shape at the place of the first.

    Args:
        shapes: Shapes with encoded masks.
    """
    merged: dict[Any, Shape] = {}
    for index, shape in enumerate(shapes):
        key = index if shape.group is None or shape.label is None else (shape.label, shape.group, shape.order)
        other = merged.get(key)
        if other is not None:
            first = cast(CompressedMask, other.mask)
            whole = rle.merge([first, shape.mask])
            heights = [part.z for part in (other, shape) if part.z is not None]
            shape = replace(
                other,
                mask=CompressedMask(size=first['size'], counts=whole['counts'].decode()),
                is_crowd=other.is_crowd or shape.is_crowd,
                z=max(heights, default=None),
            )
        merged[key] = shape
    return list(merged.values())


def stack(
    shapes: Sequence[Shape],
    size: tuple[int, int],
    categories: Mapping[str, Mapping[str, Any]],
    order: str,
    background: int | None = None,
) -> Layered:
    """Draw shapes from back to front.

    Args:
        shapes: Shapes with encoded masks; parts of instances are joined already.
        size: Height and width of their image.
        categories: Categories by name: ``id`` and ``isthing``.
        order: One of :data:`ORDERS`.
        background: Category of pixels that no shape claims; None: they are void.
    """
    is_thing = [shape.label is None or bool(categories[shape.label]['isthing']) for shape in shapes]
    areas = [int(rle.area(shape.mask)) for shape in shapes]

    def key(index: int) -> tuple:
        shape = shapes[index]
        by_area = (is_thing[index], not shape.is_crowd, -areas[index], index)
        return shape.order, *{'z': (shape.z or 0, *by_area), 'area': by_area, 'file': (index,)}[order]

    ids, claims = np.zeros(size, np.int32), np.zeros(size, np.uint8)
    category_of_id: dict[int, int] = {}
    id_of_stuff: dict[int, int] = {}
    shape_of_id: dict[int, Shape] = {}  # of things
    if background is not None:
        ids[:] = id_of_stuff[background] = distinct_id(1)
        category_of_id[distinct_id(1)] = background
    for index in sorted(range(len(shapes)), key=key):
        shape = shapes[index]
        x, y, width, height = (int(value) for value in rle.toBbox(shape.mask))
        box = slice(y, y + height), slice(x, x + width)
        mask = rle.decode(shape.mask).view(bool)[box]
        segment = VOID_ID
        if shape.label is not None:
            category, new = categories[shape.label]['id'], distinct_id(len(category_of_id) + 1)
            segment = new if is_thing[index] else id_of_stuff.setdefault(category, new)
            category_of_id[segment] = category
            if is_thing[index]:
                shape_of_id[segment] = shape
        ids[box][mask] = segment
        if not shape.order:
            claims[box] += mask & (claims[box] < 2)
    present = set(np.unique(ids).tolist())
    hidden = [shape for segment, shape in shape_of_id.items() if segment not in present]
    crowds = {segment for segment, shape in shape_of_id.items() if shape.is_crowd}
    return Layered(ids, category_of_id, crowds, int(np.count_nonzero(claims > 1)), hidden)
