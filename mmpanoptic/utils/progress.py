"""Work on many items, with a progress bar."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from .processes import die_with_parent


def tracked_map(function: Callable[[Any], Any], jobs: Sequence[Any], workers: int, description: str) -> Iterator[Any]:
    """``function(job)`` for every job, in the order of the jobs, with a progress bar.

    Args:
        function: Any picklable function.
        jobs: Its arguments.
        workers: Number of processes; below 2, all is done in this one.
        description: What stands before the bar.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    several = workers > 1 and len(jobs) > 1
    pool = ProcessPoolExecutor(workers, initializer=die_with_parent) if several else None
    try:
        results = pool.map(function, jobs) if pool else map(function, jobs)  # forks before the bar has its thread
        with Progress(*columns) as progress:
            yield from progress.track(results, total=len(jobs), description=description)
    finally:
        if pool:
            pool.shutdown(cancel_futures=True)
