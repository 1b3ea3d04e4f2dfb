"""The allocator of the process."""

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of glibc's malloc.h


def keep_freed_memory() -> None:
    """Keep memory that is freed for what is allocated next, in this process and those that it forks. glibc alone.

    By default arrays from some 100 kB to some MB on are fetched from the kernel anew each time, which hands them out
    page by page and zeroed: for a map of an image that costs more than what is done with it. What was once in use then
    stays with the process until it ends, which suits a program that does one thing.
    """
    mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)
    if mallopt is not None:
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(_M_MMAP_MAX, 0)
