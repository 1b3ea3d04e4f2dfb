"""What a model says about an image, whatever runs the model. Importing it takes numpy and the standard library."""

from .panoptic_result import Instances, PanopticResult, Segment

__all__ = ['Instances', 'PanopticResult', 'Segment']
