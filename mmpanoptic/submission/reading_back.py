"""Read zips for test servers back before they are put in place, and refuse what a server would refuse."""

import math
import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mmpanoptic.formats.file_sources import FileSource, read_json_of
from mmpanoptic.formats.images import check_size, decoding, image_size
from mmpanoptic.formats.json_checks import check_bbox, check_types
from mmpanoptic.formats.masks import check_mask
from mmpanoptic.formats.panoptic_json import annotations_by_image, parse_categories, parse_json, parse_segments
from mmpanoptic.formats.panoptic_png import decode_panoptic_png, segment_runs
from mmpanoptic.results.coco import Category, CocoImage, Id, PanopticAnnotation
from mmpanoptic.utils import DatasetError, tracked_map

Images = Sequence[CocoImage]
_LARGEST = 2**34  # bytes of a JSON of results


def check_panoptic_zip(path: Path, name: str, images: Images, categories: Sequence[Mapping[str, Any]]) -> None:
    """Check that a zip holds ``<name>.json`` and ``<name>/`` with one map for each image.

    Every map is decoded. Its size, ids and areas must be those in the JSON.

    Args:
        path: The zip.
        name: Name of the JSON and the folder.
        images: Entries of the images, in the order of the JSON.
        categories: Categories of the model.

    Raises:
        DatasetError: If the zip is wrong; it names the file and the image.
    """
    content = read_json_of(path)
    where = f'{path}/{name}.json'
    pairs = annotations_by_image(content, where)
    _same([image['id'] for image, _ in pairs], [image['id'] for image in images], f'{where}: images')
    annotations = [annotation for _, annotation in pairs if annotation is not None]
    if not annotations:
        raise DatasetError(f'{where} holds no annotations: every image needs one')
    _check_names(path, [f'{name}.json', *(f'{name}/{annotation["file_name"]}' for annotation in annotations)])
    source = FileSource(path)
    category_of = {category['id']: category for category in parse_categories(content.get('categories'), where)}
    _same(sorted(category_of), sorted(category['id'] for category in categories), f'{where}: categories')
    jobs = [
        (annotation, (image['height'], image['width'])) for annotation, image in zip(annotations, images, strict=True)
    ]
    for _ in tracked_map(partial(_check_map, source=source, category_of=category_of), jobs, 1, 'Reading back'):
        pass


def _check_map(
    job: tuple[PanopticAnnotation, tuple[int, int]], source: FileSource, category_of: Mapping[Id, Category]
) -> None:
    annotation, size = job
    place = source.place(annotation['file_name'])
    segments = parse_segments(annotation, category_of, source.path)
    ids = decode_panoptic_png(source.read(annotation['file_name'], source.path, DatasetError), place, size)
    runs, lengths = segment_runs(ids, segments, place)
    areas = np.bincount(runs, lengths, minlength=len(segments) + 1)[1:]
    for segment, area in zip(segments, areas.tolist(), strict=True):
        if segment['area'] != area:
            raise DatasetError(
                f'{place}: segment {segment["id"]} has {area:.0f} pixels, and {segment["area"]} in the JSON'
            )


def check_coco_zip(path: Path, kind: str, images: Images, category_ids: Sequence[Id], number: int) -> None:
    """Check that a zip holds one JSON, with results of detection for the images.

    Args:
        path: The zip; the JSON has the same stem.
        kind: 'bbox' or 'segm'.
        images: Entries of the images.
        category_ids: Allowed ids of categories.
        number: Number of results.

    Raises:
        DatasetError: If the zip is wrong; it names the file and the result.
    """
    name = f'{path.stem}.json'
    _check_names(path, [name])
    where = f'{path}/{name}'
    results = parse_json(FileSource(path).read(name, str(path), DatasetError, limit=_LARGEST), where, top=list)
    if len(results) != number:
        raise DatasetError(f'{where} holds {len(results)} results, and {number} were predicted')
    size_of = {image['id']: (image['height'], image['width']) for image in images}
    known = set(category_ids)
    for place, result in enumerate(results):
        shown = f'{where}: result {place}'
        check_types(result, dict(image_id=(int, str), category_id=(int, str), score=(int, float)), shown)
        if result['image_id'] not in size_of or result['category_id'] not in known:
            named = f'image {result["image_id"]!r} and category {result["category_id"]!r}'
            raise DatasetError(f'{shown} is of {named}: one of them is not in the test set')
        if kind == 'bbox':
            check_types(result, dict(bbox=list), shown)
            check_bbox(result['bbox'], shown)
        else:
            check_mask(result.get('segmentation'), *size_of[result['image_id']], shown)


def check_listed_zip(path: Path, images: Images, listing: str, numbers: Sequence[int]) -> None:
    """Check that a zip holds a text file for each image and, for each of its lines, a mask of the image's size.

    Args:
        path: The zip.
        images: Entries of the images.
        listing: End of a text file's name, after the stem of the image.
        numbers: Allowed numbers of classes.

    Raises:
        DatasetError: If the zip is wrong; it names the file.
    """
    source = FileSource(path)
    names: list[str] = []
    for image in images:
        text = f'{Path(image["file_name"]).stem}{listing}'
        masks = []
        for line in source.read(text, str(path), DatasetError).decode().splitlines():
            mask, number, score = [*line.split(' '), '', ''][:3]
            if len(line.split(' ')) != 3 or not _is_known(number, numbers) or not _is_finite(score):
                raise DatasetError(f'{source.place(text)}: line {line!r} is not of the form <PNG> <class> <score>')
            _check_mask_png(source, mask, text, (image['height'], image['width']))
            masks.append(mask)
        names += [*masks, text]
    _check_names(path, names)


def _is_known(number: str, numbers: Sequence[int]) -> bool:
    return number.isascii() and number.isdecimal() and int(number) in numbers


def _is_finite(score: str) -> bool:
    try:
        return math.isfinite(float(score))
    except ValueError:
        return False


def _check_mask_png(source: FileSource, name: str, named_by: str, size: tuple[int, int]) -> None:
    data, place = source.read(name, named_by, DatasetError), source.place(name)
    check_size(image_size(data, place), size, place, 'its image')
    with decoding(place):
        mask = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if mask is None:
        raise DatasetError(f'{place} cannot be decoded: write it again')
    if mask.ndim != 2 or not np.isin(mask, (0, 255)).all():
        raise DatasetError(f'{place} holds other values than 0 and 255')


def _check_names(path: Path, expected: Sequence[str]) -> None:
    """Refuse a zip with other files, or with a file that occurs twice."""
    with zipfile.ZipFile(path) as file:
        _same(sorted(file.namelist()), sorted(expected), f'{path}: files')


def _same(found: Sequence[Id], wanted: Sequence[Id], what: str) -> None:
    if list(found) == list(wanted):
        return
    there, needed = Counter(found), Counter(wanted)
    kinds = ((needed - there, 'missing'), (there - needed, 'too many'))
    problems = [f'{next(iter(more))!r} is {what_it_is}' for more, what_it_is in kinds if more]
    reason = ' and '.join(problems) or 'they are in another order'
    raise DatasetError(f'{what} are not those of the test set: {reason}')
