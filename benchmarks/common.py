"""What the long benchmarks share: where they ran, a journal of what is measured, and pairs of generated faces."""

from __future__ import annotations

import json
import math
import platform
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from align import choose_face, find_faces
from pipeline import Config, EditSession, finish
from pipeline.report import strip
from weights import Generator, to_pixels

Pictures = dict[str, np.ndarray]  # uint8 [H, W, 3] under their names


def machine() -> dict[str, Any]:
    """What figures depend on."""
    versions = {name: version(name) for name in ("torch", "numpy")}
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "machine": platform.machine(), "system": platform.system(), "python": sys.version.split()[0], **versions,
        "threads": torch.get_num_threads(), "cpu": _cpu(), "gpu": gpu,
    }  # fmt: skip


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    names = [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    return names[0] if names else platform.processor()


def memory_mib(name: str) -> float:
    """A size that Linux keeps of this process: VmRSS is what it has now, VmHWM the most since `forget_peak`."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) / 1024


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


class Journal:
    """A file of JSON lines: the settings of a run, then what it measured, as it goes.

    So a run that was stopped goes on where it was. Exits where the file holds a run with other settings.
    """

    def __init__(self, path: Path, settings: dict[str, Any]):
        self.path, self.entries = path, dict[str, Any]()
        settings = json.loads(json.dumps(settings, default=str))  # as it will be read
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        whole = [line for line in lines if line.endswith("\n")]  # the last may have been cut off
        if not whole:
            path.parent.mkdir(parents=True, exist_ok=True)
            whole = [json.dumps({"settings": settings}) + "\n"]
        elif (before := json.loads(whole[0])["settings"]) != settings:
            other = [key for key in before | settings if before.get(key) != settings.get(key)]
            raise SystemExit(f"{path} holds a run with other settings ({', '.join(other)}): give another folder")
        path.write_text("".join(whole))
        for line in whole[1:]:
            entry = json.loads(line)
            self.entries[entry["key"]] = entry["value"]

    def todo(self, keys: Iterable[str], text: str, seconds: float = math.inf) -> Iterator[str]:
        """Those of the keys that are not in it yet, under a bar, until so many seconds are over."""
        started = time.monotonic()
        for key in tqdm([key for key in keys if key not in self.entries], text):
            if time.monotonic() - started > seconds:
                return
            yield key

    def add(self, key: str, value: Any) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps({"key": key, "value": value}) + "\n")
        self.entries[key] = json.loads(json.dumps(value))


@contextmanager
def stoppable() -> Iterator[None]:
    """Ctrl-C ends what is within, not the program."""
    try:
        yield
    except KeyboardInterrupt:
        print("stopped: the same command goes on from here")


def inverted(photo: Path, sessions: Path | None, generator: str, config: Config) -> tuple[EditSession, float | None]:
    """The photo's session, and the seconds of its inversion; None where `sessions` had it inverted already."""
    session = EditSession((sessions or Path(mkdtemp())) / photo.stem, config)
    session.add_photo(photo)
    if not session.files.is_done("face", {}):
        session.align()
    if session.files.file("tuned").is_file():
        return session, None
    started = time.perf_counter()
    finish(session.invert(generator))
    return session, time.perf_counter() - started


@dataclass(frozen=True)
class Outcome:
    """Where a loop ended, and what it took: seconds of processor, of all threads, which other work disturbs least."""

    latent: torch.Tensor  # [num_ws, w_dim]
    handles: np.ndarray  # [N, 2]
    steps: int
    arrived: bool
    cpu_s: float


def timed(run: Callable[[], tuple[torch.Tensor, np.ndarray, int, bool]]) -> Outcome:
    started = time.process_time()
    return Outcome(*run(), time.process_time() - started)


def draw(generator: Generator, latent: torch.Tensor) -> np.ndarray:
    """uint8 [512, 512, 3], large enough for the landmarks."""
    with torch.no_grad():
        pixels = np.uint8(to_pixels(generator.render(latent[None])))
    return cv2.resize(pixels, (512, 512), interpolation=cv2.INTER_CUBIC)


def landmarks(generator: Generator, latent: torch.Tensor) -> np.ndarray:
    """dlib's 68 points [68, 2] of the drawn face, in pixels of 512. Raises NoFaceFound."""
    return choose_face(find_faces(draw(generator, latent))).points


def scaled(points: np.ndarray, generator: Generator) -> np.ndarray:
    """Pixels of a 512-pixel face as those of the generator's, inside its picture."""
    return np.clip((points + 0.5) * generator.resolution / 512 - 0.5, 0, generator.resolution - 1)


def save_sheet(rows: Iterable[Pictures], path: Path, height: int = 192) -> None:
    """A contact sheet, a row of named pictures upon another."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate([strip(row, height) for row in rows])).save(path)


def text_table(header: list[str], rows: Iterable[Iterable[Any]]) -> str:
    """Columns as wide as what is in them, numbers to the right."""
    lines = [header, *([_text(value) for value in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(f"{cell:>{width}}" for cell, width in zip(line, widths, strict=True)) for line in lines)


def _text(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
