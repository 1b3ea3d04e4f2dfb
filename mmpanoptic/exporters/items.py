"""COCO panoptic files, ground truth or predictions, image by image."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from mmpanoptic.formats.file_sources import FileSource, read_json_of
from mmpanoptic.formats.images import check_size, loaded_size
from mmpanoptic.formats.panoptic_json import annotations_by_image, parse_categories, parse_segments
from mmpanoptic.formats.panoptic_png import decode_panoptic_png, segment_runs
from mmpanoptic.results.coco import Category, CheckedSegment, CocoImage, Id, PanopticAnnotation
from mmpanoptic.utils import DatasetError
from mmpanoptic.utils.paths import safe_name


@dataclass(frozen=True)
class Item:
    """An image and its segments.

    Attributes:
        name: Its name, with folders.
        image_id: Its id.
        ids: Segment ids of shape (H, W), 0 where void.
        segments: Checked segments (:func:`~mmpanoptic.formats.panoptic_json.parse_segments`) that have pixels.
    """

    name: str
    image_id: Id
    ids: np.ndarray
    segments: list[CheckedSegment]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.ids.shape

    def masks(self) -> Iterator[tuple[int, CheckedSegment, np.ndarray]]:
        """Index, segment and mask (bool of shape (H, W)) of every segment."""
        for number, segment in enumerate(self.segments):
            yield number, segment, self.ids == segment['id']


class PanopticFiles:
    """A JSON in COCO's panoptic format, the folder of its PNGs and the folder of its images; picklable.

    Args:
        json_file: The JSON, or a zip with it, as ``predict`` and ``submit`` write them.
        png_folder: The folder of the PNGs, or the zip.
        images: The folder of the images.

    Raises:
        UserError: If the JSON cannot be read.
        DatasetError: If it is no panoptic JSON, has no annotations, or a ``file_name`` leaves its folder.
    """

    def __init__(self, json_file: Path, png_folder: Path, images: Path) -> None:
        content = read_json_of(json_file)
        self.json_file, self.images, self.pngs = str(json_file), images, FileSource(png_folder)
        self.categories = parse_categories(content.get('categories'), self.json_file)
        pairs = annotations_by_image(content, self.json_file)
        self.pairs = [(image, annotation) for image, annotation in pairs if annotation is not None]
        if len(self.pairs) < len(pairs):
            raise DatasetError(f'{json_file} has no annotations: name a JSON with labels or predictions')
        for image, _ in self.pairs:
            if safe_name(image['file_name']) is None:
                raise DatasetError(f'{json_file}: image {image["file_name"]!r} leaves its folder: mend its file_name')

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the list of images: each process gets its images one by one."""
        return {key: value for key, value in self.__dict__.items() if key != 'pairs'}

    @cached_property
    def category_of(self) -> dict[Id, Category]:
        """Parsed categories by id."""
        return {category['id']: category for category in self.categories}

    @staticmethod
    def image_name(image: CocoImage) -> str:
        """The name of an image below its folder."""
        name = safe_name(image['file_name'])
        assert name is not None  # checked when the JSON was read
        return name

    def image_path(self, image: CocoImage) -> Path:
        """The file of an image."""
        return self.images / self.image_name(image)

    def load(self, pair: tuple[CocoImage, PanopticAnnotation]) -> Item:
        """Load the segments of an image.

        Raises:
            DatasetError: If a file is missing, or image, PNG and JSON do not fit together.
        """
        image, annotation = pair
        size, path = (image['height'], image['width']), self.image_path(image)
        if not path.is_file():
            raise DatasetError(f'{path} does not exist (image id {image["id"]!r} of {self.json_file}): name the folder')
        check_size(loaded_size(path), size, str(path), f'in {self.json_file} it is')
        segments = parse_segments(annotation, self.category_of, self.json_file)
        name = annotation['file_name']
        ids = decode_panoptic_png(self.pngs.read(name, self.json_file, DatasetError), self.pngs.place(name), size)
        indices, _ = segment_runs(ids, segments, self.pngs.place(name))
        present = set(np.unique(indices).tolist())
        kept = [segment for index, segment in enumerate(segments, 1) if index in present]
        return Item(self.image_name(image), image['id'], ids, kept)
