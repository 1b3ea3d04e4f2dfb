from .inferencer import Observation, PanopticInferencer, PanopticResult, list_images, load_model

__all__ = ['Observation', 'PanopticInferencer', 'PanopticResult', 'list_images', 'load_model']
