"""Entries of COCO's files, as dictionaries with known keys.

Format: https://cocodataset.org/#format-data. Ids of images and categories are integers or strings; boxes are
``[x, y, width, height]`` in pixels. Classes with ``total=False`` hold the keys that an entry may lack.
"""

from typing import Any, TypedDict

Id = int | str


class CocoImage(TypedDict):
    """An entry of ``images``; ``height`` and ``width`` in pixels."""

    id: Id
    file_name: str
    height: int
    width: int


class _Category(TypedDict):
    id: Id
    name: str
    isthing: bool
    label: int


class Category(_Category, total=False):
    """A checked entry of ``categories``, with its contiguous label (thing classes first) and perhaps an RGB colour."""

    color: list[int]


class CheckedSegment(TypedDict):
    """A checked entry of ``segments_info``, with the label and kind of its category.

    ``area`` counts pixels; ``iscrowd`` is 0 or 1.
    """

    id: int
    label: int
    category_id: Id
    is_thing: bool
    iscrowd: int
    area: int | float
    bbox: list[float]


class _WrittenSegment(TypedDict):
    id: int
    category_id: Id | None
    area: int
    bbox: list[int]
    iscrowd: int


class WrittenSegment(_WrittenSegment, total=False):
    """An entry of ``segments_info`` to write; predictions may have scores."""

    score: float
    ranking_score: float
    similarity: float


class PanopticAnnotation(TypedDict):
    """An entry of ``annotations`` of a panoptic JSON: the PNG of one image and the segments of its ids."""

    image_id: Id
    file_name: str
    segments_info: list[dict[str, Any]]


class CompressedMask(TypedDict):
    """A mask as COCO's compressed run-length encoding; ``size`` is [height, width]."""

    size: list[int]
    counts: str


class InstanceAnnotation(TypedDict):
    """An entry to write into ``annotations`` of an instances JSON, still without ``id`` and ``image_id``."""

    category_id: Id
    area: int
    bbox: list[int]
    iscrowd: int
    segmentation: CompressedMask


class _Instance(TypedDict):
    image_id: Id
    category_id: Id | None
    score: float
    bbox: list[float]
    area: float
    iscrowd: int


class InstanceResult(_Instance, total=False):
    """An entry of COCO's results of detection; ``segmentation`` is a compressed RLE."""

    segmentation: dict[str, Any]
