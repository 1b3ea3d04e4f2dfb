"""Models as one ONNX file, from the image to its segments.

:class:`OnnxPanoptic` runs such a file with numpy and onnxruntime. :mod:`~.export` writes it and needs torch.
"""

from .onnx_panoptic import OnnxPanoptic

__all__ = ['OnnxPanoptic']
