"""Which segments of the ground truth were found as instances before the fusion.

The instances come from COCO's results of instance segmentation (https://cocodataset.org/#format-results), a JSON that
every framework writes.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_masks

from mmpanoptic.formats.json_checks import Types, check_types
from mmpanoptic.formats.masks import check_mask
from mmpanoptic.formats.panoptic_json import parse_json
from mmpanoptic.utils import UserError, read_bytes

from .panoptic_quality import MATCH_IOU

Instance = tuple[int, dict]  # label, and mask as pycocotools takes it


def read_instances(
    path: str | Path,
    categories: Sequence[Mapping[str, Any]],
    images: Sequence[Mapping[str, Any]],
    score_thr: float = 0.0,
) -> dict[Any, list[Instance]]:
    """Read results of instance segmentation.

    Args:
        path: JSON with a list of objects that have ``image_id``, ``category_id``, ``score`` and ``segmentation`` (RLE),
            or with this list under ``annotations``, as ``predict`` writes it.
        categories: Categories with ``id``, ``label`` and ``isthing``.
        images: Images with ``id``, ``height`` and ``width``.
        score_thr: Instances with a lower score are left out.

    Returns:
        Labels and masks of the instances, by image id.

    Raises:
        UserError: If the file cannot be read, or an entry is malformed, names an unknown image or thing class, or does
            not have its image's size.
    """
    data = parse_json(read_bytes(str(path), remedy='name the results of instance segmentation'), str(path), object)
    data = data.get('annotations') if isinstance(data, dict) else data
    if not isinstance(data, list):
        raise UserError(f'{path} holds no results: they are a list of objects, or `annotations` is that list')
    size_of = {image['id']: (image['height'], image['width']) for image in images}
    label_of = {category['id']: category['label'] for category in categories if category['isthing']}
    found: dict[Any, list[Instance]] = {}
    for number, entry in enumerate(data):
        where = f'{path}: entry {number}'
        if not isinstance(entry, dict):
            raise UserError(f'{where} is a {type(entry).__name__}: write objects with image_id and segmentation')
        types: Types = dict(image_id=(int, str), category_id=(int, str), score=(int, float), segmentation=dict)
        check_types(entry, types, where)
        for key, known in (('image_id', size_of), ('category_id', label_of)):
            if entry[key] not in known:
                raise UserError(
                    f'{where} has {key} {entry[key]!r}, which the ground truth lacks: give instances of its images and '
                    'its thing classes'
                )
        if entry['score'] < score_thr:
            continue
        height, width = size_of[entry['image_id']]
        mask = entry['segmentation']
        check_mask(mask, height, width, where)
        if isinstance(mask['counts'], list):
            mask = coco_masks.frPyObjects(mask, height, width)
        found.setdefault(entry['image_id'], []).append((label_of[entry['category_id']], mask))
    return found


def found_segments(
    gt_ids: np.ndarray, gt_segments: Sequence[Mapping[str, Any]], instances: Sequence[Instance]
) -> np.ndarray:
    """Find the segments that an unfused instance of their class would match.

    Args:
        gt_ids: Segment ids of shape (H, W); 0 is void, which is left out of unions.
        gt_segments: The segments: ``id``, ``label``, ``iscrowd``.
        instances: Instances of the image.

    Returns:
        bool by place, see :class:`~.segment_counts.Counts`.
    """
    found = np.zeros(len(gt_segments) + 1, bool)
    void = coco_masks.encode(np.asfortranarray(gt_ids == 0).view(np.uint8)) if instances else None
    for place, segment in enumerate(sorted(gt_segments, key=lambda segment: segment['id']), 1):
        masks = [mask for label, mask in instances if label == segment['label']]
        if not masks or segment['iscrowd']:
            continue
        target = coco_masks.encode(np.asfortranarray(gt_ids == segment['id']).view(np.uint8))
        for mask in masks:
            shared, on_void = (int(coco_masks.area(coco_masks.merge([mask, other], 1))) for other in (target, void))
            union = int(coco_masks.area(mask)) - on_void + int(coco_masks.area(target)) - shared
            found[place] |= shared > MATCH_IOU * union
    return found
