"""Write predictions as the files that test servers take.

Sources: docs/submit.md.
"""

import base64
import json
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pycocotools import mask as coco_masks

from mmpanoptic.evaluation.metrics.written_results import instance_files
from mmpanoptic.formats.panoptic_writer import PanopticItem, distinct_png_names, fill_panoptic
from mmpanoptic.results.coco import CocoImage

Images = Sequence[CocoImage]
#: Predictions of the images as :class:`~.predictions.Predictions` stores them.
Found = Iterable[Mapping[str, Any]]
_DATE = (1980, 1, 1, 0, 0, 0)  # date of all files in a zip, so that equal predictions give equal bytes


def write_panoptic_results(
    folder: Path, name: str, images: Images, found: Found, categories: Sequence[Mapping[str, Any]]
) -> Path:
    """Write COCO's panoptic results: ``<name>.json``, ``<name>/`` with the PNGs, and ``<name>.zip`` with both.

    Args:
        folder: Folder of the files.
        name: Name of the files.
        images: Entries of the images.
        found: Prediction for each image: ``segments_info`` and ``png``.
        categories: Categories of the model: ``id``, ``name``, ``isthing``.

    Returns:
        Path of the zip.

    Raises:
        OSError: If a file cannot be written.
    """
    pngs, out_json = folder / name, folder / f'{name}.json'
    pngs.mkdir()
    # Items without content, only to get distinct names: images of one name in two folders get their index in front.
    named = distinct_png_names(
        [PanopticItem(image, f'{Path(image["file_name"]).stem}.png', b'', []) for image in images]
    )
    items = (
        PanopticItem(item.image, item.png_name, base64.b64decode(of_image['png']), of_image['segments_info'])
        for item, of_image in zip(named, found, strict=True)
    )
    content = fill_panoptic(pngs, items, categories, out_json, pngs)
    out_json.write_text(json.dumps(content))
    return write_zip(folder / f'{name}.zip', folder, [out_json.name, *(f'{name}/{item.png_name}' for item in named)])


def write_coco_results(
    folder: Path, name: str, images: Images, found: Callable[[], Found]
) -> list[tuple[Path, str, int]]:
    """Write COCO's results of detection, ``<kind>/<name>.json`` and ``<kind>/<name>.zip``: boxes and, if any, masks.

    Boxes and masks have separate files. The server has a phase for each, and where a result has a mask, it uses the
    area of the mask also for the box.

    Args:
        folder: Folder of the files.
        name: Name of the files.
        images: Entries of the images.
        found: Function that returns the prediction for each image: ``instances`` and ``masks``.

    Returns:
        For each kind, the path of the zip, the kind ('bbox' or 'segm') and the number of instances.

    Raises:
        OSError: If a file cannot be written.
    """
    first = next(iter(found()), dict(masks=False))
    written = []
    for kind, key, score in (('bbox', 'bbox', 'score'), ('segm', 'segmentation', 'mask_score'))[: 1 + first['masks']]:
        (folder / kind).mkdir()
        out_json = folder / kind / f'{name}.json'
        with out_json.open('w', encoding='utf-8') as file:  # image by image: all of test-dev are two million instances
            number = 0
            for image, of_image in zip(images, found(), strict=True):
                for instance in of_image['instances']:
                    entry = dict(image_id=image['id'], category_id=instance['category_id'], score=instance[score])
                    file.write((',\n' if number else '[') + json.dumps(entry | {key: instance[key]}))
                    number += 1
            file.write(']' if number else '[]')
        written.append((write_zip(folder / kind / f'{name}.zip', folder / kind, [out_json.name]), kind, number))
    return written


def write_listed_instances(
    folder: Path, name: str, images: Images, found: Found, listing: str, number_of: Callable[[int], int]
) -> Path:
    """Write instances for Cityscapes and Mapillary Vistas: a text file per image, a PNG per instance, a zip of all.

    Args:
        folder: Folder of ``<name>/`` and ``<name>.zip``.
        name: Name of the files.
        images: Entries of the images.
        found: Prediction for each image: ``instances``, with masks.
        listing: End of a text file's name, after the stem of the image.
        number_of: Function from the id of a category to the server's number of the class.

    Returns:
        Path of the zip.

    Raises:
        OSError: If a file cannot be written.
    """
    (folder / name).mkdir()
    names: list[str] = []
    for image, of_image in zip(images, found, strict=True):
        stem = Path(image['file_name']).stem
        numbers = [number_of(instance['category_id']) for instance in of_image['instances']]
        files = instance_files(stem, _as_tensors(image, of_image['instances']), numbers, f'{stem}{listing}')
        for file, content in files.items():
            (folder / name / file).write_bytes(content)
        names += files
    return write_zip(folder / f'{name}.zip', folder / name, names)


def _as_tensors(image: CocoImage, instances: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
    """Masks of shape (N, H, W) and scores of shape (N,), as a model predicts them."""
    masks = np.zeros((len(instances), image['height'], image['width']), np.uint8)
    for place, instance in enumerate(instances):
        masks[place] = coco_masks.decode(instance['segmentation'])
    scores = torch.tensor([instance['mask_score'] for instance in instances], dtype=torch.float64)
    return dict(masks=torch.from_numpy(masks), scores=scores)


def write_zip(path: Path, folder: Path, names: Iterable[str]) -> Path:
    """Zip files of a folder in the given order. The bytes depend only on names and contents.

    PNGs are stored uncompressed, all other files are compressed.

    Returns:
        Path of the zip.

    Raises:
        OSError: If a file cannot be read or written.
    """
    with zipfile.ZipFile(path, 'w') as file:
        for name in names:
            info = zipfile.ZipInfo(name, _DATE)
            info.create_system, info.external_attr = 3, 0o100644 << 16  # a readable file of Unix, on any system
            info.compress_type = zipfile.ZIP_STORED if name.endswith('.png') else zipfile.ZIP_DEFLATED
            file.writestr(info, (folder / name).read_bytes())
    return path
