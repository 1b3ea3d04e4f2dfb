"""How strongly the stuff branch and the instance branch pull at the backbone that they share."""

import csv
import os
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import Tensor, nn

from mmpanoptic.registry import HOOKS
from mmpanoptic.utils import UserError

STUFF = ('loss_seg',)
INSTANCE = ('loss_rpn', 'loss_cls', 'loss_bbox', 'loss_mask')
BRANCHES = ('stuff', 'instance')


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Leaves a model's buffers (statistics of batch norm) and all random numbers to come as they were."""
    buffers = [buffer.clone() for buffer in model.buffers()]
    states = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng([torch.cuda.current_device()] if torch.cuda.is_available() else []):
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        with torch.no_grad():
            for buffer, saved in zip(model.buffers(), buffers, strict=True):
                buffer.copy_(saved)


def losses_of(losses: dict[str, Tensor | list[Tensor]], parts: Sequence[str]) -> dict[str, Tensor | list[Tensor]]:
    """The losses whose names contain one of ``parts``.

    Raises:
        UserError: If there is none, naming those that there are.
    """
    known = [name for name in losses if 'loss' in name]
    chosen = [name for name in known if any(part in name for part in parts)]
    if not chosen:
        raise UserError(f'no loss has a name with {" or ".join(parts)} in it: the losses are {", ".join(known)}')
    return {name: losses[name] for name in chosen}


def branch_gradients(
    model: nn.Module, data_batch: dict, stuff: Sequence[str] = STUFF, instance: Sequence[str] = INSTANCE
) -> tuple[float, float]:
    """Mean magnitude of the gradient of either branch's losses with respect to the last map of the backbone.

    The losses are those of a training step on this batch, with the random numbers that such a step would draw next and
    with their weights. The model, its gradients, the batch and the random numbers stay as they are.

    Source: Liu et al., An End-to-End Network for Panoptic Segmentation, figure 5, https://arxiv.org/abs/1903.05027

    Args:
        model: A detector with a ``backbone``, in training mode.
        data_batch: As it comes from the data loader.
        stuff, instance: Parts of the names of the losses that count. Losses that neither names, such as that of a
            ranking module, which does not reach the backbone, do not.

    Returns:
        Mean of the absolute values over all elements of the map, of shape (N, C, H / 32, W / 32) for a ResNet: of the
        stuff losses, of the instance losses. 0 for losses that do not reach the map.

    Raises:
        UserError: If no loss is of one of the branches.
    """
    maps: list[Tensor] = []
    # The first map counts: a detector may look at the images again, for predictions that it is trained on.
    handle = model.backbone.register_forward_hook(lambda module, args, levels: maps.append(levels[-1]))
    try:
        with undisturbed(model), torch.enable_grad():
            data = model.data_preprocessor(data_batch, training=True)
            losses = model(**data, mode='loss')
            totals = [model.parse_losses(losses_of(losses, parts))[0] for parts in (stuff, instance)]
            gradients = [torch.autograd.grad(x, maps[0], retain_graph=True, allow_unused=True)[0] for x in totals]
    finally:
        handle.remove()
    return tuple(0.0 if gradient is None else gradient.abs().mean().item() for gradient in gradients)


@HOOKS.register_module()
class BranchGradientHook(Hook):
    """Measures :func:`branch_gradients` during a training, which goes on as it would without.

    A measurement takes a forward pass and two backward passes down to the backbone. It is in float32, also where
    training is in mixed precision. Rows go to ``branch_gradients.csv`` in the work dir, ``iteration`` (from 1),
    ``stuff`` and ``instance``, as they are measured; with several processes, each measures its own batch, and the file
    is of the first one.

    Args:
        interval: Iterations from one measurement to the next; the first is on the first batch.
        stuff, instance: See :func:`branch_gradients`.

    Attributes:
        rows: What has been measured: (iteration, stuff, instance).
        out_file: The CSV file, once training has begun.
    """

    def __init__(
        self,
        interval: int = 50,
        stuff: Sequence[str] = STUFF,
        instance: Sequence[str] = INSTANCE,
    ) -> None:
        self.interval = interval
        self.out_file = ''
        self.stuff = stuff
        self.instance = instance
        self.rows: list[tuple[int, float, float]] = []

    def before_train(self, runner: Runner) -> None:
        """Begin the file, or go on with that of a training that is resumed."""
        self.out_file = os.path.join(runner.work_dir, 'branch_gradients.csv')
        if is_main_process() and not (runner.iter and os.path.exists(self.out_file)):
            self._write('w', ('iteration', *BRANCHES))

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        """Measure, before the step on the same batch, if it is this iteration's turn."""
        if runner.iter % self.interval:
            return
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        row = (runner.iter + 1, *branch_gradients(model, data_batch, self.stuff, self.instance))
        self.rows.append(row)
        if is_main_process():  # all have to measure: batch norm may gather its statistics from all
            self._write('a', row)

    def _write(self, mode: str, row: tuple) -> None:
        with open(self.out_file, mode, newline='') as file:
            csv.writer(file).writerow(row)
