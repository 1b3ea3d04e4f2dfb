"""mmpanoptic: PANet, SpatialFlow, OANet, CIAE and Panoptic FPN on MMDetection 3.x.

Importing this package loads torch and nothing else; :mod:`mmpanoptic.registry` loads mmdet.
"""

import contextlib

__version__ = '0.2.0'
__all__ = ['__version__']

# mmcv's CUDA operators crash where they are loaded before torch, as `import mmcv.ops, mmdet` does.
with contextlib.suppress(ModuleNotFoundError):  # `mmpanoptic` says what to do without it
    import torch  # noqa: F401
