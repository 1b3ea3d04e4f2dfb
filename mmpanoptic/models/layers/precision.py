"""Mixed precision: conversion to float32, and layers that control their own precision.

Autocast chooses the precision of most of torch's own operators. It does not see mmcv's operators and custom functions,
nor what a head computes from its outputs. In half precision

- coordinates are rounded: from 1024 to 2048 float16 has whole pixels only, and bfloat16 has every 8th pixel only;
- mmcv's sigmoid focal loss is NaN: it clamps probabilities to float32's smallest number, which is 0 in float16, and
  then computes 0 log 0;
- the backward passes of RoIAlign and of deformable convolutions add with atomics, which are slow and round each time;
- autocast lets group norms return float32, so that activation, resizing and what autograd keeps are in float32, too.

So heads return their logits, box deltas and masks in float32 (:func:`full`), losses and samplers compute in float32,
and the output of a norm has the type of its input. Layers here have the type names, parameters and (in float32) results
of the layers that they replace.
"""

from collections.abc import Callable
from typing import Any

import torch
from mmcv.ops import DeformConv2dPack as _DeformConv2dPack
from mmcv.ops import ModulatedDeformConv2dPack as _ModulatedDeformConv2dPack
from torch import Tensor, nn

from mmpanoptic.registry import MODELS

HALF = (torch.float16, torch.bfloat16)


def full(x: Any) -> Any:
    """Convert half precision to float32, in a tensor or in a list, tuple or named tuple; return all else unchanged."""
    if isinstance(x, Tensor):
        return x.float() if x.dtype in HALF else x
    if isinstance(x, (list, tuple)):
        values = [full(value) for value in x]
        return type(x)(*values) if hasattr(x, '_fields') else type(x)(values)
    return x


def in_full_precision(function: Callable, *args: Any, **kwargs: Any) -> Any:
    """Call a function without autocast, with its positional arguments converted by :func:`full`.

    Args:
        function: The function.
        args: Positional arguments. Autocast is switched off on the device of the first tensor among them; that tensor
            may be in a list or tuple.
        kwargs: Keyword arguments, passed on unchanged.
    """
    device = next(x.device.type for arg in args for x in (arg if isinstance(arg, (list, tuple)) else [arg]))
    with torch.autocast(device, enabled=False):
        return function(*map(full, args), **kwargs)


@MODELS.register_module('GN')
class GroupNorm(nn.GroupNorm):
    """Group norm whose output has the type of its input, even where autocast runs it in float32, as on a GPU.

    On a CPU torch's kernel takes half precision with weights in float32, and sums in float32.

    Args:
        num_channels: Number of channels. It comes first, as mmcv passes it to norms that are not torch's own.
        num_groups: Number of groups.
        kwargs: See :class:`torch.nn.GroupNorm`.
    """

    def __init__(self, num_channels: int, num_groups: int, **kwargs) -> None:
        super().__init__(num_groups, num_channels, **kwargs)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, ...) to the same."""
        return super().forward(x).to(x.dtype)


@MODELS.register_module('DCN')
class DeformConv2dPack(_DeformConv2dPack):
    """mmcv's deformable convolution, in float32."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, out_channels, H', W'), of the type that came in."""
        return in_full_precision(super().forward, x).to(x.dtype)


@MODELS.register_module('DCNv2')
class ModulatedDeformConv2dPack(_ModulatedDeformConv2dPack):
    """mmcv's modulated deformable convolution, in float32."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, out_channels, H', W'), of the type that came in."""
        return in_full_precision(super().forward, x).to(x.dtype)
