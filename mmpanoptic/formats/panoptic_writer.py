"""Writing of datasets in COCO's panoptic format, for all converters.

A dataset is one JSON and a folder of PNGs, and a reader of one expects the other. So both are made beside their final
places and moved there when everything is complete (:func:`mmpanoptic.utils.whole_folder`).

Format: https://cocodataset.org/#format-data (4. Panoptic Segmentation).
"""

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mmpanoptic.results.coco import CocoImage, Id, WrittenSegment
from mmpanoptic.structures import MAX_ID, VOID_ID
from mmpanoptic.utils import DatasetError, UserError, check_replaceable, part_of, require_folder, whole_folder

from .panoptic_json import parse_categories

# One step of the three-dimensional golden-ratio sequence, a byte each for red, green and blue: successive multiples
# spread evenly over the colour cube. The step is odd, so the first 2**24 - 1 multiples are all different and none is 0
# (void).
_COLOUR_STEP = 0x8CABD1


@dataclass(frozen=True)
class PanopticItem:
    """One image of a dataset in COCO's panoptic format.

    Attributes:
        image: Its entry in ``images``: ``id``, ``file_name``, ``width`` and ``height`` in pixels.
        png_name: File name of its PNG, in the folder of PNGs.
        png: The PNG's bytes.
        segments_info: Its segments: ``id``, ``category_id``, ``area``, ``bbox`` [x, y, w, h], ``iscrowd``.
    """

    image: CocoImage
    png_name: str
    png: bytes
    segments_info: list[WrittenSegment]


def distinct_id(k: int) -> int:
    """The segment id of an image's k-th segment, k = 1, 2, ...

    Ids are unique within the image and the same in every run. Successive ids have unlike colours.
    """
    return k * _COLOUR_STEP & MAX_ID


def image_ids(paths: Iterable[str | Path]) -> list[int]:
    """The numbers in the file names, as in COCO, if every name is a number and all differ; else 1, 2, ..."""
    stems = [Path(path).stem for path in paths]
    ids = {int(stem) for stem in stems if stem.isascii() and stem.isdecimal()}
    return [int(stem) for stem in stems] if len(ids) == len(stems) else list(range(1, len(stems) + 1))


def distinct_png_names(items: Sequence[PanopticItem]) -> list[PanopticItem]:
    """Make the PNG names of all items distinct: a name that occurs several times gets the item's index in front."""
    number = Counter(item.png_name for item in items)
    return [
        replace(item, png_name=f'{place}_{item.png_name}') if number[item.png_name] > 1 else item
        for place, item in enumerate(items)
    ]


def segments_to_coco(
    id_map: np.ndarray, category_of_id: Mapping[int, Id], crowd_ids: Iterable[int] = ()
) -> list[WrittenSegment]:
    """``segments_info`` of a map of segment ids.

    Args:
        id_map: Segment ids of shape (H, W), 0 where void.
        category_of_id: Category id of every segment id; those without a pixel are left out.
        crowd_ids: Segment ids that are crowds.

    Returns:
        One dict a segment, in the order of ``category_of_id``: ``id``, ``category_id``, ``area`` in pixels, ``bbox``
        as [x, y, w, h] in pixels, ``iscrowd``.

    Raises:
        KeyError: If an id in the map has no category; the error's argument is that id.
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
    """Read categories from a JSON file: a list in COCO's form, or a COCO dataset with such a list in ``categories``.

    Raises:
        UserError: If the file is missing or holds no such list, if an id is not a positive integer, or if
            :func:`~.panoptic_json.parse_categories` refuses the list.
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
    """Write a dataset in COCO's panoptic format: all of it or, if an item raises an error, nothing.

    Args:
        out_json: The JSON to write; folders above it are made.
        items: The images, in the order in which the JSON shall list them; consumed one by one.
        categories: ``categories`` of the JSON: ``id``, ``name``, ``isthing``, and any other keys.
        panoptic_dir: The folder for the PNGs; ``out_json`` without its suffix by default. What an earlier run wrote
            there is replaced.

    Returns:
        Contents of the JSON.

    Raises:
        UserError: See :func:`check_places`; or if another process writes to one of them.
        WriteError: If they cannot be written.
        DatasetError: If two items have the same image id or the same PNG name.
    """
    out_json, panoptic_dir = check_places(out_json, panoptic_dir)
    with whole_folder(panoptic_dir, _maker(out_json, panoptic_dir), 'panoptic_dir', index=out_json) as folder:
        content = fill_panoptic(folder, items, categories, out_json, panoptic_dir)
        part_of(out_json).write_text(json.dumps(content))
    return content


def check_places(out_json: str | Path, panoptic_dir: str | Path | None = None) -> tuple[Path, Path]:
    """Refuse paths that :func:`write_panoptic` could not write to, before any item is made. Parent folders are made.

    Returns:
        The JSON and the folder of its PNGs.

    Raises:
        UserError: If ``out_json`` does not end in ``.json``, is a folder, or was not written by such a call; if
            ``panoptic_dir`` holds anything but the PNGs of ``out_json``; or if either cannot be written to.
    """
    out_json = Path(out_json)
    if out_json.suffix != '.json':
        raise UserError(f'{out_json} does not end in .json: the PNGs would get its name')
    if out_json.is_dir():
        raise UserError(f'{out_json} is a folder: name a file')
    panoptic_dir = Path(panoptic_dir) if panoptic_dir else out_json.with_suffix('')
    check_replaceable(panoptic_dir, _maker(out_json, panoptic_dir), 'panoptic_dir')
    if out_json.exists():
        try:
            replaceable = 'panoptic_dir' in json.loads(out_json.read_text())['info']
        except (OSError, ValueError, KeyError, TypeError):
            replaceable = False
        if not replaceable:
            raise UserError(f'{out_json} is there and was not written by mmpanoptic: move it away or name another file')
    require_folder(str(out_json.parent), 'folder of the JSON')
    require_folder(str(panoptic_dir.parent), 'folder above the PNGs')
    return out_json, panoptic_dir


def _maker(out_json: Path, panoptic_dir: Path) -> str:
    """The maker's name contains the JSON's path relative to the PNGs: JSON and PNGs may be moved together."""
    return f'the writer of {os.path.relpath(os.path.realpath(out_json), os.path.realpath(panoptic_dir.parent))}'


def fill_panoptic(
    folder: Path,
    items: Iterable[PanopticItem],
    categories: Sequence[Mapping[str, Any]],
    out_json: Path,
    panoptic_dir: Path,
) -> dict[str, Any]:
    """Write the PNGs of items into a folder.

    Args:
        folder: The folder, for now.
        items: See :func:`write_panoptic`.
        categories: See :func:`write_panoptic`.
        out_json: Final path of the JSON.
        panoptic_dir: Final path of the folder of PNGs.

    Returns:
        Contents of the JSON.

    Raises:
        OSError: If a PNG cannot be written.
        DatasetError: If two items have the same image id or the same PNG name.
    """
    images, annotations = [], []
    seen = set()
    for item in items:
        for key in (('image id', item.image['id']), ('PNG', item.png_name)):
            if key in seen:
                raise DatasetError(f'{out_json}: {key[0]} {key[1]} occurs twice ({item.image["file_name"]})')
            seen.add(key)
        place = folder / item.png_name
        if not place.parent.exists():  # of a name with folders
            place.parent.mkdir(parents=True)
        place.write_bytes(item.png)
        images.append(item.image)
        annotations.append(
            {'image_id': item.image['id'], 'file_name': item.png_name, 'segments_info': item.segments_info}
        )
    return {
        'info': {'panoptic_dir': os.path.relpath(panoptic_dir, out_json.parent)},
        'images': images,
        'annotations': annotations,
        'categories': [dict(category) for category in categories],
    }
