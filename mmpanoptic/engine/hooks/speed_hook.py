"""Options of speed that are off unless a config or an argument asks for them."""

import torch
from mmengine.hooks import Hook
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import Runner
from torch import nn

from mmpanoptic.registry import HOOKS

#: Parts of detectors that are convolutions on maps of a size that the input gives, and nothing else.
DENSE_PARTS = ('backbone', 'neck', 'stuff_backbone', 'stuff_neck')


def compile_dense(model: nn.Module, **options) -> list[str]:
    """Compile backbones and necks in place; names of weights stay, and so do checkpoints.

    Args:
        model: A detector.
        options: Of ``torch.compile``.

    Returns:
        The parts that were compiled.
    """
    parts = [name for name in DENSE_PARTS if getattr(model, name, None) is not None]
    for name in parts:
        getattr(model, name).compile(**options)
    return parts


@HOOKS.register_module()
class SpeedHook(Hook):
    """Prepares the model before a run.

    Args:
        compile: Whether backbone and neck go through ``torch.compile``; a dict: its options. The first iteration of
            each size of the input takes long then.
        channels_last: Whether the weights of convolutions, and so what these give, have the channels last in memory.
        tf32: Whether matrix products in float32 may round to TF32 on a GPU. In convolutions torch does so anyway.
    """

    priority = 'VERY_HIGH'

    def __init__(self, compile: bool | dict = False, channels_last: bool = False, tf32: bool = False) -> None:
        self.compile = compile
        self.channels_last = channels_last
        self.tf32 = tf32

    def before_run(self, runner: Runner) -> None:
        """Prepare the model of a runner, that inside of what distributes it or tests it with augmentations."""
        model = runner.model
        while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
            model = model.module
        self.prepare(model)

    def prepare(self, model: nn.Module) -> None:
        """Prepare a model, in place."""
        if self.tf32:
            torch.set_float32_matmul_precision('high')
        if self.channels_last:
            model.to(memory_format=torch.channels_last)
        if self.compile is not False:
            compile_dense(model, **(self.compile if isinstance(self.compile, dict) else {}))
