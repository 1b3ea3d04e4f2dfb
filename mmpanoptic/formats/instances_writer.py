"""Writing of datasets in COCO's instances format, for all converters of instance maps.

Format: https://cocodataset.org/#format-data (1. Object Detection).
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as rle

from mmpanoptic.results.coco import CocoImage, CompressedMask, Id, InstanceAnnotation
from mmpanoptic.structures.panoptic_map import run_starts
from mmpanoptic.utils import DatasetError, UserError, require_folder, sole_writer, write_whole


@dataclass(frozen=True)
class InstanceItem:
    """One image of a dataset in COCO's instances format.

    Attributes:
        image: Its entry in ``images``: ``id``, ``file_name``, ``width`` and ``height`` in pixels.
        annotations: Its instances as :func:`instances_to_coco` gives them, without ``id`` and ``image_id``.
    """

    image: CocoImage
    annotations: list[InstanceAnnotation]


def encode_instances(id_map: np.ndarray, ids: Iterable[int]) -> dict[int, CompressedMask]:
    """Encode the masks of many instances in one pass over their map, exactly as pycocotools encodes each mask.

    Args:
        id_map: Instance ids of shape (H, W), any integer type.
        ids: The ids to encode.

    Returns:
        COCO's compressed encoding (``size`` and ``counts``, a str) by id, in the order of ``ids``; ids without a pixel
        are left out.
    """
    flat = id_map.ravel(order='F')  # COCO counts down the columns
    starts = run_starts(flat)
    lengths = np.diff(starts, append=flat.size)
    values = flat[starts]
    order = np.argsort(values, kind='stable')
    present, first, number = np.unique(values[order], return_index=True, return_counts=True)
    runs_of = {int(i): order[k : k + n] for i, k, n in zip(present, first, number, strict=True)}
    encoded: dict[int, CompressedMask] = {}
    for i in ids:
        if i not in runs_of:
            continue
        ones = np.stack([starts[runs_of[i]], lengths[runs_of[i]]], axis=1)
        gaps_and_ones = ones.copy()
        gaps_and_ones[1:, 0] -= ones[:-1].sum(1)  # from the end of a run to the start of the next
        counts = gaps_and_ones.ravel().tolist()
        if (rest := flat.size - sum(counts)) > 0:
            counts.append(rest)
        height, width = id_map.shape
        mask = rle.frPyObjects({'size': [height, width], 'counts': counts}, height, width)
        encoded[i] = {'size': [height, width], 'counts': mask['counts'].decode()}
    return encoded


def instances_to_coco(
    id_map: np.ndarray, category_of_id: Mapping[int, Id], crowd_ids: Iterable[int] = ()
) -> list[InstanceAnnotation]:
    """Annotations of a map of instance ids.

    Args:
        id_map: Ids of shape (H, W); an id that ``category_of_id`` lacks is no instance.
        category_of_id: Category id of every instance id; those without a pixel are left out.
        crowd_ids: Ids that are crowds.

    Returns:
        One dict an instance, in the order of ``category_of_id``: ``category_id``, ``area`` in pixels, ``bbox`` as
        [x, y, w, h] in pixels, ``iscrowd``, ``segmentation`` (compressed RLE).
    """
    crowd_ids = set(crowd_ids)
    return [
        {
            'category_id': category_of_id[i],
            'area': int(rle.area(mask)),
            'bbox': [int(value) for value in rle.toBbox(mask)],
            'iscrowd': int(i in crowd_ids),
            'segmentation': mask,
        }
        for i, mask in encode_instances(id_map, category_of_id).items()
    ]


def write_instances(
    out_json: str | Path, items: Iterable[InstanceItem], categories: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Write a dataset in COCO's instances format: all of it or, if an item raises an error, nothing.

    Args:
        out_json: The JSON to write; folders above it are made.
        items: The images, in the order in which the JSON shall list them; consumed one by one.
        categories: ``categories`` of the JSON.

    Returns:
        Contents of the JSON. Annotation ids begin at 1, because pycocotools takes 0 for no match.

    Raises:
        UserError: If ``out_json`` is a folder, or another process writes to it.
        WriteError: If it cannot be written.
        DatasetError: If two items have the same image id.
    """
    out_json = Path(out_json)
    if out_json.is_dir():
        raise UserError(f'{out_json} is a folder: name a file')
    require_folder(str(out_json.parent), 'folder of the JSON')
    with sole_writer(out_json, 'JSON'):
        content = fill_instances(out_json, items, categories)
        write_whole(out_json, json.dumps(content))
    return content


def fill_instances(
    out_json: Path, items: Iterable[InstanceItem], categories: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Contents of the JSON that :func:`write_instances` writes.

    Raises:
        DatasetError: If two items have the same image id.
    """
    images: dict[Id, CocoImage] = {}
    annotations: list[dict[str, Any]] = []
    for item in items:
        image_id = item.image['id']
        if image_id in images:
            raise DatasetError(f'{out_json}: image id {image_id!r} occurs twice ({item.image["file_name"]})')
        images[image_id] = item.image
        for annotation in item.annotations:
            annotations.append({'id': len(annotations) + 1, 'image_id': image_id, **annotation})
    return {
        'images': list(images.values()),
        'annotations': annotations,
        'categories': [dict(category) for category in categories],
    }


def has_instances_of(out_json: str | Path, image_ids: Iterable[int | str]) -> bool:
    """Whether ``out_json`` is an instances JSON of exactly these images."""
    try:
        content = json.loads(Path(out_json).read_text())
        return 'annotations' in content and {image['id'] for image in content['images']} == set(image_ids)
    except (OSError, ValueError, KeyError, TypeError):
        return False
