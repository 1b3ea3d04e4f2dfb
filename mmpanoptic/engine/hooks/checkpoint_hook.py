"""Checkpoints for exact resuming; a whole one exists at any time."""

import contextlib
import os
import re
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import all_gather_object, get_rank, is_main_process
from mmengine.fileio.backends import BaseStorageBackend
from mmengine.hooks import CheckpointHook as MMEngineCheckpointHook
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import nn

from mmpanoptic.engine.loops import ResumableLoop
from mmpanoptic.registry import HOOKS
from mmpanoptic.utils import UserError


class LateRemoval:
    """A storage backend that delays the removal of old files until the new files are whole."""

    def __init__(self, backend: BaseStorageBackend) -> None:
        self._backend = backend
        self._old: list[tuple[str, int | None]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def remove(self, path: str) -> None:
        """Remember a file for removal."""
        self._old.append((path, _inode(path)))

    def remove_now(self) -> None:
        """Remove the remembered files, except those that have been replaced by new ones."""
        for path, inode in self._old:
            if _inode(path) == inode and self._backend.isfile(path):
                self._backend.remove(path)
        self._old = []


def _inode(path: str) -> int | None:
    return os.stat(path).st_ino if os.path.exists(path) else None


def _link(file: str, name: str) -> None:
    """Create or replace a relative link beside a file, atomically."""
    link = Path(file).with_name(name)
    part = link.with_name(f'.{name}.{os.getpid()}.part')
    with contextlib.suppress(OSError):  # some file systems have no links, and the link is optional
        part.unlink(missing_ok=True)
        part.symlink_to(os.path.basename(file))
        part.replace(link)


def _without_wrapper(model: Any) -> nn.Module:
    return model.module if is_model_wrapper(model) else model


def _of_all_processes(runner: Runner) -> list[dict[str, Any]]:
    """Random states by rank, each with the buffers of the model that differ from rank 0's.

    Within an epoch, every process has its own statistics of batch norm.
    """
    state = dict(runner.train_loop.random_state(), buffers={})
    if runner.world_size > 1:
        state['buffers'] = {name: value.cpu() for name, value in _without_wrapper(runner.model).named_buffers()}
    states = all_gather_object(state)
    first = states[0]['buffers']
    for state in states:
        state['buffers'] = {
            name: value for name, value in state['buffers'].items() if not torch.equal(value, first[name])
        }
    return states


@HOOKS.register_module()
class CheckpointHook(MMEngineCheckpointHook):
    """mmengine's hook with a few differences.

    - A checkpoint holds the random states of all processes and their workers, and a training resumes with them.
    - An old checkpoint is removed when the next one is whole.
    - :meth:`save_interrupted` writes a checkpoint between the regular ones; the next regular one replaces it.
    - ``save_best`` knows that PQ, SQ, RQ, AP and AR are better when larger, and finds scores by their names without the
      prefix of the metric.

    Args:
        args, kwargs: See :class:`mmengine.hooks.CheckpointHook`.
        last_link: Name of a symbolic link to the newest checkpoint, beside it, such as 'last.pth'; None for no link.
            If the storage does not support links, there is none.
    """

    file_backend: Any
    filename_tmpl: str
    max_keep_ckpts: int

    _default_greater_keys = [*MMEngineCheckpointHook._default_greater_keys, 'PQ', 'SQ', 'RQ', '/AP', 'AR_', 'IoU']

    _states: list[dict[str, Any]] | None = None
    _interrupting = False
    _saved_at: int | None = None

    def __init__(self, *args, last_link: str | None = None, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.last_link = last_link

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Remember the random states of a resumed training."""
        if runner._resume:
            self._states = checkpoint.get('meta', {}).get('random_states')

    def before_train(self, runner: Runner) -> None:
        """Restore the random states.

        Raises:
            UserError: If ``save_best`` names a score and there is no validation; 'auto' is allowed.
        """
        if self._scores() and runner._val_loop is None:
            raise UserError(
                f'default_hooks.checkpoint.save_best is {self._scores()[0]!r}, and the config has no val_dataloader, '
                "so it would change nothing: set val_*, or take 'auto' or None"
            )
        super().before_train(runner)
        self.file_backend = LateRemoval(self.file_backend)
        if is_main_process():
            for unfinished in Path(self.out_dir).glob('.*.pth.*.part'):  # from a killed process
                unfinished.unlink(missing_ok=True)
        if not runner._resume or not isinstance(runner.train_loop, ResumableLoop):
            return
        states = self._states
        if states is not None and len(states) != runner.world_size:
            print_log(
                f'The checkpoint is of {len(states)} processes, now there are {runner.world_size}: random numbers will '
                'be others than without the interruption',
                'current',
            )
            states = None
        state = None if states is None else states[get_rank()]
        runner.train_loop.go_on(state)
        if state is not None:
            model = _without_wrapper(runner.model)
            for name, value in state['buffers'].items():
                model.get_buffer(name).copy_(value)

    def save_interrupted(self, runner: Runner, done: int) -> str | None:
        """Write a checkpoint of the present state of training; all processes must call this together.

        Args:
            runner: The runner.
            done: Number of finished iterations.

        Returns:
            The newest checkpoint, which may have been written at this iteration before; None if there is none.
        """
        if self._saved_at == done:
            return self.last_ckpt
        tmpl, self.filename_tmpl = self.filename_tmpl, 'iter_{}.pth'
        keep, self.max_keep_ckpts = self.max_keep_ckpts, 0
        self._interrupting = True
        try:
            self._save_checkpoint_with_step(runner, done, dict(epoch=runner.epoch, iter=done))
        finally:
            self.filename_tmpl, self.max_keep_ckpts, self._interrupting = tmpl, keep, False
        return self.last_ckpt

    def after_val_epoch(self, runner: Runner, metrics: dict) -> None:
        """Keep the best checkpoint.

        Raises:
            UserError: If ``save_best`` names no score of this validation.
        """
        places = {name: [score for score in metrics if score.rpartition('/')[2] == name] for name in self._scores()}
        metrics = metrics | {name: metrics[found[0]] for name, found in places.items() if len(found) == 1}
        for name in self._scores():
            if metrics and name not in metrics:
                raise UserError(
                    f'default_hooks.checkpoint.save_best is {name!r}, and the validation gives {", ".join(metrics)}: '
                    f"choose one of them, or 'auto' for the first; {self.last_ckpt} is whole, go on with --resume"
                )
        super().after_val_epoch(runner, metrics)
        self.file_backend.remove_now()

    def _scores(self) -> list[str]:
        """The scores that ``save_best`` names."""
        return [name for name in self.key_indicators if name != 'auto'] if self.save_best else []

    def _init_rule(self, rules: list[str | None], key_indicators: list[str]) -> None:
        """See mmengine's method. AP counts as average precision only if it is the whole name or begins it.

        Raises:
            UserError: If it is not known whether a score is better when larger.
        """
        rules = list(rules) * len(key_indicators) if len(rules) == 1 else rules
        known = ['greater' if re.match(r'(.*/)?AP(_|\d|$)', name) else None for name in key_indicators]
        try:
            super()._init_rule(
                [rule or known_rule for rule, known_rule in zip(rules, known, strict=True)], key_indicators
            )
        except ValueError:
            raise UserError(
                f'default_hooks.checkpoint.save_best: is {" or ".join(key_indicators)} better when larger? set '
                "default_hooks.checkpoint.rule to 'greater' or 'less'"
            ) from None

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        if isinstance(runner.train_loop, ResumableLoop):
            meta['random_states'] = _of_all_processes(runner)
        interrupted = runner.message_hub.runtime_info.get('interrupted_ckpt')
        path = os.path.join(self.out_dir, self.filename_tmpl.format(step)) if self._interrupting else ''
        runner.message_hub.update_info('interrupted_ckpt', path)
        super()._save_checkpoint_with_step(runner, step, meta)
        self._saved_at = meta['iter']
        if self.last_link is not None and is_main_process() and os.path.isfile(self.last_ckpt):
            _link(self.last_ckpt, self.last_link)
        if interrupted and interrupted != self.last_ckpt and is_main_process() and os.path.isfile(interrupted):
            self.file_backend.remove(interrupted)
        self.file_backend.remove_now()


def checkpoint_hook(runner: Runner) -> CheckpointHook | None:
    """The runner's :class:`CheckpointHook`, or None if it uses another hook or none."""
    return next((hook for hook in runner.hooks if isinstance(hook, CheckpointHook)), None)
