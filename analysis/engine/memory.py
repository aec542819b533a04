"""How a process keeps its memory; free of torch."""

from __future__ import annotations

import contextlib
import ctypes
import resource


def reuse_memory() -> bool:
    """Tells glibc to keep freed memory instead of returning it to the system.

    A training step frees and allocates tens of megabytes; by default each such block is mapped anew and every
    page of it faults once per step, which costs a masked step about a twentieth.

    Returns:
        whether the C library took the advice; others than glibc do not have it.
    """
    trim_threshold, mmap_threshold, never = -1, -3, 2**30
    try:
        advise = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(advise(mmap_threshold, never)) and bool(advise(trim_threshold, never))


def limit_memory(size: int) -> None:
    """Lets this process, and each it forks, hold no more than so many bytes of its own; more is an error."""
    with contextlib.suppress(OSError, ValueError):  # a lower limit is there already
        resource.setrlimit(resource.RLIMIT_DATA, (size, resource.getrlimit(resource.RLIMIT_DATA)[1]))
