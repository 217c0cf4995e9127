"""The whole way on every photo of a folder: a mouth corner dragged by 8 pixels of a 512-pixel face, a nose by 12."""

from __future__ import annotations

import json
import platform
import sys
import time
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import tyro
from PIL import Image

from align import Photo, choose_face, find_faces
from benchmarks.common import inverted
from pipeline import Config, EditSession, finish
from pipeline.report import close_up, differing_outside, identity_distance, seam, strip, with_arrows


@dataclass(frozen=True)
class Drag:
    """One landmark of iBUG 300-W, and where it goes in pixels of a 512-pixel face: right and down are positive."""

    name: str
    landmark: int
    by: tuple[float, float]


CORNER = Drag("corner", 48, (-5.66, -5.66))  # the mouth's corner on the left of the picture, 8 px out and up
YAW = Drag("yaw", 30, (-12.0, 0.0))  # the nose's tip, 12 px to the left
DRAGS = (CORNER, YAW)


@dataclass(frozen=True)
class Row:
    """What was measured on one photo; lengths in pixels of a 512-pixel face."""

    photo: str
    drag: str
    left: float
    arrived: bool
    steps: int
    moved: float
    identity: float | None
    outside: int
    seam: float | None  # how much the edit changes the photo's slope at the rim of what it changed, of 255 a pixel
    seam_own: float | None  # how steep the photo is there itself
    drag_s: float
    export_s: float
    drawn_identity: float | None
    psnr: float
    invert_s: float | None  # None: it was inverted already


def measure(path: Path, sessions: Path | None, config: Config, generator: str) -> tuple[list[Row], np.ndarray]:
    """Runs the whole way on a photo, each drag from the photo itself; its rows and its strip of pictures."""
    session, seconds = inverted(path, sessions, generator, config)
    before = session.photo.pixels
    drawn = session.draw(session.inversion.latent)
    aligned = session.face(len(drawn)).pixels
    shared = {
        "drawn_identity": _rounded(identity_distance(_large(aligned), _large(np.uint8(drawn)))),
        "psnr": round(float(10 * np.log10(255**2 / np.square(drawn - aligned).mean())), 2),
        "invert_s": seconds and round(seconds, 1),
    }
    points = choose_face(find_faces(before)).points
    pictures, rows = {path.stem: aligned, "drawn": np.uint8(drawn)}, []
    for drag in DRAGS:
        row, shown = _measure_drag(session, drag, points, session.folder / f"{drag.name}.png")
        rows.append(Row(photo=path.name, **row, **shared))
        pictures |= shown
    return rows, strip(pictures, 256)


def _measure_drag(
    session: EditSession, drag: Drag, points: np.ndarray, output: Path
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """One drag from the photo, exported and read again: what a Row holds of it, and its pictures."""
    face, before = session.face(512), session.photo.pixels
    handles = points[[drag.landmark]]
    targets = handles + np.array(drag.by) * face.scale
    started = time.perf_counter()
    step = finish(session.drag(handles, targets, from_photo=True))
    dragged = time.perf_counter()
    session.export(output, overwrite=True)
    exported = time.perf_counter()
    after = Photo.load(output).pixels
    current = session.current_edit
    assert current is not None
    rim = seam(before, after)
    row = {
        "drag": drag.name,
        "left": round(step.score, 2),
        "arrived": step.arrived,
        "steps": step.index,
        "moved": round(_moved(drag, points, after) / face.scale, 2),
        "identity": _rounded(identity_distance(before, after)),
        "outside": differing_outside(before, after, face.quad),
        "seam": _rounded(rim and rim.difference),
        "seam_own": _rounded(rim and rim.own),
        "drag_s": round(dragged - started, 1),
        "export_s": round(exported - dragged, 1),
    }
    pictures = {
        f"{drag.name}: asked": close_up(with_arrows(before, handles, targets), face.quad),
        "drawn": np.uint8(session.draw(current.latent)),
        "exported": close_up(after, face.quad),
    }
    return row, {f"{drag.name} {name}" if name in ("drawn", "exported") else name: p for name, p in pictures.items()}


def _moved(drag: Drag, points: np.ndarray, after: np.ndarray) -> float:
    """How far dlib's landmark came along the drag, in pixels of the photo."""
    now = choose_face(find_faces(after)).points
    return float((now - points)[drag.landmark] @ np.array(drag.by) / np.hypot(*drag.by))


def _large(picture: np.ndarray) -> np.ndarray:
    """Large enough for dlib's detector, which knows faces of 80 pixels and more."""
    return cv2.resize(picture, (512, 512), interpolation=cv2.INTER_CUBIC)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def main(
    folder: Annotated[Path, tyro.conf.Positional],
    out: Annotated[Path, tyro.conf.Positional],
    pattern: str = "*",
    sessions: Path | None = None,
    generator: str = "embedded",
    config: Annotated[Config, tyro.conf.arg(name="")] = Config(),  # noqa: B008
) -> None:
    """Measures every photo of a folder that fits the pattern, and writes table, JSON and pictures into OUT.

    `sessions` is a folder of sessions that are inverted already, and keeps those that are not.
    """
    out.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    for path in sorted(folder.glob(pattern)):
        new, picture = measure(path, sessions, config, generator)
        Image.fromarray(picture).save(out / f"{path.stem}.png")
        if not rows:
            print("".join(f"{name:>15}" for name in asdict(new[0])))
        for row in new:
            print("".join(f"{value!s:>15.14}" for value in asdict(row).values()), flush=True)
        rows += new
    machine = {"machine": platform.machine(), "system": platform.system(), "python": sys.version.split()[0]}
    versions = {name: version(name) for name in ("torch", "numpy", "dlib-bin", "opencv-python-headless")}
    report = {**machine, **versions, "generator": generator, "config": asdict(config), "rows": [*map(asdict, rows)]}
    (out / "photo_drags.json").write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    tyro.cli(main)
