"""From photo to export, stage by stage: seconds by the clock and peak memory, each photo in a process of its own."""

from __future__ import annotations

import json
import multiprocessing
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import torch
import tyro
from tqdm import tqdm

from align import Photo
from benchmarks.common import forget_peak, machine, memory_mib, save_sheet, text_table
from benchmarks.photo_drags import CORNER
from pipeline import EditSession, finish
from pipeline.report import close_up


@dataclass(frozen=True)
class Stage:
    name: str
    seconds: float  # by the clock
    cpu_s: float  # of all threads
    memory_mib: float  # the most that the process held, with all that it had loaded


def stages_of(photo: Path, generator: str, threads: int, device: str) -> tuple[list[Stage], np.ndarray, np.ndarray]:
    """To be called in a fresh process; with the face's close-ups before and after."""
    torch.set_num_threads(threads)
    stages: list[Stage] = []

    def stage(name: str, do: Callable[[], Any]) -> Any:
        forget_peak()
        started, cpu = time.perf_counter(), time.process_time()
        result = do()
        took = time.perf_counter() - started, time.process_time() - cpu
        stages.append(Stage(name, *took, memory_mib("VmHWM")))
        return result

    with TemporaryDirectory() as folder:
        session = EditSession(Path(folder), device=device)
        session.add_photo(photo)
        stage("align", session.align)
        steps = stage("load networks", lambda: _begun(session.invert(generator)))
        stage("invert", lambda: finish(steps))
        face, points = session.face(512), session.landmarks()
        handles = points[[CORNER.landmark]]
        stage("drag", lambda: finish(session.drag(handles, handles + np.array(CORNER.by) * face.scale)))
        stage("export", lambda: session.export(Path(folder) / "result.png"))
        after = Photo.load(Path(folder) / "result.png").pixels
        return stages, *(close_up(picture, face.quad, 1.0) for picture in (session.photo.pixels, after))


def _begun(steps: Any) -> Any:
    """Its first step has been taken, before which networks are loaded."""
    next(steps)
    return steps


def main(
    photos: Annotated[tuple[Path, ...], tyro.conf.Positional],
    out: Path,
    generator: str = "embedded",
    threads: int = 2,
    device: str = "cpu",
) -> None:
    """Each photo with a mouth's corner dragged by 8 pixels of a 512-pixel face; OUT gets whole_way.json, table.txt and
    a sheet of faces before and after.
    """
    found: dict[str, list[Stage]] = {}
    shown = []
    for photo in tqdm(photos, "photos"):
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            found[photo.stem], before, after = pool.apply(stages_of, (photo, generator, threads, device))
        shown.append({photo.stem: before, "exported": after})
    out.mkdir(parents=True, exist_ok=True)
    lines = []
    for name, stages in found.items():
        whole = Stage(
            "all", sum(s.seconds for s in stages), sum(s.cpu_s for s in stages), max(s.memory_mib for s in stages)
        )
        lines += [(name, *asdict(stage).values()) for stage in (*stages, whole)]
    text = text_table(["photo", "stage", "s", "cpu s", "peak MiB"], lines)
    print(text)
    (out / "table.txt").write_text(text + "\n")
    report = {**machine(), "threads": threads, "device": device, "generator": generator}
    report["stages"] = {name: [*map(asdict, stages)] for name, stages in found.items()}
    (out / "whole_way.json").write_text(json.dumps(report, indent=1))
    save_sheet(shown, out / "sheet.png", 400)


if __name__ == "__main__":
    tyro.cli(main)
