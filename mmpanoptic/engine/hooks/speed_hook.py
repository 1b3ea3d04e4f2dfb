"""Options for speed that are off by default."""

import torch
from mmengine.hooks import Hook
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import Runner
from torch import nn

from mmpanoptic.registry import HOOKS

#: Parts of detectors that only apply convolutions to maps, whose size depends only on the input.
DENSE_PARTS = ('backbone', 'neck', 'stuff_backbone', 'stuff_neck')


def compile_dense(model: nn.Module, **options) -> list[str]:
    """Compile backbones and necks in place; names of weights do not change, so checkpoints stay compatible.

    Args:
        model: A detector.
        options: Options of ``torch.compile``.

    Returns:
        Names of the compiled parts.
    """
    parts = [name for name in DENSE_PARTS if getattr(model, name, None) is not None]
    for name in parts:
        getattr(model, name).compile(**options)
    return parts


@HOOKS.register_module()
class SpeedHook(Hook):
    """Prepares the model before a run.

    Args:
        compile: Whether to compile backbone and neck with ``torch.compile``; a dict gives its options. The first
            iteration with each input size then takes long.
        channels_last: Whether weights and outputs of convolutions are stored with the channels last.
        tf32: Whether matrix products in float32 may round to TF32 on a GPU. torch allows this in convolutions anyway.
    """

    priority = 'VERY_HIGH'

    def __init__(self, compile: bool | dict = False, channels_last: bool = False, tf32: bool = False) -> None:
        self.compile = compile
        self.channels_last = channels_last
        self.tf32 = tf32

    def before_run(self, runner: Runner) -> None:
        """Prepare the runner's model inside of wrappers for distributed training and test-time augmentation."""
        model = runner.model
        while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
            model = model.module
        self.prepare(model)

    def prepare(self, model: nn.Module) -> None:
        """Prepare a model, in place."""
        if self.tf32:
            torch.set_float32_matmul_precision('high')
        if self.channels_last:
            model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's annotations lack it
        if self.compile is not False:
            compile_dense(model, **(self.compile if isinstance(self.compile, dict) else {}))
