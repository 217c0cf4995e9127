"""One device, one queue: jobs are generators of steps, run one after the other; and a painter beside them.

The painter draws the newest picture that was offered, in a thread of its own, so that no step waits for a drawing.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

Status = Literal["waiting", "running", "paused", "stopping"]
# The share of its time that the painter may draw: the steps want the processors too. On two that is 8 %; where there
# are more, a frame takes less from the steps.
BUSY = min(0.9, 0.04 * (os.cpu_count() or 1))
REST = 1.0  # seconds from one frame to the next at most, whatever they cost
log = logging.getLogger(__name__)


@dataclass(eq=False)
class Job:
    """Work for the device. All of it, closing too, happens in the worker's thread; it answers for its own errors."""

    kind: str
    steps: Iterator[object]
    ended: Callable[[], None] = lambda: None
    started: bool = field(default=False, init=False)
    paused: bool = field(default=False, init=False)
    stopping: bool = field(default=False, init=False)

    @property
    def status(self) -> Status:
        if self.stopping:
            return "stopping"
        return "paused" if self.paused else "running" if self.started else "waiting"


class Worker:
    """Runs jobs in the order they came. A paused one lets the next go ahead."""

    def __init__(self) -> None:
        self._jobs: list[Job] = []
        self._changed = threading.Condition()
        self._drawing: Callable[[], None] | None = None
        self._offered = threading.Event()
        self._rested = threading.Event()  # no need to wait for the next frame
        self._closing = False
        # Daemons, so that an error elsewhere cannot keep the program alive.
        self._threads = [
            threading.Thread(target=run, name=name, daemon=True)
            for name, run in (("worker", self._run), ("painter", self._paint))
        ]
        for thread in self._threads:
            thread.start()
        atexit.register(self.close)  # a daemon that draws while the program ends would abort it

    def add(self, job: Job) -> None:
        with self._changed:
            self._jobs.append(job)
            self._changed.notify_all()

    def add_aside(self, job: Job) -> None:
        """Runs a job that wants no device, a download for instance, in a thread of its own. It cannot be paused."""

        def run() -> None:
            while not (job.stopping or self._closing) and self._step(job):
                pass
            self._end(job)

        threading.Thread(target=run, name=job.kind, daemon=True).start()

    def steer(self, job: Job, *, paused: bool = False, stopping: bool = False) -> None:
        """Pauses a job, lets it go on, or stops it; what it has done is kept."""
        with self._changed:
            job.paused, job.stopping = paused, stopping or job.stopping
            self._changed.notify_all()

    def place(self, job: Job) -> int:
        """How many jobs are before this one."""
        with self._changed:
            return self._jobs.index(job) if job in self._jobs else 0

    def wait(self, job: Job) -> None:
        """Returns when the job is done, however it ended."""
        with self._changed:
            self._changed.wait_for(lambda: job not in self._jobs)

    def close(self) -> None:
        """Stops all jobs; what they have done is kept. Returns when both threads have ended."""
        with self._changed:
            self._closing = True
            for job in self._jobs:
                job.stopping = True
            self._changed.notify_all()
        self._offered.set()
        self._rested.set()
        for thread in self._threads:
            thread.join()
        atexit.unregister(self.close)

    def offer(self, drawing: Callable[[], None]) -> None:
        """The newest picture to draw; an older one that was not yet drawn is forgotten."""
        self._drawing = drawing
        self._offered.set()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closing or self._next() is not None)
                job = self._next()
            if job is None:
                return
            if job.stopping or not self._step(job):
                self._end(job)

    def _next(self) -> Job | None:
        return next((job for job in self._jobs if job.stopping or not job.paused), None)

    def _step(self, job: Job) -> bool:
        """One step of it; false at its end."""
        if not job.started:
            job.started = True
            self._rested.set()  # its first picture is drawn at once
        try:
            next(job.steps)
        except StopIteration:
            return False
        except Exception:
            log.exception("a job failed")
            return False
        return True

    def _end(self, job: Job) -> None:
        for last in (getattr(job.steps, "close", None), job.ended):
            try:
                if last is not None:
                    last()
            except Exception:
                log.exception("the end of a job failed")
        with self._changed:
            if job in self._jobs:
                self._jobs.remove(job)
            self._changed.notify_all()

    def _paint(self) -> None:
        while not self._closing:
            self._offered.wait()
            self._offered.clear()
            drawing, self._drawing = self._drawing, None
            started = time.monotonic()
            self._rested.clear()
            try:
                if drawing is not None:
                    drawing()
            except Exception:
                log.exception("a frame could not be drawn")
            spent = time.monotonic() - started
            self._rested.wait(min(max(REST - spent, 0), spent * (1 / BUSY - 1)))
