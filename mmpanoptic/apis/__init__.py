from .inferencer import PanopticInferencer, PanopticResult, list_images, load_model

__all__ = ['PanopticInferencer', 'PanopticResult', 'list_images', 'load_model']
