"""What a model says about an image, whatever runs the model. Importing it takes numpy and the standard library."""

from .panoptic_result import RATINGS, Instances, PanopticResult, Segment

__all__ = ['RATINGS', 'Instances', 'PanopticResult', 'Segment']
