"""Models as one ONNX file, from the image to its segments.

What is imported here runs such a file, and takes numpy and onnxruntime. :mod:`~.export` writes it, and takes torch.
"""

from .onnx_panoptic import OnnxPanoptic

__all__ = ['OnnxPanoptic']
