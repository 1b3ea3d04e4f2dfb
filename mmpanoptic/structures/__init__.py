from mmpanoptic.results.ids import INSTANCE_OFFSET, MAX_ID, VOID_ID, id_to_rgb

from .evidence import EmbeddingMap, Evidence, Stuff, StuffLabels, StuffLogits
from .panoptic_map import (
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
    'EmbeddingMap',
    'Evidence',
    'Stuff',
    'StuffLabels',
    'StuffLogits',
    'id_to_rgb',
    'ids_to_indices',
    'labels_of_ids',
    'panoptic_to_coco',
    'rgb_to_id',
    'segments_of_map',
]
