"""Writing datasets in COCO's panoptic format: what the converters share.

A dataset is one JSON and a folder of PNGs, and a reader takes either for granted once the other is there. So both are
made beside their final place and moved there when all of it is complete.

Format: https://cocodataset.org/#format-data (4. Panoptic Segmentation).
"""

import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmpanoptic.structures import MAX_ID, VOID_ID
from mmpanoptic.utils import DatasetError, UserError

from .panoptic_json import parse_categories

# One step of the three-dimensional golden-ratio sequence, a byte each for red, green and blue: successive multiples
# spread evenly over the colour cube. It is odd, so the first 2**24 - 1 multiples are all different and none is void.
_COLOUR_STEP = 0x8CABD1


@dataclass(frozen=True)
class PanopticItem:
    """One image of a dataset in COCO's panoptic format.

    Attributes:
        image: Its entry in ``images``: ``id``, ``file_name``, ``width`` and ``height`` in pixels.
        png_name: File name of its PNG, without folder.
        png: The PNG's bytes.
        segments_info: Its segments: ``id``, ``category_id``, ``area``, ``bbox`` [x, y, w, h], ``iscrowd``.
    """

    image: dict[str, Any]
    png_name: str
    png: bytes
    segments_info: list[dict[str, Any]]


def distinct_id(k: int) -> int:
    """The segment id of an image's k-th segment, k = 1, 2, ...: unique within the image, its colour unlike its
    neighbours', the same in every run."""
    return k * _COLOUR_STEP & MAX_ID


def image_ids(paths: Iterable[str | Path]) -> list[int]:
    """The numbers that files are called by, as COCO's images are, if these are all different; else 1, 2, ..."""
    stems = [Path(path).stem for path in paths]
    ids = {int(stem) for stem in stems if stem.isascii() and stem.isdecimal()}
    return [int(stem) for stem in stems] if len(ids) == len(stems) else list(range(1, len(stems) + 1))


def segments_to_coco(
    id_map: np.ndarray, category_of_id: Mapping[int, int], crowd_ids: Iterable[int] = ()
) -> list[dict[str, Any]]:
    """``segments_info`` of a map of segment ids.

    Args:
        id_map: Segment ids of shape (H, W), 0 where void.
        category_of_id: Category id of every segment id; those without a pixel are left out.
        crowd_ids: Segment ids that are crowds.

    Returns:
        One dict a segment, in the order of ``category_of_id``: ``id``, ``category_id``, ``area`` in pixels, ``bbox``
        as [x, y, w, h] in pixels, ``iscrowd``.

    Raises:
        KeyError: If an id occurs that has no category; its argument is that id.
    """
    ys, xs = np.nonzero(id_map != VOID_ID)
    ids, index, areas = np.unique(id_map[ys, xs], return_inverse=True, return_counts=True)
    # Pixels come in row-major order, so rows need no search; columns do.
    low, high = np.full((2, len(ids)), max(id_map.shape, default=0)), np.full((2, len(ids)), -1)
    for axis, positions in enumerate((xs, ys)):
        np.minimum.at(low[axis], index, positions)
        np.maximum.at(high[axis], index, positions)
    crowd_ids = set(crowd_ids)
    position = {int(segment): i for i, segment in enumerate(ids)}
    for segment in position:
        if segment not in category_of_id:
            raise KeyError(segment)
    return [
        {
            'id': segment,
            'category_id': category,
            'area': int(areas[i]),
            'bbox': [*low[:, i].tolist(), *(high[:, i] - low[:, i] + 1).tolist()],
            'iscrowd': int(segment in crowd_ids),
        }
        for segment, category in category_of_id.items()
        if (i := position.get(segment)) is not None
    ]


def read_categories(path: str | Path) -> list[dict[str, Any]]:
    """The categories in a JSON file: a list in COCO's form, or a COCO dataset that holds one under ``categories``.

    Raises:
        UserError: If the file is missing or no such list, if an id is not a positive integer, or if
            :func:`~.panoptic_json.parse_categories` finds fault with it.
    """
    try:
        content = json.loads(Path(path).read_text())
    except (OSError, ValueError) as error:
        raise UserError(f'{path} cannot be read as JSON: {error}') from error
    categories = content.get('categories') if isinstance(content, dict) else content
    if not isinstance(categories, list) or not all(isinstance(category, dict) for category in categories):
        raise UserError(f'{path} holds no list of categories: write a list of {{"id": 1, "name": "...", "isthing": 1}}')
    parse_categories(categories, str(path))
    for category in categories:
        if type(category['id']) is not int or category['id'] < 1:
            raise UserError(f'{path}: category id {category["id"]!r} is no positive integer (0 is void)')
    return categories


def write_panoptic(
    out_json: str | Path,
    items: Iterable[PanopticItem],
    categories: Sequence[Mapping[str, Any]],
    panoptic_dir: str | Path | None = None,
) -> dict[str, Any]:
    """Write a dataset in COCO's panoptic format: all of it or, if an item cannot be had, nothing.

    Args:
        out_json: The JSON to write; folders above it are made.
        items: The images, in the order in which the JSON shall list them; consumed one by one.
        categories: ``categories`` of the JSON: ``id``, ``name``, ``isthing``, and whatever else.
        panoptic_dir: The folder for the PNGs; ``out_json`` without its suffix by default. What an earlier run wrote
            there is replaced.

    Returns:
        What the JSON holds.

    Raises:
        UserError: If ``out_json`` does not end in ``.json`` or is a folder, or if ``panoptic_dir`` holds anything but
            the PNGs of the present ``out_json``: nothing that was not written by such a call is ever deleted.
        DatasetError: If two items have the same image id or the same PNG name.
    """
    out_json = Path(out_json)
    if out_json.suffix != '.json':
        raise UserError(f'{out_json} does not end in .json: the PNGs would get its name')
    if out_json.is_dir():
        raise UserError(f'{out_json} is a folder: name a file')
    panoptic_dir = Path(panoptic_dir) if panoptic_dir else out_json.with_suffix('')
    _check_replaceable(panoptic_dir, out_json)
    staging = panoptic_dir.with_name(f'.{panoptic_dir.name}.incomplete')
    staged_json = out_json.with_name(f'.{out_json.name}.incomplete')
    shutil.rmtree(staging, ignore_errors=True)  # of a run that was killed
    out_json.parent.mkdir(parents=True, exist_ok=True)
    new, old = staging / 'new', staging / 'old'
    new.mkdir(parents=True)
    try:
        images, annotations = _write_items(items, new, out_json)
        content = {
            'info': {'panoptic_dir': os.path.relpath(panoptic_dir, out_json.parent)},
            'images': images,
            'annotations': annotations,
            'categories': [dict(category) for category in categories],
        }
        staged_json.write_text(json.dumps(content))
        if panoptic_dir.exists():
            panoptic_dir.rename(old)
        new.rename(panoptic_dir)
        os.replace(staged_json, out_json)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        staged_json.unlink(missing_ok=True)
    return content


def _write_items(
    items: Iterable[PanopticItem], png_dir: Path, out_json: Path
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Write the PNGs of items into a folder; give the ``images`` and ``annotations`` that ``out_json`` is to hold."""
    images, annotations = [], []
    seen = set()
    for item in items:
        for key in (('image id', item.image['id']), ('PNG', item.png_name)):
            if key in seen:
                raise DatasetError(f'{out_json}: {key[0]} {key[1]} occurs twice ({item.image["file_name"]})')
            seen.add(key)
        (png_dir / item.png_name).write_bytes(item.png)
        images.append(item.image)
        annotations.append(
            {'image_id': item.image['id'], 'file_name': item.png_name, 'segments_info': item.segments_info}
        )
    return images, annotations


def _check_replaceable(panoptic_dir: Path, out_json: Path) -> None:
    if panoptic_dir.exists() and not panoptic_dir.is_dir():
        raise UserError(f'{panoptic_dir} is no folder: name another one for the PNGs')
    present = {path.name for path in panoptic_dir.iterdir()} if panoptic_dir.exists() else set()
    if not present:
        return
    try:
        content = json.loads(out_json.read_text())
        if content['info']['panoptic_dir'] == os.path.relpath(panoptic_dir, out_json.parent):
            present -= {annotation['file_name'] for annotation in content['annotations']}
    except (OSError, ValueError, KeyError, TypeError):
        pass  # not by this function: the folder is somebody else's
    if present:
        raise UserError(
            f'{panoptic_dir} holds {min(present)}, which does not come from a conversion to {out_json}: move the '
            'folder away or name another one for the PNGs'
        )
