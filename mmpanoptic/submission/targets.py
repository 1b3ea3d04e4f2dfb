"""Test sets with their servers, and the folder of files for a server.

Sources: docs/submit.md.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mmpanoptic.results.coco import CocoImage

from .files import write_coco_results, write_listed_instances, write_panoptic_results
from .image_lists import ImageList, cityscapes_images, coco_images, mapillary_images
from .predictions import Predictions
from .reading_back import check_coco_zip, check_listed_zip, check_panoptic_zip


class Target(NamedTuple):
    """A test set and its server.

    Attributes:
        title: Name of the test set.
        number: Number of images in the test set.
        images: Function that lists the images, from the folder of the data, a list of images or None, and a folder of
            images or None.
        panoptic: Name of the JSON, the folder and the zip of panoptic results; ``{name}`` stands for the method.
        instances: Name of the files of instance results.
        listing: End of the name of an image's text file, after the stem of the image; None if the server takes
            instances as COCO's results.
        number_of: Function from the id of a category to the number of the class in such a text file.
        address: Web page for the upload.
    """

    title: str
    number: int
    images: Callable[[str, str | None, str | None], ImageList]
    panoptic: str
    instances: str
    listing: str | None
    number_of: Callable[[int], int]
    address: str


def _same(category_id: int) -> int:
    return category_id


def _place_of_label(category_id: int) -> int:
    """Mapillary Vistas numbers labels from 0, our categories from 1 (tools/dataset_converters/mapillary.py)."""
    return category_id - 1


TARGETS = {
    'coco-test-dev': Target(
        'COCO test-dev2017', 20288, coco_images,
        'panoptic_test-dev2017_{name}_results', 'detections_test-dev2017_{name}_results', None, _same,
        'https://cocodataset.org/#upload',
    ),
    'cityscapes': Target(
        'Cityscapes test', 1525, cityscapes_images,
        'cityscapes_panoptic_test', 'cityscapes_instances_test', '_pred.txt', _same,
        'https://www.cityscapes-dataset.com/submit/',
    ),
    'mapillary': Target(
        'Mapillary Vistas test', 5000, mapillary_images,
        'mapillary_panoptic_test', 'mapillary_instances_test', '.txt', _place_of_label,
        'https://www.mapillary.com/dataset/vistas',
    ),
}  # fmt: skip


def fill(
    folder: Path,
    target: Target,
    name: str,
    panoptic: bool,
    images: Sequence[CocoImage],
    categories: Sequence[Mapping[str, Any]],
    predictions: Predictions,
) -> list[Path]:
    """Write all files for a server into an empty folder, and read the zips back.

    Args:
        folder: The folder.
        target: The test set and its server.
        name: Name of the method.
        panoptic: Whether the predictions are panoptic maps; otherwise instances.
        images: Entries of the images of the test set.
        categories: Categories of the model; only things for instance models.
        predictions: Prediction for each image.

    Returns:
        Paths of the zips to upload.

    Raises:
        UserError: If a prediction is missing, or a zip that was read back is wrong.
        OSError: If a file cannot be written.
    """
    number = len(images)
    if panoptic:
        stem = target.panoptic.format(name=name)
        zip_file = write_panoptic_results(folder, stem, images, predictions.read_all(number), categories)
        check_panoptic_zip(zip_file, stem, images, categories)
        return [zip_file]
    stem, ids = target.instances.format(name=name), [category['id'] for category in categories]
    if target.listing is None:
        written = write_coco_results(folder, stem, images, lambda: predictions.read_all(number))
        for zip_file, kind, results in written:
            check_coco_zip(zip_file, kind, images, ids, results)
        return [zip_file for zip_file, _, _ in written]
    found = predictions.read_all(number)
    zip_file = write_listed_instances(folder, stem, images, found, target.listing, target.number_of)
    check_listed_zip(zip_file, images, target.listing, [target.number_of(category_id) for category_id in ids])
    return [zip_file]
