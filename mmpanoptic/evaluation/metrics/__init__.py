import mmpanoptic.registry  # noqa: F401  (before mmdet, whose notices it drops)

# isort: split
import mmdet.evaluation  # noqa: F401  (a parent registry is searched only among what is imported)

from .cityscapes_instance_metric import CityscapesInstanceMetric
from .instance_metric import InstanceMetric
from .mapillary_results import MapillaryResults
from .panoptic_iou_metric import PanopticIoUMetric
from .panoptic_metric import PanopticMetric
from .panoptic_predictions import KeptPanoptic
from .written_results import PredictionDump

__all__ = [
    'CityscapesInstanceMetric',
    'InstanceMetric',
    'KeptPanoptic',
    'MapillaryResults',
    'PanopticIoUMetric',
    'PanopticMetric',
    'PredictionDump',
]
