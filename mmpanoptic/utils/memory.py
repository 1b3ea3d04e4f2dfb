"""Settings of the process's memory allocator."""

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of glibc's malloc.h


def keep_freed_memory() -> None:
    """Keep freed memory for later allocations, in this process and those that it forks. Works with glibc only.

    By default, glibc fetches large arrays (above a threshold of some 100 kB to some MB) from the kernel each time, and
    the kernel hands them out page by page and zeroed. For a map of an image, that costs more than the computation on
    it. After this call, memory stays with the process until it ends, which suits a program that does one thing.
    """
    mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)
    if mallopt is not None:
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(_M_MMAP_MAX, 0)
