"""The C library's memory, kept between the steps of a loop.

glibc asks the kernel for every array of 32 MB or more and gives it back at once, and the kernel empties each of its
pages when it is touched again. In a step through a network of 1024 px that takes longer than the arithmetic.
"""

from __future__ import annotations

import ctypes
import sys
from functools import cache
from typing import Any

# mallopt(3)
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX, M_ARENA_MAX = -1, -2, -4, -8
TOP_PAD = 256 * 2**20  # bytes asked for at a time


@cache
def glibc() -> Any:
    """The process's C library, or None where it is another one, which is left alone."""
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "gnu_get_libc_version") else None


@cache
def keep_freed_memory() -> None:
    """From now on the process keeps what it frees, for the arrays to come; `release_memory` gives it back.

    Not in a thread for which an allocation failed before: glibc serves it from an arena of small pieces ever after.
    """
    if not glibc():
        return
    # One arena: the others hold no array of more than 64 MB.
    for option, value in ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, -1), (M_TOP_PAD, TOP_PAD), (M_ARENA_MAX, 1)):
        glibc().mallopt(option, value)


def release_memory() -> None:
    """Gives back to the system what `keep_freed_memory` has kept."""
    if glibc():
        glibc().malloc_trim(0)
