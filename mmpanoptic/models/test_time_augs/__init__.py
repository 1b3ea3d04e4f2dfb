from .instance_tta import InstanceTTAModel, View
from .panoptic_tta import PanopticTTAModel

__all__ = ['InstanceTTAModel', 'PanopticTTAModel', 'View']
