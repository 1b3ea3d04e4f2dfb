import mmpanoptic.registry  # noqa: F401  (before mmdet, whose notices it drops)

# isort: split
import mmdet.datasets  # noqa: F401  (a parent registry is searched only among what is imported)

from .cityscapes_panoptic import CityscapesPanopticDataset
from .coco import CocoDataset
from .coco_instance import CocoInstanceDataset
from .coco_panoptic import CocoPanopticDataset
from .mapillary import MapillaryVistasDataset
from .pipelines import steps_of
from .transforms import *  # noqa: F403
from .wrappers import ConcatDataset, MultiImageMixDataset, RepeatDataset

__all__ = [
    'CityscapesPanopticDataset',
    'CocoDataset',
    'CocoInstanceDataset',
    'CocoPanopticDataset',
    'ConcatDataset',
    'MapillaryVistasDataset',
    'MultiImageMixDataset',
    'RepeatDataset',
    'steps_of',
]
