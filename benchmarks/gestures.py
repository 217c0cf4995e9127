"""Every gesture at five strengths on real photos: is what came monotonic in what was asked, and does the rest stay?

What came is measured in the exported picture: turns by a pose fitted to its landmarks, hair by optical flow, all else
by its landmarks, as the strength whose move is nearest to theirs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import torch
import tyro
from PIL import Image

from align import AlignedFace
from benchmarks.common import inverted
from drag import BadEdit
from pipeline import Config, EditSession, finish
from pipeline.gestures import GESTURES, Region, ask, pose_of, region_mask
from pipeline.report import identity_distance, strip

SIZE = 256  # px: the aligned faces that are shown
HEAD = Region(tuple(range(27)), 1.0)  # outside of it is background
TOGETHER = (
    {"smile": 0.6, "turn": 10.0},
    {"smile": 0.6, "raise-brows": 0.6, "turn": -10.0},
    {"open-mouth": 0.5, "nod": 5.0},
)


@dataclass(frozen=True)
class Row:
    """One edit."""

    photo: str
    asked: Mapping[str, float]
    measured: Mapping[str, float]  # in the same units
    identity: float | None
    background: float  # mean absolute difference of the face's square outside the head, of 255
    outside: int  # pixels that differ outside the mask
    steps: int
    left: float  # mean distance of handles to targets, pixels of a 512-pixel face


def measure(photo: Path, sessions: Path | None, generator: str, config: Config) -> tuple[list[Row], np.ndarray]:
    """All gestures on one photo, each from the photo itself; rows, and a sheet with a line for each gesture."""
    torch.set_num_threads(1)
    session, _ = inverted(photo, sessions, generator, config)
    rows, lines = [], []
    for name, gesture in GESTURES.items():
        pictures = {}
        for strength in (gesture.low, gesture.low / 2, 0, gesture.high / 2, gesture.high):
            shown = session.face(SIZE).pixels
            if strength:
                try:
                    row, shown = edit(session, photo.stem, {name: strength})
                    rows.append(row)
                except BadEdit as refused:
                    print(f"{photo.stem}: {refused}", flush=True)
            pictures[f"{name} {strength:g}"] = shown
        lines.append(strip(pictures, SIZE))
    together = {}
    for strengths in TOGETHER:
        row, shown = edit(session, photo.stem, strengths)
        rows.append(row)
        together[" ".join(f"{name[:5]} {s:g}" for name, s in strengths.items())] = shown
    line = strip(together, SIZE)
    lines.append(np.pad(line, ((0, 0), (0, lines[0].shape[1] - line.shape[1]), (0, 0)), constant_values=255))
    return rows, np.concatenate(lines)


def edit(session: EditSession, name: str, strengths: Mapping[str, float]) -> tuple[Row, np.ndarray]:
    """One edit from the photo, measured, and the aligned face of its result."""
    before, points = session.photo.pixels, session.landmarks(of_photo=True)
    asked = ask(strengths, points, before.shape[:2])
    assert asked.mask is not None
    step = finish(session.drag(*asked, from_photo=True))
    after = session.result().pixels
    try:
        new = session.landmarks()
    except BadEdit:
        new = np.full_like(points, np.nan)
    measured = {each: round(_measured(session, each, s, points, new, after), 2) for each, s in strengths.items()}
    face = session.face(SIZE)
    shown = AlignedFace.crop(after, face.quad, SIZE).pixels
    background = ~face.mask_from_photo(region_mask(points, HEAD, before.shape[:2]))
    difference = np.abs(shown.astype(float) - face.pixels)[background].mean()
    large = [AlignedFace.crop(picture, face.quad, 512).pixels for picture in (before, after)]
    same = identity_distance(*large)
    outside = int(((before != after).any(2) & ~asked.mask).sum())
    row = Row(name, strengths, measured, None if same is None else round(same, 3), round(float(difference), 2), outside,
              step.index, round(step.score, 2))  # fmt: skip
    print(f"{name} {dict(strengths)}: {measured}, identity {row.identity}, background {row.background}", flush=True)
    return row, shown


def _measured(
    session: EditSession, name: str, strength: float, points: np.ndarray, new: np.ndarray, after: np.ndarray
) -> float:
    """The strength of one gesture in the result `after`, whose landmarks are `new`."""
    if name in ("turn", "nod", "tilt"):
        return pose_of(new, like=points).angles[name] - pose_of(points).angles[name]
    asked = ask({name: strength}, points, after.shape[:2])
    moves = asked.targets - asked.handles
    if name.startswith("hair"):
        came = _flow(session.face(512), after, asked.handles)
    else:
        at = [int(np.argmin(np.hypot(*(points - handle).T))) for handle in asked.handles]
        came = (new - points)[at]
    return strength * float((came * moves).sum() / (moves * moves).sum())


def _flow(face: AlignedFace, after: np.ndarray, handles: np.ndarray) -> np.ndarray:
    """How far the picture moved at points [N, 2] of the photo, in its pixels; along upright axes."""
    grey = [cv2.cvtColor(p, cv2.COLOR_RGB2GRAY) for p in (face.pixels, AlignedFace.crop(after, face.quad, 512).pixels)]
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(*grey, np.zeros((512, 512, 2), np.float32))
    x, y = np.clip(np.rint(face.from_photo(handles)).astype(int), 0, 511).T
    at = face.from_photo(handles)
    return face.to_photo(at + flow[y, x]) - handles


def monotonic(rows: list[Row]) -> dict[str, bool]:
    """Whether, of each gesture on each photo, more came the more was asked, nothing for nothing included."""
    series: dict[str, dict[float, float]] = {}
    for row in rows:
        if len(row.asked) == 1:
            ((name, strength),) = row.asked.items()
            series.setdefault(f"{row.photo} {name}", {0: 0.0})[strength] = row.measured[name]
    return {name: bool((np.diff([v for _, v in sorted(came.items())]) > 0).all()) for name, came in series.items()}


def main(
    photos: Annotated[list[Path], tyro.conf.Positional],
    out: Path,
    sessions: Path | None = None,
    generator: str = "embedded",
    processes: int = 2,
    config: Annotated[Config, tyro.conf.arg(name="")] = Config(),  # noqa: B008
) -> None:
    """Measures every gesture on photos; table, JSON and a sheet for each photo into OUT.

    `sessions` is a folder of sessions that are inverted already, and keeps those that are not.
    """
    out.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    run = partial(measure, sessions=sessions, generator=generator, config=config)
    with ProcessPoolExecutor(processes) as pool:
        for photo, (new, sheet) in zip(photos, pool.map(run, photos), strict=True):
            Image.fromarray(sheet).save(out / f"{photo.stem}.png")
            rows += new
    verdicts = monotonic(rows)
    print("not monotonic:", ", ".join(name for name, good in verdicts.items() if not good) or "none")
    report = {"generator": generator, "monotonic": verdicts, "rows": [asdict(row) for row in rows]}
    (out / "gestures.json").write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    tyro.cli(main)
