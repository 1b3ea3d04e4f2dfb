"""mmengine's training loops with exact resuming: within an epoch, and with the same random numbers."""

import bisect
from collections.abc import Iterator
from typing import Any

from mmengine.runner import EpochBasedTrainLoop as MMEngineEpochBasedTrainLoop
from mmengine.runner import IterBasedTrainLoop as MMEngineIterBasedTrainLoop
from mmengine.runner import Runner
from mmengine.runner.base_loop import BaseLoop
from torch.utils.data import DataLoader

from mmpanoptic.registry import LOOPS
from mmpanoptic.utils import UserError

from .data_loading import TrainBatches, end_workers, seeds_to_draw, skipping


class ResumableLoop(BaseLoop):
    """Base class of both loops; :class:`~mmpanoptic.engine.hooks.CheckpointHook` calls its methods."""

    def __init__(self, runner: Runner, dataloader: DataLoader | dict, *args, **kwargs) -> None:
        super().__init__(runner, skipping(dataloader), *args, **kwargs)
        if self.val_interval < 1:
            raise UserError(f'train_cfg.val_interval is {self.val_interval}: 1 or more is needed')
        self.batches = TrainBatches(self.dataloader)
        self._validated = False

    def random_state(self) -> dict[str, Any]:
        """The state that a checkpoint written now needs for exact resuming, as plain values."""
        raise NotImplementedError

    def go_on(self, state: dict[str, Any] | None) -> None:
        """Continue at ``epoch`` and ``iter``, from a state that :meth:`random_state` gave (None: it is not known).

        Raises:
            UserError: If that is within an epoch, and the number of its batches has changed.
        """
        self._validated = state is not None and state['validated']

    def end_workers(self) -> None:
        """End the workers of both data loaders, before the run ends."""
        self.batches.close()
        if self.runner.val_loop is not None:
            end_workers(self.runner.val_loop.dataloader._iterator)

    def _state_before_validation(self, done: int, last: int, begins: bool) -> dict[str, Any]:
        """The state with which training continues, after the validation if one follows.

        Args:
            done: Epochs or iterations that are done.
            last: Number of epochs or iterations of the training.
            begins: Whether a new pass over the training data begins then.
        """
        seeds = seeds_to_draw(self.dataloader) if begins else 0
        validates = self._validates(done, last)
        if validates and not (self._has_validated() and self.runner.val_loop.dataloader.persistent_workers):
            seeds += 1
        self.batches.promise(seeds)
        return dict(self.batches.state(), validated=validates or self._has_validated())

    def _validates(self, done: int, last: int) -> bool:
        """Whether a validation follows when ``done`` of ``last`` epochs or iterations are done."""
        if self.runner.val_loop is None or done < self.val_begin:
            return False
        interval = self.dynamic_intervals[bisect.bisect(self.dynamic_milestones, done + 1) - 1]
        return done % interval == 0 or done == last

    def _has_validated(self) -> bool:
        """Whether a validation has begun, in this process or before the interruption."""
        loop = self.runner.val_loop
        return self._validated or (loop is not None and loop.dataloader._iterator is not None)


@LOOPS.register_module()
class EpochBasedTrainLoop(ResumableLoop, MMEngineEpochBasedTrainLoop):
    """mmengine's loop, which continues an interrupted epoch at the same batch."""

    def run_epoch(self) -> None:
        """Run one epoch, or the rest of an interrupted one."""
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        for number, batch in self.batches:
            self.run_iter(number, batch)
        self.runner.call_hook('after_train_epoch')
        self.random_state()  # keeps the state for the next batch, whatever the validation draws
        self._epoch += 1

    def go_on(self, state: dict[str, Any] | None) -> None:
        """See :class:`ResumableLoop`. Without a state, an epoch that does not fit ``iter`` is restarted."""
        super().go_on(state)
        position = self._iter - self._epoch * len(self.dataloader) if state is None else state['position']
        self.batches.go_on(position if 0 <= position <= len(self.dataloader) else 0, state)

    def random_state(self) -> dict[str, Any]:
        """See :class:`ResumableLoop`."""
        if self.batches.position:  # within an epoch, which the resumed training finishes first
            return dict(self.batches.state(), validated=self._has_validated())
        return self._state_before_validation(self._epoch + 1, self._max_epochs, begins=True)


@LOOPS.register_module()
class IterBasedTrainLoop(ResumableLoop, MMEngineIterBasedTrainLoop):
    """mmengine's loop, which resumes without loading the images of finished iterations."""

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.fast_forward_on_resume = False
        self.dataloader_iterator = EndlessBatches(self.batches)

    def go_on(self, state: dict[str, Any] | None) -> None:
        """See :class:`ResumableLoop`."""
        super().go_on(state)
        self.dataloader_iterator.go_on(self._iter, state)

    def run_iter(self, data_batch: Any) -> None:
        """Run one iteration."""
        super().run_iter(data_batch)
        if self._validates(self._iter, self._max_iters):
            self._state_after(self._iter)  # keeps the state for the next batch, whatever the validation draws

    def random_state(self) -> dict[str, Any]:
        """See :class:`ResumableLoop`."""
        return self._state_after(self._iter + 1)

    def _state_after(self, done: int) -> dict[str, Any]:
        begins = not self.dataloader_iterator.is_endless and self.batches.position == len(self.dataloader)
        return self._state_before_validation(done, self._max_iters, begins)


class EndlessBatches:
    """Batches of pass after pass; a sampler that never ends makes a single pass."""

    def __init__(self, batches: TrainBatches) -> None:
        self.batches = batches
        self.sampler: Any = getattr(batches.dataloader.batch_sampler, 'sampler', None)
        self.is_endless = hasattr(self.sampler, 'skip')  # such as mmengine's InfiniteSampler
        self._pass = 0
        self._iterator = self._all()

    def skip_iter(self, num_iters: int) -> None:
        """Do nothing: mmengine calls this when it resumes, but :meth:`go_on` has skipped the batches already."""

    def go_on(self, done: int, state: dict[str, Any] | None) -> None:
        """Continue after ``done`` batches, see :meth:`TrainBatches.go_on`."""
        self._pass, position = (0, done) if self.is_endless else divmod(done, len(self.batches.dataloader))
        self.batches.go_on(position, None if state is None else dict(state, length=len(self.batches.dataloader)))

    def __next__(self) -> Any:
        return next(self._iterator)

    def _all(self) -> Iterator[Any]:
        while True:
            if hasattr(self.sampler, 'set_epoch'):
                self.sampler.set_epoch(self._pass)
            for _, batch in self.batches:
                yield batch
            self._pass += 1
