"""Drags killed (SIGKILL) at random moments: is every finished edit still there, and how many steps were lost?

A session's copy is dragged again and again by a process of its own, which is killed. After each: the session opens,
no finished edit has changed by a byte, nothing is locked, and the killed drag is there as far as it had been told.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import numpy as np
import torch
import tyro

from drag import DragConfig
from pipeline import Config, EditSession, progress
from weights import sha256_of


@dataclass(frozen=True)
class Kill:
    """What one killed drag left."""

    after_s: float
    told: int  # the last step that the dragging process had got, -1: none
    kept: int  # the last step on disk, -1: none
    finished: bool  # it was faster than the kill


def drag_and_tell(
    folder: Path, config: Config, saving: float, handles: np.ndarray, targets: np.ndarray, pipe: Connection
) -> None:
    torch.set_num_threads(1)
    progress.SAVING = saving
    for step in EditSession(folder, config).drag(handles, targets):
        pipe.send(step.index)
    pipe.send("finished")


def kill_once(folder: Path, config: Config, saving: float, after: float) -> Kill:
    """Starts a drag and kills it `after` seconds from its first step. Raises AssertionError where an edit is lost."""
    before = {file.name: sha256_of(file) for file in (folder / "edits").glob("*.safetensors")}
    quad = EditSession(folder).files.read("face").arrays["quad"]
    handles = quad.mean(0, keepdims=True)
    receiver, sender = multiprocessing.Pipe(duplex=False)
    # Forked: a fresh Python would import torch for seconds each time. Nothing here has computed with torch yet.
    arguments = (folder, config, saving, handles, handles + (quad[3] - quad[0]) * 0.06, sender)
    child = multiprocessing.get_context("fork").Process(target=drag_and_tell, args=arguments)
    child.start()
    sender.close()
    heard = [receiver.recv()]
    time.sleep(after)
    child.kill()
    child.join()
    try:
        while True:
            heard.append(receiver.recv())
    except (EOFError, OSError):
        pass
    steps = [told for told in heard if told != "finished"]
    return Kill(after, steps[-1], check(folder, before), "finished" in heard)


def check(folder: Path, before: dict[str, str]) -> int:
    """Opens the session that a kill has left; the last step of the new edit, -1 where there is none."""
    session = EditSession(folder)
    assert all(sha256_of(folder / "edits" / name) == digest for name, digest in before.items())
    entries = session.history()
    assert not any(entry.problem for entry in entries)
    session.goto(session.tree.current)  # the lock is free, and what lay half-written is cleared away
    assert not list(folder.rglob("*.part"))
    new = [entry for entry in entries if f"{entry.number:03}.safetensors" not in before]
    assert len(new) <= 1 and all(session.edit(entry.number) for entry in entries)
    return new[0].outcome.steps if new and new[0].outcome else -1


def main(
    session: Annotated[Path, tyro.conf.Positional],
    runs: int = 30,
    longest: float = 3.0,
    steps: int = 300,
    most_lost: int = 1,
    saving: float = progress.SAVING,
    seed: int = 0,
) -> None:
    """Kills RUNS drags on a copy of an inverted session, each at a random moment up to LONGEST seconds.

    SAVING is the share of the time that saving on the way may take. With `inf` every step is saved before it is told,
    and none may be lost; with less, one slow write costs the steps of a few times as long.
    """
    moments, kills = random.Random(seed), []
    torch.optim.Adam([torch.zeros(1, requires_grad=True)])  # imports for seconds what every child would
    with TemporaryDirectory() as scratch:
        folder = Path(scratch) / "session"
        shutil.copytree(session, folder)
        config = Config(drag=DragConfig(steps=steps, within=1e-9, patience=steps))  # it never ends early
        for _ in range(runs):
            kill = kill_once(folder, config, saving, moments.uniform(0, longest))
            kills.append(kill)
            how = "finished" if kill.finished else f"killed at {kill.after_s:.2f} s"
            print(f"{how}: told of step {kill.told}, kept {kill.kept}", flush=True)
    lost = [kill.told - max(kill.kept, 0) for kill in kills if not kill.finished]
    print(f"{len(lost)} killed, {len(kills) - len(lost)} finished; steps lost: at most {max(lost, default=0)}")
    assert all(count <= most_lost for count in lost), f"more than {most_lost} steps were lost"


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    tyro.cli(main)
