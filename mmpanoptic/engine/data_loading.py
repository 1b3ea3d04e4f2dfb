"""Data of a training, batch by batch, so that it can go on exactly where it was interrupted."""

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
    """What a worker of a data loader does first: it is tied to its parent, seeded, and gets the state to go on from.

    Args:
        seed: Seeds the worker, called with its number; None to leave that to torch.
    """

    def __init__(self, seed: Callable[[int], None] | None) -> None:
        self.seed = seed
        self.states: Mapping[int, State] = {}

    def __call__(self, worker_id: int) -> None:
        """Start worker ``worker_id``, counted from 0."""
        die_with_parent()
        if self.seed is not None:
            self.seed(worker_id)
        if worker_id in self.states:
            set_random_state(self.states[worker_id])


class StatefulCollate:
    """Collates samples, and adds the state that the worker's generators then have; no samples give None."""

    def __init__(self, collate: Callable[[Sequence], Any]) -> None:
        self.collate = collate

    def __call__(self, samples: Sequence) -> Any:
        """A batch, with ``random_state`` in it (number of the worker, its state) if a worker makes it."""
        if not samples:
            return None
        batch = self.collate(samples)
        worker = get_worker_info()
        if worker is not None and isinstance(batch, dict):
            batch[_STATE] = (worker.id, random_state())
        return batch


class SkippingBatchSampler(Sampler):
    """Batches of another sampler, the first ones of a pass empty.

    Empty batches cost nothing, and those after them are made by the same workers as without.

    Args:
        sampler: Gives the indices.
        batch_size: Samples in a batch.
        inner: Config of the sampler of batches; None for torch's.
        drop_last: For torch's: leave out a last batch that is smaller.
    """

    def __init__(self, sampler: Sampler, batch_size: int, inner: dict | None, drop_last: bool = False) -> None:
        if inner is None:
            self.inner = BatchSampler(sampler, batch_size, drop_last)
        else:
            self.inner = DATA_SAMPLERS.build(inner, default_args=dict(sampler=sampler, batch_size=batch_size))
        self.sampler, self.batch_size = sampler, batch_size
        self.skip = 0

    def __iter__(self) -> Iterator[list[int]]:
        """Indices by batch; the first ``skip`` batches of this pass alone are empty."""
        skip, self.skip = self.skip, 0
        for number, indices in enumerate(self.inner):
            yield [] if number < skip else indices

    def __len__(self) -> int:
        return len(self.inner)


def skipping(dataloader: DataLoader | dict) -> DataLoader | dict:
    """The config of a data loader that can skip batches; what cannot be changed is returned as it is."""
    if not isinstance(dataloader, dict) or not isinstance(dataloader.get('batch_sampler'), dict | None):
        return dataloader
    dataloader = dict(dataloader)
    dataloader['batch_sampler'] = dict(
        type=SkippingBatchSampler, inner=dataloader.get('batch_sampler'), drop_last=dataloader.pop('drop_last', False)
    )
    return dataloader


class TrainBatches:
    """Passes over a data loader, and what is needed to go on in one of them.

    Args:
        dataloader: As built from :func:`skipping`.
    """

    def __init__(self, dataloader: DataLoader) -> None:
        self.dataloader = dataloader
        self.can_skip = isinstance(dataloader.batch_sampler, SkippingBatchSampler)
        self.position = 0  # batches of this pass that were handed out
        self._workers: dict[int, State] = {}  # after the last batch of each that was handed out
        self._iterator: Iterator | None = None
        self._next_state: State | None = None  # of this process, when the next batch is fetched
        dataloader.collate_fn = StatefulCollate(dataloader.collate_fn)
        if not isinstance(dataloader.worker_init_fn, WorkerStart):
            dataloader.worker_init_fn = WorkerStart(dataloader.worker_init_fn)

    def __iter__(self) -> Iterator[tuple[int, Any]]:
        """One pass, or the rest of the one to go on with: (number in the pass, batch)."""
        if self.can_skip:
            self.dataloader.batch_sampler.skip = self.position
        if not self.position and not self.dataloader.persistent_workers:
            self._workers = {}  # they start anew
        self.dataloader.worker_init_fn.states = dict(self._workers)
        self._iterator = iter(self.dataloader)
        batches = enumerate(self._iterator)
        while True:
            promised, self._next_state = self._next_state, None
            if promised is not None:
                set_random_state(promised)
            number, batch = next(batches, (None, None))
            if number is None:
                self._next_state = promised  # for the pass that comes
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
        """End the workers of a pass that is not finished."""
        end_workers(self._iterator)

    def state(self) -> dict[str, Any]:
        """What a checkpoint needs so that the batches go on from here, plain values."""
        return dict(
            process=self._next_state or random_state(),
            workers=dict(self._workers),
            num_workers=self.dataloader.num_workers,
            position=self.position,
            length=len(self.dataloader),
        )

    def promise(self, draws: int) -> None:
        """Fetch the next batch with the state of now, whatever uses the generators until then.

        Args:
            draws: How often data loaders will draw a seed until then; the promised state is the one after that, so that
                it is kept by itself where nothing else uses the generators.
        """
        if self._next_state is None:
            self._next_state = after_draws(random_state(), draws)

    def go_on(self, position: int, state: dict[str, Any] | None) -> None:
        """Begin the next pass behind its first ``position`` batches, with the state that :meth:`state` gave there.

        Raises:
            UserError: If that is within a pass, and this data loader cannot skip batches or has others.
        """
        if position and not self.can_skip:
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
    """How many seeds torch draws, from the generator of this process, when a pass over a data loader begins."""
    goes_on = dataloader.persistent_workers and dataloader._iterator is not None
    return 0 if goes_on else 1


def end_workers(iterator: Iterator | None) -> None:
    """End the workers of a pass over a data loader in good order, without waiting until Python finds it unused."""
    if hasattr(iterator, '_shutdown_workers'):
        iterator._shutdown_workers()
