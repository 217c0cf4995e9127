"""What every loop's steps have in common, and what whoever drains them needs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol, TypeVar


class Step(Protocol):
    """A complete, valid result that a bar, a widget or a browser can show."""

    @property
    def index(self) -> int: ...
    @property
    def limit(self) -> int: ...
    @property
    def score(self) -> float: ...


S = TypeVar("S", bound=Step)


def finish(steps: Iterator[S]) -> S:
    """Drains the steps; the last one. Raises ValueError where there was none."""
    last = None
    for last in steps:  # noqa: B007
        pass
    if last is None:
        raise ValueError("no step was taken")
    return last


def keep_last(steps: Iterator[S], save: Callable[[S], None]) -> Iterator[S]:
    """The same steps; the last good one is saved however the loop ends: done, left, Ctrl-C or a failure."""
    last = None
    try:
        for step in steps:
            last = step
            yield step
    finally:
        if last is not None:
            save(last)
