"""What every loop's steps have in common, and what whoever drains them needs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Protocol, TypeVar

SAVING = 0.2  # the share of the time that saving on the way may take; a drag's record takes 2 % on a local disk


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


def keep_last(
    steps: Iterator[S], save: Callable[[S], None], on_the_way: Callable[[S], None] | None = None
) -> Iterator[S]:
    """The same steps; the last good one is saved however the loop ends: done, left, Ctrl-C or a failure.

    `on_the_way` saves steps as they come, for a process that is killed: each of them, unless that took too long.
    """
    last = None
    try:
        for step in steps if on_the_way is None else _each_saved(steps, on_the_way):
            last = step
            yield step
    finally:
        if last is not None:
            save(last)


def _each_saved(steps: Iterator[S], save: Callable[[S], None]) -> Iterator[S]:
    due = 0.0
    for step in steps:
        started = time.monotonic()
        if started >= due:
            save(step)
            ended = time.monotonic()
            due = ended + (ended - started) / SAVING
        yield step
