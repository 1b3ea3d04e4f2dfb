"""Times of code under test, for comparisons within one run."""

import time
from collections.abc import Callable


def cpu_seconds(function: Callable, *args) -> float:
    """CPU time of one call, all threads of the process together.

    What other processes take from this one does not count, but threads that spin while they wait do: use the fixture
    ``one_thread``.
    """
    start = time.process_time()
    function(*args)
    return time.process_time() - start
