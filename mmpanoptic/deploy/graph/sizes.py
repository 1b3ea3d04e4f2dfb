"""Sizes that a trace follows: int64 scalars, which a graph computes for each image."""

from typing import Any, TypeAlias

import torch
from torch import Tensor

#: An int64 scalar tensor. torch's annotations ask for an int in its place, so a type checker is told nothing.
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
