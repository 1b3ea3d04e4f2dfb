from mmpanoptic.results import PanopticResult

from .image_lists import list_images
from .inferencer import Observation, PanopticInferencer
from .load import load_model
from .video import frames_of

__all__ = ['Observation', 'PanopticInferencer', 'PanopticResult', 'frames_of', 'list_images', 'load_model']
