"""Count multiply-adds of models."""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from mmcv.ops import DeformConv2d, ModulatedDeformConv2d
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

COUNTED = (_ConvNd, nn.Linear, DeformConv2d, ModulatedDeformConv2d)


def count_multiply_adds(model: nn.Module, run: Callable[[], Any]) -> dict[str, int]:
    """Multiply-adds of a model's convolutions (also transposed and deformable ones) and linear layers.

    Every weight is used once at each position of the output (transposed convolutions: of the input), padding included.
    Biases, normalisation, resizing, matrix products outside of layers (attention) and everything else are not counted,
    as in most publications.

    Args:
        model: The model.
        run: Runs the model, or parts of it, once or several times. On the meta device nothing is computed, so that a
            large image costs no time.

    Returns:
        Multiply-adds by the name of the layer, summed over all calls; 0 for a layer that was not called.
    """
    counts = {name: 0 for name, module in model.named_modules() if isinstance(module, COUNTED)}

    def hook_of(name: str) -> Callable:
        def hook(module: _ConvNd | nn.Linear, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            # weight[0] holds the weights of one output channel (transposed convolutions: of one input channel).
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
    """Sums over the parts of a model, its direct children.

    Args:
        numbers: Numbers by the dotted name of a layer or parameter.
        split: Children to split further, such as 'roi_head': each of their own children is a part.

    Returns:
        Sums by the name of the part, in the order of ``numbers``.
    """
    sums: Counter[str] = Counter()
    for name, number in numbers.items():
        first, *rest = name.split('.')
        sums['.'.join([first, *rest[: first in split]])] += number
    return dict(sums)
