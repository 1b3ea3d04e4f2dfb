"""Mixed precision: what has to be in float32, and layers that are where their originals are not.

Autocast sends most of torch's own operators where they belong. It does not see mmcv's operators and custom functions,
nor what a head computes from its outputs. In half precision

- coordinates are off: float16 has every pixel up to 2048 and no fraction of one from 1024 on, bfloat16 has every 8th;
- mmcv's sigmoid focal loss is NaN: its least probability, float32's, is 0 in float16, and 0 log 0 is taken;
- the backward passes of RoIAlign and of deformable convolutions add with atomics, which are slow and round each time;
- autocast lets group norms give float32, so that activation, resizing and what autograd keeps are in float32, too.

So heads give their logits, box deltas and masks in float32 (:func:`full`), losses and samplers work in it, and norms
give back what they got. Layers here have their originals' type names, parameters and, in float32, results.
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
    """Half precision as float32: a tensor, or each of a list, a tuple or a named tuple; all else as it is."""
    if isinstance(x, Tensor):
        return x.float() if x.dtype in HALF else x
    if isinstance(x, (list, tuple)):
        values = [full(one) for one in x]
        return type(x)(*values) if hasattr(x, '_fields') else type(x)(values)
    return x


def in_full_precision(function: Callable, *args: Any, **kwargs: Any) -> Any:
    """Call a function without autocast, its positional arguments through :func:`full`.

    Args:
        function: What to call.
        args: Its arguments. The first tensor among them, or in the first list or tuple, says which device it is about.
        kwargs: Passed on as they are.
    """
    device = next(x.device.type for arg in args for x in (arg if isinstance(arg, (list, tuple)) else [arg]))
    with torch.autocast(device, enabled=False):
        return function(*map(full, args), **kwargs)


@MODELS.register_module('GN')
class GroupNorm(nn.GroupNorm):
    """Group norm that gives back the type that it got, also where autocast sends it to float32, as on a GPU.

    On a CPU torch's kernel takes half precision with weights in float32, and sums in float32.

    Args:
        num_channels: Number of channels. It comes first, as mmcv has it where a norm is not torch's own.
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
