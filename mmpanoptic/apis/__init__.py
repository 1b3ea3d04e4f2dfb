from mmpanoptic.results import PanopticResult

from .image_lists import list_images
from .inferencer import Observation, PanopticInferencer
from .load import load_model

__all__ = ['Observation', 'PanopticInferencer', 'PanopticResult', 'list_images', 'load_model']
