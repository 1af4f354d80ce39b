"""What becomes of memory that is freed: kept for the next use, or given back to the system. Without glibc: nothing."""

from __future__ import annotations

import ctypes
from typing import Any

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h


def keep_memory() -> None:
    """Tells glibc to keep large freed blocks, because each update allocates the same ones again.

    Otherwise glibc returns each block to the kernel, which clears it before the next use: that takes a tenth to a fifth
    of the time of an update on a CPU.
    """
    if (mallopt := _function("mallopt")) is not None:
        mallopt(M_MMAP_THRESHOLD, 2**25)  # the most that glibc takes
        mallopt(M_TRIM_THRESHOLD, 2**30)


def give_memory_back() -> None:
    """Tells glibc to give back all that is free now, after work that took far more than an update does."""
    if (malloc_trim := _function("malloc_trim")) is not None:
        malloc_trim(0)


def _function(name: str) -> Any:
    try:
        return getattr(ctypes.CDLL(None), name)
    except (OSError, AttributeError, TypeError):
        return None
