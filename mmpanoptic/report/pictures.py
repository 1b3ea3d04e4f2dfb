"""Choose the images of a report and encode them: JPEGs, and maps of segments that the page colours."""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mmpanoptic.drawing.draw import segment_indices
from mmpanoptic.drawing.encode import encode_jpeg, encode_png
from mmpanoptic.formats.file_sources import FileSource, read_json_of
from mmpanoptic.formats.panoptic_png import decode_panoptic_png
from mmpanoptic.structures import id_to_rgb
from mmpanoptic.utils import DatasetError, UserError
from mmpanoptic.visualization.files import read_image

WORST, TYPICAL, BEST, COSTLY, CHANGED = 'worst', 'typical', 'best', 'most points lost', 'changed most'


def choose_images(images: Sequence[Mapping[str, Any]], number: int) -> dict[int, list[str]]:
    """Choose the images to show, with reasons.

    Images are ranked in several ways: worst, best and most typical quality (nearest to the median), most points lost
    and, with two sets of predictions, largest difference in quality. The rankings take turns until there are enough
    images. The top images of each ranking get its name as a reason.

    Args:
        images: See :func:`~.contents.contents_of`.
        number: Number of images to choose.

    Returns:
        Reasons by index into ``images``, ascending.
    """
    known = [place for place, image in enumerate(images) if image['quality'][0] is not None]
    quality = {place: images[place]['quality'][0] for place in known}
    middle = float(np.median(list(quality.values()))) if known else 0.0
    lost = {place: sum(entry[3] for entry in images[place]['lost'][0]) for place in known}
    orders = {
        WORST: sorted(known, key=lambda k: quality[k]),
        COSTLY: sorted(known, key=lambda k: -lost[k]),
        TYPICAL: sorted(known, key=lambda k: abs(quality[k] - middle)),
        BEST: sorted(known, key=lambda k: -quality[k]),
    }
    if images and len(images[0]['quality']) > 1:
        # Quality is None without segments, and thus without errors.
        other = {k: 100.0 if (value := images[k]['quality'][1]) is None else value for k in known}
        orders[CHANGED] = sorted(known, key=lambda k: -abs(quality[k] - other[k]))
    quota = -(-min(number, len(known)) // len(orders))
    chosen: dict[int, list[str]] = {}
    for rank in range(len(known)):
        for reason, order in orders.items():
            if order[rank] not in chosen and len(chosen) == number:
                continue
            reasons = chosen.setdefault(order[rank], [])
            reasons += [reason] if rank < quota else []
        if len(chosen) == number and rank + 1 >= quota:
            break
    return dict(sorted(chosen.items()))


def pictures_of(
    chosen: Sequence[Any],
    gt_data: Mapping[str, Any],
    gt_dir: str | Path,
    predictions: Sequence[tuple[str | Path, str | Path]],
    rows: Sequence[Mapping[Any, Sequence[Mapping]]],
    images: str | Path,
    max_side: int = 640,
) -> list[dict]:
    """Pictures of images, with the ground truth and the predictions.

    Args:
        chosen: Ids of the images.
        gt_data: The JSON of the ground truth.
        gt_dir: Folder or zip of the PNGs of the ground truth.
        predictions: JSON and folder of each set of predictions.
        rows: For each set, its segments by image, see :func:`~mmpanoptic.evaluation.account.lost_segments`.
        images: Folder of the images.
        max_side: Longest side of a picture in pixels; larger images are shrunk.

    Returns:
        For each image, a dict with:

        - ``width``, ``height`` and ``image``, a JPEG;
        - ``truth``, the map of the ground truth, and ``runs``, a list with the map of each set of predictions.

        A map is a dict with ``png`` and ``segments``. Pixels of the PNG are R + 256 G = index into ``segments`` + 1; 0
        is void. A segment has ``category`` (id) and, in the ground truth, ``states``, one for each set, or, in a
        prediction, ``state``. A state is a dict with ``kind`` ('match', 'missed', 'extra', or 'crowd' and 'excused',
        which do not count), ``iou``, ``cause`` and ``partner``, the index + 1 of the segment that it matches or that
        its cause involves, 0 if there is none. Binary data are data URLs.

    Raises:
        UserError: If an image is missing, or does not have the size of its map.
    """
    named = {image['id']: image for image in gt_data['images']}
    truths = {annotation['image_id']: annotation for annotation in gt_data['annotations']}
    sources = [FileSource(gt_dir), *(FileSource(folder) for _, folder in predictions)]
    predicted = [{a['image_id']: a for a in read_json_of(path)['annotations']} for path, _ in predictions]
    return [
        _picture(
            named[image],
            [truths[image], *(by_image[image] for by_image in predicted)],
            sources,
            [found.get(image, ()) for found in rows],
            images,
            max_side,
        )
        for image in chosen
    ]


def _picture(
    image: Mapping[str, Any],
    annotations: Sequence[Mapping[str, Any]],
    sources: Sequence[FileSource],
    rows: Sequence[Sequence[Mapping]],
    images: str | Path,
    max_side: int,
) -> dict:
    """Pictures of one image; ``annotations`` and ``sources`` are those of the ground truth, then of each prediction."""
    size, path = (image['height'], image['width']), str(Path(images, image['file_name']))
    drawn = read_image(path)
    if drawn.shape[:2] != size:
        raise DatasetError(
            f'{path} is {drawn.shape[0]}x{drawn.shape[1]}, its annotation says {size[0]}x{size[1]}: name the folder of '
            'the images that were annotated by --images'
        )
    shrunk = _shrunk_size(size, max_side)
    pngs = [_map(source, annotation, size, shrunk) for source, annotation in zip(sources, annotations, strict=True)]
    places = [
        {segment['id']: k for k, segment in enumerate(annotation['segments_info'], 1)} for annotation in annotations
    ]
    truth, *predicted = annotations
    segments = [
        dict(
            category=segment['category_id'],
            states=[_of_truth(segment, found, run_places) for found, run_places in zip(rows, places[1:], strict=True)],
        )
        for segment in truth['segments_info']
    ]
    runs = [
        [
            dict(category=segment['category_id'], state=_of_prediction(segment, found, places[0]))
            for segment in annotation['segments_info']
        ]
        for annotation, found in zip(predicted, rows, strict=True)
    ]
    return dict(
        width=shrunk[0],
        height=shrunk[1],
        image=_url(encode_jpeg(_shrink(drawn, shrunk, cv2.INTER_AREA), 80), 'jpeg'),
        truth=dict(png=pngs[0], segments=segments),
        runs=[dict(png=png, segments=run_segments) for png, run_segments in zip(pngs[1:], runs, strict=True)],
    )


def _of_truth(segment: Mapping, rows: Sequence[Mapping], places: Mapping[int, int]) -> dict:
    row = next((row for row in rows if row['gt_id'] == segment['id'] and row['kind'] != 'extra'), None)
    return _state(row, 'pred_id', places, 'crowd')


def _of_prediction(segment: Mapping, rows: Sequence[Mapping], places: Mapping[int, int]) -> dict:
    row = next((row for row in rows if row['pred_id'] == segment['id'] and row['kind'] != 'missed'), None)
    return _state(row, 'gt_id', places, 'excused')


def _state(row: Mapping | None, partner: str, places: Mapping[int, int], otherwise: str) -> dict:
    if row is None:
        return dict(kind=otherwise, iou=None, cause=None, partner=0)
    return dict(kind=row['kind'], iou=row['iou'], cause=row['cause'], partner=places.get(row[partner], 0))


def _map(source: FileSource, annotation: Mapping, size: tuple[int, int], shrunk: tuple[int, int]) -> str:
    name = annotation['file_name']
    ids = decode_panoptic_png(source.read(name, 'the JSON', UserError), source.place(name), size)
    indices = segment_indices(ids, annotation['segments_info'])
    return _url(encode_png(id_to_rgb(_shrink(indices, shrunk, cv2.INTER_NEAREST).astype(np.int32))), 'png')


def _shrunk_size(size: tuple[int, int], max_side: int) -> tuple[int, int]:
    """Width and height."""
    factor = min(1.0, max_side / max(size))
    return max(1, round(size[1] * factor)), max(1, round(size[0] * factor))


def _shrink(image: np.ndarray, size: tuple[int, int], interpolation: int) -> np.ndarray:
    return image if image.shape[1::-1] == size else cv2.resize(image, size, interpolation=interpolation)


def _url(data: bytes, kind: str) -> str:
    return f'data:image/{kind};base64,{base64.b64encode(data).decode()}'
