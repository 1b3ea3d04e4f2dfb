from . import max_iou_assigner, priors  # noqa: F401  (register)
from .legacy import DetectronAnchorGenerator, DetectronBBoxCoder

__all__ = ['DetectronAnchorGenerator', 'DetectronBBoxCoder']
