"""weights.memory, each time in a process of its own."""

from __future__ import annotations

import multiprocessing
import resource
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
import torch

from weights.memory import glibc, keep_freed_memory, release_memory

pytestmark = pytest.mark.skipif(glibc() is None, reason="another C library, which is left alone")


def faults() -> int:
    """Pages that the kernel hands over while 128 MB are filled."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(2**25)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def resident() -> int:
    """Bytes of the process that are in memory now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def alone(measure: Callable[[], int]) -> int:
    """What `measure` returns in a new process.

    In this one an allocation may have failed, as some tests provoke it: glibc then serves the thread from an arena of
    small pieces for good, and gives every large array back as it did before.
    """
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        return process.submit(measure).result()


def fewest_faults() -> int:
    keep_freed_memory()
    return min(faults() for _ in range(5))


def given_back() -> int:
    keep_freed_memory()
    faults()
    kept = resident()
    release_memory()
    return kept - resident()


def test_what_is_freed_is_used_again_without_the_kernel() -> None:
    assert alone(fewest_faults) < 1000  # of 32,768 pages of 4 kB


def test_what_is_kept_can_be_given_back() -> None:
    assert alone(given_back) > 100e6
