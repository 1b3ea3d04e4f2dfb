"""Stops a training with NaN or infinite values before it replaces its good checkpoints."""

import math
import os
from pathlib import Path

import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.runner import Runner
from torch import Tensor

from mmpanoptic.engine.checkpoints import first_not_finite
from mmpanoptic.registry import HOOKS
from mmpanoptic.utils import UserError


class LateCopy:
    """An asynchronous copy of values to the CPU; reading it an iteration later does not wait.

    Args:
        values: A small tensor on any device.
    """

    def __init__(self, values: Tensor) -> None:
        self._event = None
        if values.is_cuda:
            self._copy = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
            self._copy.copy_(values, non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record()
        else:
            self._copy = values

    def get(self) -> Tensor:
        """The values on the CPU."""
        if self._event is not None:
            self._event.synchronize()
        return self._copy


@HOOKS.register_module()
class FiniteLossHook(Hook):
    """Stops at a loss that is NaN or infinite, and keeps values that are not finite out of checkpoints.

    The losses of an iteration are checked in the next one, when the device has computed them. So nothing has to wait,
    unlike with mmdet's ``CheckInvalidLossHook``. Before it stops, process R writes ``data_batch`` and ``losses`` to
    ``non_finite/iter_<N>_rank_<R>.pth`` in the work dir. The file holds Python objects, which
    ``torch.load(..., weights_only=False)`` reads.

    Args:
        max_skipped: Largest number of successive iterations with such a loss when losses are scaled (float16). Their
            gradients are not finite either, so the scaler skips the step, and a warning is logged. The scaler alone
            handles gradients that overflow while the losses are finite. Without a scaler (float32, bfloat16), the first
            such loss ends the training.
        allow_nan: Whether checkpoints may hold values that are not finite.
    """

    priority = 'HIGH'  # before checkpoints are written

    def __init__(self, max_skipped: int = 10, allow_nan: bool = False) -> None:
        self.max_skipped = max_skipped
        self.allow_nan = allow_nan
        self._last: tuple[int, dict | None, list[str], LateCopy] | None = None
        self._skipped = 0

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None
    ) -> None:
        """Check the losses of the previous iteration, and remember the present ones."""
        self._check(runner)
        losses = {name: value for name, value in (outputs or {}).items() if 'loss' in name}
        if losses:
            device = next((value.device for value in losses.values() if isinstance(value, Tensor)), None)
            values = [torch.as_tensor(value, dtype=torch.float, device=device) for value in losses.values()]
            self._last = (runner.iter + 1, data_batch, list(losses), LateCopy(torch.stack(values).detach()))

    def after_train_epoch(self, runner: Runner) -> None:
        """Check the last losses of the epoch, before its checkpoint is written."""
        self._check(runner)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Refuse to write weights or an optimizer state with values that are not finite."""
        self._check(runner)
        name = None if self.allow_nan else first_not_finite(checkpoint)
        if name is not None:
            raise UserError(
                f'iteration {runner.iter + 1}: {name} holds a value that is not finite, so no checkpoint is written '
                'and the last good one stays. Lower the learning rate, clip gradients (optim_wrapper.clip_grad), or '
                'write it all the same with allow_nan=True',
                argument='allow_nan',
            )

    def _check(self, runner: Runner) -> None:
        """Raise if the remembered losses are not finite."""
        if self._last is None:
            return
        (iteration, data_batch, names, values), self._last = self._last, None
        losses = dict(zip(names, values.get().tolist(), strict=True))
        wrong = [name for name, value in losses.items() if not math.isfinite(value)]
        self._skipped = self._skipped + 1 if wrong else 0
        if not wrong:
            return
        images = [sample.get('img_path', '?') for sample in (data_batch or {}).get('data_samples', [])]
        what = (
            f'iteration {iteration}: {", ".join(f"{name} is {losses[name]}" for name in wrong)} '
            f'({", ".join(map(str, images[:4]))})'
        )
        if _skips_steps(runner.optim_wrapper) and self._skipped <= self.max_skipped:
            runner.logger.warning(f'{what}: step skipped ({self._skipped} in a row, at most {self.max_skipped} may be)')
            return
        file = Path(runner.work_dir) / 'non_finite' / f'iter_{iteration}_rank_{get_rank()}.pth'
        os.makedirs(file.parent, exist_ok=True)
        torch.save(dict(data_batch=data_batch, losses=losses), file)
        raise UserError(
            f'{what}; the batch is in {file}. Lower the learning rate, clip gradients (optim_wrapper.clip_grad), or '
            'start from a checkpoint that is good'
        )


def _skips_steps(wrapper: OptimWrapper) -> bool:
    """Whether the optimizer wrapper skips steps whose gradients are not finite."""
    return isinstance(wrapper, AmpOptimWrapper) and wrapper.loss_scaler.is_enabled()
