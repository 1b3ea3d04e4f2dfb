from .legacy import DetectronAnchorGenerator, DetectronBBoxCoder

__all__ = ['DetectronAnchorGenerator', 'DetectronBBoxCoder']
