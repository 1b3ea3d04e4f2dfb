"""What a real GPU says about code that runs on it."""

import warnings
from collections.abc import Callable

import torch


def syncs_of(function: Callable[[], object]) -> int:
    """How often a call makes the CPU wait for the GPU, by torch's own account; waits inside of thrust are not in it."""
    torch.cuda.set_sync_debug_mode('warn')
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter('always')
            function()
    finally:
        torch.cuda.set_sync_debug_mode('default')
    return sum('synchronizing CUDA operation' in str(warning.message) for warning in caught)
