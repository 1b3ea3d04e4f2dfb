"""mmpanoptic: PANet, SpatialFlow, OANet, CIAE and Panoptic FPN on MMDetection 3.x.

Importing this package loads torch and nothing else; :mod:`mmpanoptic.registry` loads mmdet.
"""

import contextlib

__version__ = '0.2.0'
__all__ = ['__version__']


def missing_package(name: str | None) -> str | None:
    """What to do about a module that cannot be imported, if it is one that depends on the machine; else None."""
    root = (name or '').partition('.')[0]
    if root not in ('torch', 'mmcv'):
        return None
    package = 'torch' if root == 'torch' else 'mmcv with its operators'
    return (
        f'{package} is not installed, and which build of it fits depends on the machine: '
        'pip install "torch<2.14" ninja && pip install --no-build-isolation onedl-mmcv'
    )


# mmcv loads cv2 before torch, and operators that were linked with a static libstdc++ crash then, with CUDA above all.
with contextlib.suppress(ModuleNotFoundError):  # `mmpanoptic` says what to do without it
    import torch  # noqa: F401
