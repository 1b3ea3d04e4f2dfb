from .instance_metric import InstanceMetric, PanopticIoUMetric
from .panoptic_metric import PanopticMetric

__all__ = ['InstanceMetric', 'PanopticIoUMetric', 'PanopticMetric']
