"""Threads that compute results before they are needed."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any


def ahead(function: Callable[[Any], Any], jobs: Iterable[Any], threads: int, depth: int) -> Iterator[Any]:
    """``function(job)`` for every job, in the order of the jobs, computed while earlier ones are used.

    Args:
        function: The computation; it should release the GIL most of the time, as decoders do.
        jobs: Its arguments; they are taken one by one, no more than ``depth`` before they are used.
        threads: Number of threads; 0: the caller's thread computes each result when it is asked for.
        depth: Largest number of results that wait to be asked for; bounds the memory.

    Raises:
        Exception: What the function raises, when its result is asked for; what ``jobs`` raises, after the results of
            all jobs before it.
    """
    if not threads:
        yield from map(function, jobs)
        return
    jobs, ended = iter(jobs), []

    def taken(number: int) -> Iterator[Any]:
        try:
            yield from islice(jobs, number)
        except Exception as error:  # of the jobs, not of the function
            ended.append(error)

    pool = ThreadPoolExecutor(threads, thread_name_prefix='ahead')
    try:
        waiting = deque(pool.submit(function, job) for job in taken(max(1, depth)))
        while waiting:
            result = waiting.popleft().result()
            if not ended:
                waiting.extend(pool.submit(function, job) for job in taken(1))
            yield result
        if ended:
            raise ended[0]
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
