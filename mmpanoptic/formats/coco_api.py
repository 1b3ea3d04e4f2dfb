"""Loading of COCO instances JSON files for pycocotools and mmdet, with the checks that pycocotools leaves out."""

import contextlib
import io
from collections.abc import Sequence

import mmpanoptic.registry  # noqa: F401  (before mmdet, whose notices it drops)

# isort: split
from mmdet.datasets.api_wrappers import COCO

from mmpanoptic.utils import DatasetError

from .instances_json import load_instances, parse_things, with_used_categories
from .json_checks import check_types, refuse_repeats
from .masks import check_mask
from .panoptic_json import annotations_by_image, read_json


def load_coco(
    path: str,
    backend_args: dict | None = None,
    remedy: str = 'set `ann_file` and `data_root`',
    score_masks: bool = False,
) -> COCO:
    """Read an instances JSON for pycocotools. Annotations of images that the JSON lacks are left out.

    Args:
        path: The JSON. It may lack annotations, as those of COCO's test sets do.
        backend_args: Storage backend, see :mod:`mmengine.fileio`.
        remedy: How to mend a path that does not exist, for the error.
        score_masks: Whether every annotation needs a mask that pycocotools can score.

    Raises:
        DatasetError: If it cannot be read, or is no instances JSON.
    """
    data = read_json(path, backend_args, remedy)
    data.update({key: data.get(key) or [] for key in ('annotations', 'categories')})
    images = [image for image, _ in annotations_by_image({'images': data.get('images')}, path)]
    known = {}
    if data['annotations'] or data['categories']:
        data = with_used_categories(data, path)
        known = {category['id']: category for category in parse_things(data, path)}
    if data['annotations']:
        load_instances(data, path, known, images, None, need_masks=score_masks)
        size_of = {image['id']: (image['height'], image['width']) for image in images}
        data['annotations'] = [annotation for annotation in data['annotations'] if annotation['image_id'] in size_of]
        for annotation in data['annotations']:
            where = f'{path}: annotation {annotation.get("id")!r} of image {annotation["image_id"]!r}'
            check_types(annotation, dict(id=(int, str), area=(int, float)), where)
            annotation.setdefault('iscrowd', 0)  # which pycocotools takes for granted
            if score_masks:
                _check_scorable(annotation['segmentation'], size_of[annotation['image_id']], where)
        refuse_repeats((annotation['id'] for annotation in data['annotations']), f'{path}: annotation id')
    return _indexed(data)


def load_cocos(paths: Sequence[str], *args, **kwargs) -> COCO:
    """Read several instances JSON files as one, with new annotation ids.

    Args:
        paths: The files. A single one keeps its annotation ids.
        *args: See :func:`load_coco`.
        **kwargs: See :func:`load_coco`.

    Raises:
        DatasetError: See :func:`load_coco`; or if categories differ, or two images have the same id.
    """
    if not paths:
        raise DatasetError('ann_file is an empty list: name a file')
    first, *others = parts = [load_coco(path, *args, **kwargs) for path in paths]
    if not others:
        return first
    for path, part in zip(paths[1:], others, strict=True):
        if part.dataset['categories'] != first.dataset['categories']:
            raise DatasetError(f'{paths[0]} and {path} have other `categories`: list the same ones in the same order')
    images = [image for part in parts for image in part.dataset['images']]
    refuse_repeats((image['id'] for image in images), f'{" and ".join(paths)}: image id')
    annotations = [annotation for part in parts for annotation in part.dataset['annotations']]
    numbered = [dict(annotation, id=number) for number, annotation in enumerate(annotations, 1)]
    return _indexed(dict(first.dataset, images=images, annotations=numbered))


def _indexed(data: dict) -> COCO:
    coco = COCO()
    coco.dataset = data
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints that it builds an index
        coco.createIndex()
    coco.img_ann_map, coco.cat_img_map = coco.imgToAnns, coco.catToImgs
    return coco


def _check_scorable(mask: list | dict, size: tuple[int, int], where: str) -> None:
    """Refuse masks that training ignores but pycocotools cannot take."""
    check_mask(mask, *size, where)
    if isinstance(mask, list) and not (mask and all(len(polygon) >= 6 and len(polygon) % 2 == 0 for polygon in mask)):
        raise DatasetError(f'{where} has a polygon of fewer than three points, or none: write [x1, y1, ...]')
