"""Counting multiply-adds."""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from mmcv.ops import DeformConv2d, ModulatedDeformConv2d
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

COUNTED = (_ConvNd, nn.Linear, DeformConv2d, ModulatedDeformConv2d)


def count_multiply_adds(model: nn.Module, run: Callable[[], Any]) -> dict[str, int]:
    """Multiply-adds of a model's convolutions (transposed and deformable ones too) and linear layers.

    Every weight is used once at each place of the output (of the input, in a transposed convolution), padding counted
    in as usual. Biases, normalisation, resizing, matrix products outside of layers (attention) and everything else are
    left out, as in most publications.

    Args:
        model: The model.
        run: Runs it once or several times, in part or whole; what is run is what is counted. On the meta device nothing
            is computed, and a large image costs no time.

    Returns:
        Multiply-adds by the name of the layer, 0 where it was not run; all calls of a layer summed.
    """
    counts = {name: 0 for name, module in model.named_modules() if isinstance(module, COUNTED)}

    def hook_of(name: str) -> Callable:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            # weight[0]: the weights of one output channel; of one input channel in a transposed convolution.
            places = inputs[0] if isinstance(module, _ConvTransposeNd) else output
            counts[name] += places.numel() * module.weight[0].numel()

        return hook

    handles = [model.get_submodule(name).register_forward_hook(hook_of(name)) for name in counts]
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    return counts


def sum_by_part(numbers: Mapping[str, int], split: tuple[str, ...] = ()) -> dict[str, int]:
    """Sums over the parts of a model, that is, over its direct children.

    Args:
        numbers: Numbers by dotted name, of a layer or a parameter.
        split: Children of which each child is a part of its own, such as 'roi_head'.

    Returns:
        Sums by the name of the part, in the order of ``numbers``.
    """
    sums: Counter[str] = Counter()
    for name, number in numbers.items():
        first, *rest = name.split('.')
        sums['.'.join([first, *rest[: first in split]])] += number
    return dict(sums)
