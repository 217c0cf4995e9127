"""The whole way on every photo of a folder: a mouth corner dragged by 8 pixels of a 512-pixel face."""

from __future__ import annotations

import json
import platform
import sys
import time
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import numpy as np
import tyro
from PIL import Image

from align import Photo, choose_face, find_faces
from pipeline import Config, EditSession, finish
from pipeline.report import differing_outside, identity_distance, strip, with_arrows

CORNER = 48  # of iBUG 300-W: the mouth's corner on the left of the picture
DRAG = np.array([-5.66, -5.66])  # 8 px out and up


@dataclass(frozen=True)
class Row:
    """What was measured on one photo; lengths in pixels of a 512-pixel face."""

    photo: str
    left: float
    arrived: bool
    steps: int
    moved: float
    identity: float | None
    psnr: float
    outside: int
    align_s: float
    invert_s: float
    drag_s: float
    export_s: float


def measure(path: Path, config: Config, generator: str) -> tuple[Row, np.ndarray]:
    """Runs the whole way on a photo; its row and its strip of pictures."""
    seconds = [time.perf_counter()]
    with TemporaryDirectory() as folder:
        session = EditSession(Path(folder), config)
        session.add_photo(path)
        face = session.align()
        seconds.append(time.perf_counter())
        finish(session.invert(generator))
        seconds.append(time.perf_counter())
        points = choose_face(find_faces(session.photo.pixels)).points
        unit = face.scale * face.size / 512  # photo pixels per pixel of a 512-pixel face
        handles = points[[CORNER]]
        targets = handles + DRAG * unit
        seconds.append(time.perf_counter())
        step = finish(session.drag(handles, targets))
        seconds.append(time.perf_counter())
        result = session.result()
        result.save(Path(folder) / "result.png")
        seconds.append(time.perf_counter())
        exported = Photo.load(Path(folder) / "result.png")
        drawn = session.draw(session.inversion.latent)
        edited = session.draw(session.current_edit.latent)  # type: ignore[union-attr]
        aligned = session.face(len(drawn)).pixels
    before = session.photo.pixels
    after = choose_face(find_faces(exported.pixels)).points
    row = Row(
        photo=path.name,
        left=round(step.score, 2),
        arrived=step.arrived,
        steps=step.index,
        moved=round(float((after - points)[CORNER] @ DRAG / np.hypot(*DRAG) / unit), 2),
        identity=_rounded(identity_distance(before, exported.pixels)),
        psnr=round(float(10 * np.log10(255**2 / np.square(drawn - aligned).mean())), 2),
        outside=differing_outside(before, exported.pixels, face.quad),
        align_s=round(seconds[1] - seconds[0], 1),
        invert_s=round(seconds[2] - seconds[1], 1),
        drag_s=round(seconds[4] - seconds[3], 1),
        export_s=round(seconds[5] - seconds[4], 1),
    )
    pictures = {
        path.stem: with_arrows(before, handles, targets),
        "drawn": np.uint8(drawn),
        "drawn, edited": np.uint8(edited),
        "exported": exported.pixels,
    }
    return row, strip(pictures, 320)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def main(
    folder: Annotated[Path, tyro.conf.Positional],
    out: Annotated[Path, tyro.conf.Positional],
    pattern: str = "*",
    generator: str = "embedded",
    config: Annotated[Config, tyro.conf.arg(name="")] = Config(),  # noqa: B008
) -> None:
    """Measures every photo of a folder that fits the pattern, and writes table, JSON and pictures into OUT."""
    out.mkdir(parents=True, exist_ok=True)
    rows = []
    for path in sorted(folder.glob(pattern)):
        row, picture = measure(path, config, generator)
        Image.fromarray(picture).save(out / f"{path.stem}.png")
        rows.append(row)
        if len(rows) == 1:
            print("".join(f"{name:>12}" for name in asdict(row)))
        print("".join(f"{value!s:>12.22}" for value in asdict(row).values()), flush=True)
    machine = {"machine": platform.machine(), "system": platform.system(), "python": sys.version.split()[0]}
    versions = {name: version(name) for name in ("torch", "numpy", "dlib-bin", "opencv-python-headless")}
    report = {**machine, **versions, "generator": generator, "config": asdict(config), "rows": [*map(asdict, rows)]}
    (out / "corner_drag.json").write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    tyro.cli(main)
