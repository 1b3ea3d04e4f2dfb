"""Small tensors from a GPU to the CPU."""

import torch
from torch import Tensor


def fetch(*tensors: Tensor) -> list[Tensor]:
    """Tensors on the CPU, detached, with the same values and types: one transfer for all of them.

    Args:
        tensors: Of any shapes and types, all on one device; those on the CPU are returned as they are.
    """
    if all(tensor.device.type == 'cpu' for tensor in tensors):
        return list(tensors)
    packed = torch.contiguous_format
    parts = [tensor.detach().flatten().clone(memory_format=packed).view(torch.uint8) for tensor in tensors]
    fetched = torch.cat(parts).cpu().split([len(part) for part in parts])
    # A part begins at any byte, and a view as another type has to begin at a multiple of its size.
    return [part.clone().view(tensor.dtype).view(tensor.shape) for part, tensor in zip(fetched, tensors, strict=True)]
