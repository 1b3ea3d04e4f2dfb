"""mmpanoptic: PANet, SpatialFlow, OANet, CIAE and Panoptic FPN on MMDetection 3.x.

Importing this package loads torch and nothing else; :mod:`mmpanoptic.registry` loads mmdet.
"""

import contextlib

__version__ = '0.2.0'
__all__ = ['__version__']


def missing_package(name: str | None) -> str | None:
    """How to install a missing module whose build depends on the machine; None for any other module."""
    root = (name or '').partition('.')[0]
    if root not in ('torch', 'mmcv'):
        return None
    package = 'torch' if root == 'torch' else 'mmcv with its operators'
    return (
        f'{package} is not installed, and which build of it fits depends on the machine: '
        'pip install "torch<2.14" ninja && pip install --no-build-isolation onedl-mmcv'
    )


# torch first: mmcv loads cv2 before torch, and operators that were linked with a static libstdc++ then crash, above all
# with CUDA.
with contextlib.suppress(ModuleNotFoundError):  # the command `mmpanoptic` says how to install it
    import torch  # noqa: F401
