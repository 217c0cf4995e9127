"""One writer at a time: a lock on a session's folder, which the system lets go of when its process ends, however."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from pipeline.record import NotWritten


class SessionBusy(RuntimeError):
    """Another writer is at work in this session."""


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Holds the folder's lock. Raises SessionBusy, naming who has it; NotWritten where the folder takes no lock.

    Not reentrant: two loops of one process must not write side by side either.
    """
    lock = FileLock(folder / ".lock", timeout=0, thread_local=False)  # a loop may be closed by another thread
    holder = folder / ".lock-holder"  # beside the lock, which not every system lets others read
    try:
        lock.acquire()
    except Timeout:
        raise SessionBusy(f"{folder} is being written to by {_named(holder)}; reading is always allowed") from None
    except OSError as error:
        raise NotWritten(f"{folder} may not be written to ({error.strerror}): copy it, or change its rights") from error
    try:
        with suppress(OSError):  # only a name, for the message
            holder.write_text(json.dumps({"pid": os.getpid(), "program": Path(sys.argv[0]).name}))
        yield
    finally:
        lock.release()


def _named(holder: Path) -> str:
    try:
        found = json.loads(holder.read_text())
        pid, program = int(found["pid"]), str(found["program"])
    except (OSError, ValueError, KeyError, TypeError):
        return "another process: wait until it is done, or stop it"
    if pid == os.getpid():
        return "this process: finish or close the loop that is under way first"
    return f"process {pid} ({program}): wait until it is done, or stop it"
