"""weights.memory, on the process that runs the tests: every session keeps memory so."""

from __future__ import annotations

import resource
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


def test_what_is_freed_is_used_again_without_the_kernel() -> None:
    keep_freed_memory()
    assert min(faults() for _ in range(5)) < 1000  # of 32,768 pages of 4 kB


def test_what_is_kept_can_be_given_back() -> None:
    keep_freed_memory()
    faults()
    kept = resident()
    release_memory()
    assert resident() < kept - 100e6
