from mmdet.structures import INSTANCE_OFFSET

from .panoptic_map import (
    MAX_ID,
    VOID_ID,
    decode_panoptic_png,
    id_to_rgb,
    ids_to_indices,
    labels_of_ids,
    panoptic_to_coco,
    rgb_to_id,
    segments_of_map,
)

__all__ = [
    'INSTANCE_OFFSET',
    'MAX_ID',
    'VOID_ID',
    'decode_panoptic_png',
    'id_to_rgb',
    'ids_to_indices',
    'labels_of_ids',
    'panoptic_to_coco',
    'rgb_to_id',
    'segments_of_map',
]
