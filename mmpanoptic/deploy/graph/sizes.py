"""Sizes as int64 scalar tensors, which a graph computes for each image."""

from typing import Any, TypeAlias

import torch
from torch import Tensor

#: An int64 scalar tensor. The type is Any because torch's annotations ask for an int in many places.
Scalar: TypeAlias = Any
#: Height and width.
Size: TypeAlias = tuple[Scalar, Scalar]


def size_of(x: Tensor) -> Size:
    """Height and width of a map of shape (..., H, W)."""
    shape = torch._shape_as_tensor(x)
    return shape[-2], shape[-1]


def length_of(x: Tensor, dim: int = 0) -> Scalar:
    """Size of one dimension."""
    return torch._shape_as_tensor(x)[dim]
