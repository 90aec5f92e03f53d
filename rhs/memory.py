"""The memory that a process keeps for itself once it has freed it."""

import ctypes

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's malloc.h
ALL = 2**31 - 1  # bytes, the most that it takes


def keep_freed_memory() -> None:
    """Let this process keep what it has freed, where the C library is glibc; else do nothing.

    glibc would have the system give it each large block anew, filled with zeros, and take it back:
    a convolution's output, a decoded image. In a network of many small layers that is up to a third
    of the time (benchmarks/allocator.py). No number changes; the peak of memory is somewhat higher,
    as blocks no longer fit together as well, and what was reached once is held until the end.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library, or none to ask
        return
    mallopt(M_MMAP_MAX, 0)
    mallopt(M_TRIM_THRESHOLD, ALL)
