"""Work on many items, with a progress bar."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from .processes import die_with_parent


def tracked(items: Iterable[Any], total: int | None, description: str) -> Iterator[Any]:
    """Yield the items and show a progress bar with items per second.

    Args:
        items: The items.
        total: Number of items; None if it is not known.
        description: Text before the bar.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, Task, TextColumn, TimeRemainingColumn

    class SpeedColumn(TextColumn):
        def render(self, task: Task) -> Any:
            speed = task.finished_speed or task.speed
            return self.text_format if speed is None else f'{speed:.1f}/s'

    columns = (BarColumn(), MofNCompleteColumn(), SpeedColumn('-/s'), TimeRemainingColumn())
    with Progress(TextColumn('{task.description}'), *columns) as progress:
        yield from progress.track(items, total=total, description=description)


def tracked_map(function: Callable[[Any], Any], jobs: Sequence[Any], workers: int, description: str) -> Iterator[Any]:
    """``function(job)`` for every job, in the order of the jobs, with a progress bar.

    Args:
        function: Any picklable function.
        jobs: Its arguments.
        workers: Number of processes; below 2, all work is done in this process.
        description: Text before the bar.
    """
    several = workers > 1 and len(jobs) > 1
    pool = ProcessPoolExecutor(workers, initializer=die_with_parent) if several else None
    try:
        results = pool.map(function, jobs) if pool else map(function, jobs)  # forks before the bar has its thread
        yield from tracked(results, len(jobs), description)
    finally:
        if pool:
            pool.shutdown(cancel_futures=True)
