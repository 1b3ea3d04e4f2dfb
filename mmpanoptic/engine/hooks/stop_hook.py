"""Stops a training on a signal, between two iterations and with a checkpoint."""

import signal
import threading
from types import FrameType
from typing import Any

import torch
from mmengine.dist import all_reduce, get_world_size
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmpanoptic.engine.devices import Stopped
from mmpanoptic.engine.loops import ResumableLoop
from mmpanoptic.registry import HOOKS
from mmpanoptic.utils.processes import handle_here

from .checkpoint_hook import checkpoint_hook

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@HOOKS.register_module()
class StopHook(Hook):
    """SIGTERM, which clusters send, and Ctrl-C end a training after the current iteration, with a checkpoint.

    The exit status is 128 plus the number of the signal: 143 or 130. A second Ctrl-C ends the training at once. A
    second SIGTERM does not, because a cluster may send it to all processes while the launcher passes it on too. Signals
    that the process ignores stay ignored; jobs in the background of a shell ignore Ctrl-C.

    Args:
        interval: With several processes on GPUs, iterations between two checks whether a process has received a signal;
            each check waits for the GPU.
    """

    priority = 'LOWEST'  # after a checkpoint of the same iteration

    def __init__(self, interval: int = 10) -> None:
        self.interval = interval
        self._received = 0
        self._old_handlers: dict[int, Any] = {}

    def before_train(self, runner: Runner) -> None:
        """Install the handlers of the signals."""
        if threading.current_thread() is threading.main_thread():
            heard = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
            self._old_handlers = {number: handle_here(number, self._receive) for number in heard}

    def after_train(self, runner: Runner) -> None:
        """Restore the previous handlers."""
        for number, handler in self._old_handlers.items():
            signal.signal(number, handler)
        self._old_handlers = {}

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        """Stop if a process has received a signal; all processes stop after the same iteration."""
        received = self._received
        if get_world_size() > 1:
            on_gpu = torch.distributed.get_backend() == 'nccl'
            if on_gpu and not self.every_n_train_iters(runner, self.interval):
                return
            told = torch.tensor(received, device='cuda' if on_gpu else 'cpu')
            all_reduce(told, 'max')
            received = int(told)
        if received:
            self._stop(runner, received, validating=False)

    def after_val_iter(self, runner: Runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        """Stop during a validation; each process stops by itself, because they validate different numbers of images."""
        if self._received and runner._train_loop is not None:
            self._stop(runner, self._received, validating=True)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if number == self._received == signal.SIGINT:
            raise Stopped(number, 'at once, on the second signal')
        self._received = number

    def _stop(self, runner: Runner, number: int, validating: bool) -> None:
        hook = checkpoint_hook(runner)
        done = runner.iter + (0 if validating else 1)
        checkpoint = None
        if hook is not None:
            alone = validating and get_world_size() > 1
            checkpoint = hook.last_ckpt if alone else hook.save_interrupted(runner, done)
        self.after_train(runner)
        if isinstance(runner.train_loop, ResumableLoop):
            runner.train_loop.end_workers()
        kept = f'go on from {checkpoint} with --resume' if checkpoint else 'there is no checkpoint'
        raise Stopped(number, f'after iteration {done}: {kept}')
