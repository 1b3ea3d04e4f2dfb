"""The files that test servers take, made of predictions.

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

Images = Sequence[Mapping[str, Any]]
Found = Iterable[Mapping[str, Any]]
_DATE = (1980, 1, 1, 0, 0, 0)  # of all files of a zip, so that the same predictions give the same bytes


def write_panoptic_results(
    folder: Path, name: str, images: Images, found: Found, categories: Sequence[Mapping[str, Any]]
) -> Path:
    """COCO's panoptic results: ``<name>.json``, ``<name>/`` with the PNGs, and ``<name>.zip`` with both.

    Args:
        folder: Where to write.
        name: See above.
        images: Entries of the images.
        found: What was predicted of each: ``segments_info`` and ``png``.
        categories: The model's: ``id``, ``name``, ``isthing``.

    Returns:
        The zip.

    Raises:
        OSError: If a file cannot be written.
    """
    pngs, out_json = folder / name, folder / f'{name}.json'
    pngs.mkdir()
    # Names alone: images of one name in two folders get their place in front.
    named = distinct_png_names(
        [PanopticItem(image, f'{Path(image["file_name"]).stem}.png', b'', []) for image in images]
    )
    items = (
        PanopticItem(dict(one.image), one.png_name, base64.b64decode(of_image['png']), of_image['segments_info'])
        for one, of_image in zip(named, found, strict=True)
    )
    content = fill_panoptic(pngs, items, categories, out_json, pngs)
    out_json.write_text(json.dumps(content))
    return write_zip(folder / f'{name}.zip', folder, [out_json.name, *(f'{name}/{one.png_name}' for one in named)])


def write_coco_results(
    folder: Path, name: str, images: Images, found: Callable[[], Found]
) -> list[tuple[Path, str, int]]:
    """COCO's results of instances, ``<kind>/<name>.json`` and ``<kind>/<name>.zip``: boxes and, if there are, masks.

    They are two files, as the server tells boxes from masks by the phase that is chosen, and takes the area of a mask
    for that of its box where there is one.

    Args:
        folder: Where to write.
        name: See above.
        images: Entries of the images.
        found: Gives what was predicted of each: ``instances`` and ``masks``.

    Returns:
        The zip of each kind, the kind ('bbox', 'segm'), and how many instances it holds.

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
                for one in of_image['instances']:
                    entry = dict(image_id=image['id'], category_id=one['category_id'], score=one[score])
                    file.write((',\n' if number else '[') + json.dumps(entry | {key: one[key]}))
                    number += 1
            file.write(']' if number else '[]')
        written.append((write_zip(folder / kind / f'{name}.zip', folder / kind, [out_json.name]), kind, number))
    return written


def write_listed_instances(
    folder: Path, name: str, images: Images, found: Found, listing: str, number_of: Callable[[int], int]
) -> Path:
    """What Cityscapes and Mapillary Vistas take of instances: a text an image, a PNG an instance, and a zip of all.

    Args:
        folder: Where to write ``<name>/`` and ``<name>.zip``.
        name: See above.
        images: Entries of the images.
        found: What was predicted of each: ``instances``, with masks.
        listing: What follows the stem of the image in the name of its text.
        number_of: The server's number of a class by the id of its category.

    Returns:
        The zip.

    Raises:
        OSError: If a file cannot be written.
    """
    (folder / name).mkdir()
    names = []
    for image, of_image in zip(images, found, strict=True):
        stem = Path(image['file_name']).stem
        numbers = [number_of(one['category_id']) for one in of_image['instances']]
        files = instance_files(stem, _as_tensors(image, of_image['instances']), numbers, f'{stem}{listing}')
        for file, content in files.items():
            (folder / name / file).write_bytes(content)
        names += files
    return write_zip(folder / f'{name}.zip', folder / name, names)


def _as_tensors(image: Mapping[str, Any], instances: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
    """Masks of shape (N, H, W) and scores of shape (N,), as a model predicts them."""
    masks = np.zeros((len(instances), image['height'], image['width']), np.uint8)
    for place, one in enumerate(instances):
        masks[place] = coco_masks.decode(one['segmentation'])
    scores = torch.tensor([one['mask_score'] for one in instances], dtype=torch.float64)
    return dict(masks=torch.from_numpy(masks), scores=scores)


def write_zip(path: Path, folder: Path, names: Iterable[str]) -> Path:
    """A zip of files of a folder, in their order, whose bytes depend on names and contents alone.

    PNGs are stored as they are, everything else is compressed.

    Returns:
        The zip.

    Raises:
        OSError: If a file cannot be read or written.
    """
    with zipfile.ZipFile(path, 'w') as file:
        for name in names:
            info = zipfile.ZipInfo(name, _DATE)
            info.create_system, info.external_attr = 3, 0o100644 << 16  # a readable file of Unix, wherever it is made
            info.compress_type = zipfile.ZIP_STORED if name.endswith('.png') else zipfile.ZIP_DEFLATED
            file.writestr(info, (folder / name).read_bytes())
    return path
