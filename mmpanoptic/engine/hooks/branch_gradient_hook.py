"""Measures the gradients of the stuff branch and of the instance branch at the backbone that they share."""

import csv
import os
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from mmdet.models.detectors import BaseDetector
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
    """Restore a model's buffers (statistics of batch norm) and the states of all random generators on exit."""
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
        UserError: If there is no such loss, naming all losses.
    """
    known = [name for name in losses if 'loss' in name]
    chosen = [name for name in known if any(part in name for part in parts)]
    if not chosen:
        raise UserError(f'no loss has a name with {" or ".join(parts)} in it: the losses are {", ".join(known)}')
    return {name: losses[name] for name in chosen}


def branch_gradients(
    model: BaseDetector, data_batch: dict, stuff: Sequence[str] = STUFF, instance: Sequence[str] = INSTANCE
) -> tuple[float, float]:
    """Mean magnitude of the gradient of either branch's losses with respect to the last map of the backbone.

    The losses are the weighted losses of a training step on this batch, with the random numbers that such a step would
    draw next. The model, its gradients, the batch and the random generators do not change.

    Source: Liu et al., An End-to-End Network for Panoptic Segmentation, figure 5, https://arxiv.org/abs/1903.05027

    Args:
        model: A detector with a ``backbone``, in training mode.
        data_batch: A batch from the data loader.
        stuff, instance: Parts of the names of each branch's losses. Other losses are ignored, such as the loss of a
            ranking module, whose gradient does not reach the backbone.

    Returns:
        Mean absolute gradient over all elements of the map, of shape (N, C, H / 32, W / 32) for a ResNet, for the stuff
        losses and for the instance losses. 0 for losses whose gradient does not reach the map.

    Raises:
        UserError: If a branch has no loss.
    """
    maps: list[Tensor] = []
    # The first map counts: a detector may run its backbone again, for predictions that it is trained on.
    handle = model.backbone.register_forward_hook(lambda module, args, levels: maps.append(levels[-1]))
    try:
        with undisturbed(model), torch.enable_grad():
            data = model.data_preprocessor(data_batch, training=True)
            losses = model(**data, mode='loss')
            totals = [model.parse_losses(losses_of(losses, parts))[0] for parts in (stuff, instance)]
            gradients = [torch.autograd.grad(x, maps[0], retain_graph=True, allow_unused=True)[0] for x in totals]
    finally:
        handle.remove()
    of_stuff, of_instance = (0.0 if gradient is None else gradient.abs().mean().item() for gradient in gradients)
    return of_stuff, of_instance


@HOOKS.register_module()
class BranchGradientHook(Hook):
    """Measures :func:`branch_gradients` during a training without changing its result.

    A measurement takes a forward pass and two backward passes to the backbone, in float32 even if training is in mixed
    precision. Each measurement adds a row to ``branch_gradients.csv`` in the work dir: ``iteration`` (from 1),
    ``stuff`` and ``instance``. With several processes, each measures its own batch, and the first one writes the file.

    Args:
        interval: Iterations from one measurement to the next; the first batch is measured.
        stuff, instance: See :func:`branch_gradients`.

    Attributes:
        rows: The measurements: (iteration, stuff, instance).
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
        """Begin the file, or continue the file of a resumed training."""
        self.out_file = os.path.join(runner.work_dir, 'branch_gradients.csv')
        if is_main_process() and not (runner.iter and os.path.exists(self.out_file)):
            self._write('w', ('iteration', *BRANCHES))

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        """Measure in every ``interval``-th iteration, before the step on the same batch."""
        if runner.iter % self.interval:
            return
        assert data_batch is not None  # training loops always pass it
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        row = (runner.iter + 1, *branch_gradients(model, data_batch, self.stuff, self.instance))
        self.rows.append(row)
        if is_main_process():  # all processes measure, because batch norm may gather statistics from all of them
            self._write('a', row)

    def _write(self, mode: str, row: tuple) -> None:
        with open(self.out_file, mode, newline='') as file:
            csv.writer(file).writerow(row)
