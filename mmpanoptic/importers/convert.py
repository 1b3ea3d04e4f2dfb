"""Conversion of one image's labels to a panoptic map, and to instances whose masks may overlap."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
from pycocotools import mask as rle

from mmpanoptic.formats.images import check_size, loaded_size
from mmpanoptic.formats.instances_writer import InstanceItem
from mmpanoptic.formats.panoptic_png import encode_panoptic_png
from mmpanoptic.formats.panoptic_writer import PanopticItem, segments_to_coco
from mmpanoptic.results.coco import CocoImage, CompressedMask, InstanceAnnotation
from mmpanoptic.structures import VOID_ID
from mmpanoptic.utils import DatasetError

from .layers import Layered, merge_groups, stack
from .rasterise import rasterise
from .records import LabelledImage, LeftOut, Shape
from .sources import reading


@dataclass(frozen=True)
class Rules:
    """Rules for making a panoptic map from labels.

    Attributes:
        categories: Categories by name: ``id`` and ``isthing``.
        order: See :mod:`.layers`.
        background: Category id of pixels without a label; None: void.
        listed: Name of the list of classes, for the report.
    """

    categories: Mapping[str, Mapping[str, Any]]
    order: str
    background: int | None = None
    listed: str = 'the classes'


@dataclass(frozen=True)
class Converted:
    """The result for one image.

    Attributes:
        panoptic: Its item of the panoptic dataset; None if the image was left out.
        instances: Its item of the instances dataset; None if the image was left out.
        left_out: Parts of its labels that were left out, or the whole image.
        overlap: Number of pixels that several shapes claim.
        void: Number of pixels of no segment.
        pixels: Number of all pixels.
        hidden: Number of things that others cover completely.
    """

    panoptic: PanopticItem | None = None
    instances: InstanceItem | None = None
    left_out: list[LeftOut] = field(default_factory=list)
    overlap: int = 0
    void: int = 0
    pixels: int = 0
    hidden: int = 0


def convert(job: tuple[LabelledImage, int | str, str], rules: Rules) -> Converted:
    """Convert an image; if its labels are damaged, the whole image is left out.

    A shape without a valid mask is left out, and its pixels are void: as background they would be wrong labels.

    Args:
        job: The image, its id, and the name of its PNG.
        rules: Rules for its panoptic map.
    """
    image, image_id, png_name = job
    try:
        with reading(f'{image.file}: image {image.name}'):
            return _convert(image, image_id, png_name, rules)
    except DatasetError as error:
        return Converted(left_out=[*image.left_out, LeftOut(image.file, f'image {image.name}', str(error))])


def _convert(image: LabelledImage, image_id: int | str, png_name: str, rules: Rules) -> Converted:
    size = loaded_size(image.path)
    if image.size is not None:
        check_size(image.size, size, f'{image.file}: the labelled image {image.name}', f'{image.path} as it is loaded')
    shapes, missing = image.load(size) if image.load else (list(image.shapes), [])
    left_out = [*image.left_out, *missing]
    encoded = []
    for shape in shapes:
        where = f'{image.file}: {shape.what} of {image.name}'
        mask, reason = rasterise(shape.mask, size, where)
        reason = shape.left_out or reason
        if reason is None and shape.label is not None and shape.label not in rules.categories:
            reason = f'its class {shape.label!r} is not in {rules.listed}'
        if reason is not None:
            left_out.append(LeftOut(image.file, f'{shape.what} of {image.name}', reason))
        encoded.append(replace(shape, mask=mask, label=shape.label if reason is None else None))
    merged = merge_groups(encoded)
    layered = stack(merged, size, rules.categories, rules.order, rules.background)
    entry = CocoImage(id=image_id, file_name=image.name, width=size[1], height=size[0])
    return Converted(
        PanopticItem(
            entry,
            png_name,
            encode_panoptic_png(layered.ids),
            segments_to_coco(layered.ids, layered.category_of_id, layered.crowd_ids),
        ),
        InstanceItem(entry, _instances(merged, rules.categories)),
        left_out,
        layered.overlap,
        *_numbers(layered),
    )


def _numbers(layered: Layered) -> tuple[int, int, int]:
    return int(np.count_nonzero(layered.ids == VOID_ID)), layered.ids.size, len(layered.hidden)


def _instances(shapes: Sequence[Shape], categories: Mapping[str, Mapping[str, Any]]) -> list[InstanceAnnotation]:
    """Annotations of things with their whole, encoded masks, in the order of the file."""
    return [
        {
            'category_id': categories[shape.label]['id'],
            'area': int(rle.area(shape.mask)),
            'bbox': [int(value) for value in rle.toBbox(shape.mask)],
            'iscrowd': int(shape.is_crowd),
            'segmentation': cast(CompressedMask, shape.mask),
        }
        for shape in shapes
        if shape.label is not None and categories[shape.label]['isthing']
    ]
