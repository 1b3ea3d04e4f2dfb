"""Small tensors from a GPU to the CPU."""

import torch
from torch import Tensor


def fetch(*tensors: Tensor) -> list[Tensor]:
    """Copy tensors to the CPU, detached, with the same values and types, in one transfer.

    Args:
        tensors: Tensors of any shapes and types, all on one device. Tensors on the CPU are returned unchanged.
    """
    if all(tensor.device.type == 'cpu' for tensor in tensors):
        return list(tensors)
    packed = torch.contiguous_format
    parts = [tensor.detach().flatten().clone(memory_format=packed).view(torch.uint8) for tensor in tensors]
    fetched = torch.cat(parts).cpu().split([len(part) for part in parts])
    # A part may begin at any byte, but a view as another type must begin at a multiple of that type's size.
    return [part.clone().view(tensor.dtype).view(tensor.shape) for part, tensor in zip(fetched, tensors, strict=True)]
