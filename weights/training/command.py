"""What the training commands share."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import torch
import tyro
from torch import Tensor
from tqdm import tqdm

from weights.hub import WeightsMissing
from weights.memory import keep_freed_memory
from weights.training.data import BadPictures, load_pictures, smallest_width
from weights.training.faces import SHAPE_DIM, fit_faces, load_landmarks
from weights.training.features import FeaturesMissing
from weights.training.files import BadCheckpoint
from weights.training.pictures import fit_pictures
from weights.training.train import Subject

LOG_EVERY = 50  # steps, whose losses the log averages


A = TypeVar("A")


def run_command(kind: type[A], run: Callable[[A], None]) -> None:
    """Runs a command on the arguments of the command line; a user's mistake is one line."""
    arguments = tyro.cli(kind)
    keep_freed_memory()
    try:
        run(arguments)
    except (BadPictures, BadCheckpoint, FeaturesMissing, WeightsMissing) as error:
        sys.exit(f"{type(error).__name__}: {error}")
    except KeyboardInterrupt:  # what has something to keep has kept it
        sys.exit("stopped before there was anything to keep")


def set_up(threads: int, compiled: bool = False) -> None:
    """What a command begins with; `threads` of the CPU, 0: as many as there are cores."""
    if compiled and not has_compiler():
        sys.exit("--compiled needs a C++ compiler: install one (g++ or clang++), or leave the option out")
    stop_on_signals()
    if threads:
        torch.set_num_threads(threads)


def has_compiler() -> bool:
    """Whether torch finds what it compiles with."""
    return any(map(shutil.which, (os.environ.get("CXX", "g++"), "c++", "clang++", "cl")))


def stop_on_signals() -> None:
    """In the background a shell has Ctrl-C ignored; being asked to end should save as well."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)


def chosen_device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def checkpoint_of(out: Path) -> Path:
    return out / "checkpoint.safetensors"


def checkpoint_in(run: Path) -> Path:
    """The checkpoint of a training that must be there. Raises BadCheckpoint."""
    if not checkpoint_of(run).exists():
        raise BadCheckpoint(f"{run} holds no training: make one with python -m weights.training")
    return checkpoint_of(run)


def told(
    steps: Iterator[dict[str, float]], log: Path, counted: str, unit: str, total: int, size: int = 1, done: int = 0
) -> Iterator[None]:
    """Goes through the steps, each of `size` units, from `done` on, drawing the bar and writing the log."""
    recent: list[dict[str, float]] = []
    start = time.monotonic()
    with tqdm(total=total, initial=done, unit=unit, smoothing=0.02, mininterval=5) as bar, log.open("a") as file:
        for losses in steps:
            bar.update(size)
            recent.append(losses)
            if len(recent) == LOG_EVERY:
                now = time.monotonic()
                line = means(recent) | {"rate": round(LOG_EVERY * size / (now - start), 1)}  # units a second
                bar.set_postfix(line, refresh=False)
                file.write(json.dumps({counted: bar.n} | line) + "\n")
                file.flush()
                recent, start = [], now
            yield


def load_subject(
    data: Path,
    landmarks: Path | None,
    resolution: int,
    z_dim: int,
    codes: dict[str, Tensor] | None,
    device: torch.device,
) -> Subject:
    """The pictures of `data`, as faces where there are landmarks, with codes like those of a checkpoint if given."""
    if codes is not None and ("codes/mean" in codes) == bool(landmarks):
        raise BadCheckpoint(f"the training was begun {'without' if landmarks else 'with'} --landmarks: go on so")
    known = sum(tensor.shape[1] for name, tensor in (codes or {}).items() if name.endswith("/down"))
    if codes and known != z_dim - 1:
        raise BadCheckpoint(f"the training was begun with codes of {known} numbers: go on with --z-dim {known + 1}")
    if landmarks and not codes and z_dim - 1 <= SHAPE_DIM:
        raise BadCheckpoint(f"shape takes {SHAPE_DIM} numbers of z: go on with a larger --z-dim")
    if not landmarks:
        return fit_pictures(load_pictures(data, resolution).to(device), z_dim, codes)
    sharp = 2 * resolution if smallest_width(data) >= 2 * resolution else resolution
    pictures = load_pictures(data, sharp).to(device)
    return fit_faces(pictures, load_landmarks(landmarks, len(pictures)), z_dim, codes, resolution=resolution)


def means(steps: list[dict[str, float]]) -> dict[str, Any]:
    """The mean losses of some steps, for bar and log; each of the steps that have it."""
    values: dict[str, list[float]] = {}
    for name, value in (item for step in steps for item in step.items()):
        values.setdefault(name, []).append(value)
    return {name: round(sum(some) / len(some), 4) for name, some in values.items()}
