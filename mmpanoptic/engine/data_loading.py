"""Batches of a training, which can continue exactly where it was interrupted."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from mmengine.logging import print_log
from torch.utils.data import BatchSampler, DataLoader, Sampler, get_worker_info

from mmpanoptic.registry import DATA_SAMPLERS
from mmpanoptic.utils import UserError
from mmpanoptic.utils.processes import die_with_parent

from .random_states import State, after_draws, random_state, set_random_state

_STATE = 'random_state'


class WorkerStart:
    """Initialises a worker of a data loader: ties it to its parent, seeds it, and restores its random state.

    Args:
        seed: Seeds the worker, called with its number; None: torch seeds it.
    """

    def __init__(self, seed: Callable[[int], None] | None) -> None:
        self.seed = seed
        self.states: Mapping[int, State] = {}

    def __call__(self, worker_id: int) -> None:
        """Initialise the worker with the number ``worker_id``, counted from 0."""
        die_with_parent()
        if self.seed is not None:
            self.seed(worker_id)
        if worker_id in self.states:
            set_random_state(self.states[worker_id])


class StatefulCollate:
    """Collates samples and adds the random state of the worker after them; no samples give None."""

    def __init__(self, collate: Callable[[Any], Any]) -> None:
        self.collate = collate

    def __call__(self, samples: Sequence) -> Any:
        """Collate a batch; a worker adds ``random_state`` to it (the worker's number, its state)."""
        if not samples:
            return None
        batch = self.collate(samples)
        worker = get_worker_info()
        if worker is not None and isinstance(batch, dict):
            batch[_STATE] = (worker.id, random_state())
        return batch


class SkippingBatchSampler(Sampler):
    """Batches of another sampler, of which the first ones of a pass can be empty.

    Empty batches cost nothing, and the same workers make the later batches as without skipping.

    Args:
        sampler: Gives the indices.
        batch_size: Samples in a batch.
        inner: Config of the batch sampler; None: torch's.
        drop_last: For torch's batch sampler: whether to leave out a smaller last batch.
    """

    def __init__(self, sampler: Sampler, batch_size: int, inner: dict | None, drop_last: bool = False) -> None:
        if inner is None:
            self.inner = BatchSampler(sampler, batch_size, drop_last)
        else:
            self.inner = DATA_SAMPLERS.build(inner, default_args=dict(sampler=sampler, batch_size=batch_size))
        self.sampler, self.batch_size = sampler, batch_size
        self.skip = 0

    def __iter__(self) -> Iterator[list[int]]:
        """Indices by batch; the first ``skip`` batches are empty, in this pass only."""
        skip, self.skip = self.skip, 0
        for number, indices in enumerate(self.inner):
            yield [] if number < skip else indices

    def __len__(self) -> int:
        return len(self.inner)


def skipping(dataloader: DataLoader | dict) -> DataLoader | dict:
    """Make the config of a data loader able to skip batches; a loader that cannot be changed is returned unchanged."""
    if not isinstance(dataloader, dict) or not isinstance(dataloader.get('batch_sampler'), dict | None):
        return dataloader
    dataloader = dict(dataloader)
    dataloader['batch_sampler'] = dict(
        type=SkippingBatchSampler, inner=dataloader.get('batch_sampler'), drop_last=dataloader.pop('drop_last', False)
    )
    return dataloader


class TrainBatches:
    """Passes over a data loader, with the state that is needed to continue within a pass.

    Args:
        dataloader: A data loader, built from the result of :func:`skipping`.
    """

    def __init__(self, dataloader: DataLoader) -> None:
        self.dataloader = dataloader
        sampler = dataloader.batch_sampler
        self._skipper = sampler if isinstance(sampler, SkippingBatchSampler) else None
        self.position = 0  # batches of this pass that were handed out
        self._workers: dict[int, State] = {}  # state of each worker after its last batch that was handed out
        self._iterator: Iterator | None = None
        self._next_state: State | None = None  # of this process, for fetching the next batch
        dataloader.collate_fn = StatefulCollate(dataloader.collate_fn)
        start = dataloader.worker_init_fn
        self._start = start if isinstance(start, WorkerStart) else WorkerStart(start)
        dataloader.worker_init_fn = self._start

    def __iter__(self) -> Iterator[tuple[int, Any]]:
        """One pass, or the rest of an interrupted one: (number in the pass, batch)."""
        if self._skipper is not None:
            self._skipper.skip = self.position
        if not self.position and not self.dataloader.persistent_workers:
            self._workers = {}  # new workers start
        self._start.states = dict(self._workers)
        self._iterator = iter(self.dataloader)
        batches = enumerate(self._iterator)
        while True:
            promised, self._next_state = self._next_state, None
            if promised is not None:
                set_random_state(promised)
            number, batch = next(batches, (None, None))
            if number is None:
                self._next_state = promised  # for the next pass
                break
            if batch is None:
                continue  # skipped
            if isinstance(batch, dict) and _STATE in batch:
                worker, state = batch.pop(_STATE)
                self._workers[worker] = state
            self.position = number + 1
            yield number, batch
        self.position = 0
        self._iterator = None

    def close(self) -> None:
        """End the workers of an unfinished pass."""
        end_workers(self._iterator)

    def state(self) -> dict[str, Any]:
        """The state that a checkpoint needs to continue with the next batch, as plain values."""
        return dict(
            process=self._next_state or random_state(),
            workers=dict(self._workers),
            num_workers=self.dataloader.num_workers,
            position=self.position,
            length=len(self.dataloader),
        )

    def promise(self, draws: int) -> None:
        """Fetch the next batch with the present random state, whatever uses the generators until then.

        Args:
            draws: Number of seeds that data loaders will draw until then. The promised state is the one after these
                draws, so that it does not change the run if nothing else uses the generators.
        """
        if self._next_state is None:
            self._next_state = after_draws(random_state(), draws)

    def go_on(self, position: int, state: dict[str, Any] | None) -> None:
        """Begin the next pass after its first ``position`` batches, with the state that :meth:`state` gave there.

        Raises:
            UserError: If that is within a pass, and this data loader cannot skip batches or has another number of them.
        """
        if position and self._skipper is None:
            raise UserError(
                'the checkpoint lies within an epoch, and the batch_sampler of train_dataloader is no config, so that '
                'batches cannot be skipped: resume from a checkpoint of a whole epoch'
            )
        self.position = position
        if state is None:
            return
        length = len(self.dataloader)
        if position and state['length'] != length:
            raise UserError(
                f'the checkpoint lies within an epoch of {state["length"]} batches, which has {length} now: leave '
                'dataset, batch size and number of processes as they were, or resume from a checkpoint of a whole epoch'
            )
        self._next_state = state['process']
        if state['num_workers'] == self.dataloader.num_workers:
            self._workers = dict(state['workers'])
        else:
            print_log(
                f'num_workers was {state["num_workers"]} and is {self.dataloader.num_workers}: random augmentation '
                'will be another one than without the interruption',
                'current',
                logging.WARNING,
            )


def seeds_to_draw(dataloader: DataLoader) -> int:
    """Number of seeds that torch draws from this process's generator when a pass over a data loader begins."""
    goes_on = dataloader.persistent_workers and dataloader._iterator is not None
    return 0 if goes_on else 1


def end_workers(iterator: Iterator | None) -> None:
    """End the workers of a pass over a data loader now, not when Python collects the iterator."""
    shut_down = getattr(iterator, '_shutdown_workers', None)
    if shut_down is not None:
        shut_down()
