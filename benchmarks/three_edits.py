"""Three edits upon each other on one photo, by points: the head turned, the hair lifted, a smile; then all undone.

Each edit's handles are given where they are seen then, in the result so far. The hair and the smile have masks,
outside which the result so far is held.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import cv2
import numpy as np
import tyro
from PIL import Image

from align import AlignedFace, choose_face, find_faces
from pipeline import Config, EditSession, finish
from pipeline.compare import contact_sheet
from pipeline.edits import Anchor
from pipeline.report import close_up, differing_outside, identity_distance, strip, with_arrows

TURN = {30: (-12.0, 0.0), 27: (-8.0, 0.0), 8: (-8.0, 0.0)}  # nose tip and root, and chin, to one side
SMILE = {48: (-8.0, -8.0), 54: (8.0, -8.0)}  # the mouth's corners, out and up
HAIR = (0.0, -14.0)  # the hair over the brows, up
HAIRLINE = 0.8  # how far over the brows there is hair, in distances of the nose's root from the mouth


@dataclass(frozen=True)
class Asked:
    """One edit in pixels of the photo."""

    name: str
    handles: np.ndarray
    targets: np.ndarray
    mask: np.ndarray | None


@dataclass(frozen=True)
class Row:
    """What was measured of one edit; lengths in pixels of a 512-pixel face."""

    photo: str
    edit: str
    stopped: str
    steps: int
    left: float  # handles to targets at the end
    identity: float | None  # to the photo; one person below 0.6
    outside: int  # the largest difference outside the mask to what is held there, of 255
    outside_square: int  # pixels that differ from the photo outside the face's square
    drag_s: float
    picture_s: float


def asked(name: str, pixels: np.ndarray, face: AlignedFace) -> Asked:
    """An edit of the face in `pixels`, which is of the photo's size; `face` is 512 px wide."""
    points = choose_face(find_faces(pixels)).points
    if name == "turn":
        return Asked(name, *_moves(points, TURN, face), None)
    if name == "smile":
        hull = np.concatenate([points[2:15], points[[29]]])
        return Asked(name, *_moves(points, SMILE, face), _filled(hull, pixels))
    up = (points[27] - (points[48] + points[54]) / 2) * HAIRLINE
    handles = points[[19, 24]] + up
    corners = face.to_photo(np.array([[0, 0], [511, 0], [511, 0], [0, 0]]))
    corners[2:] = points[[26, 17]] + (points[[26, 17]] - points[27]) * 0.6
    return Asked(name, handles, handles + face.scale * np.array(HAIR), _filled(corners, pixels))


def _moves(points: np.ndarray, moves: dict[int, tuple[float, float]], face: AlignedFace) -> tuple[np.ndarray, ...]:
    handles = points[list(moves)]
    return handles, handles + np.array(list(moves.values())) * face.scale


def _filled(corners: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    hull = cv2.convexHull(np.rint(corners).astype(np.int32))
    return cv2.fillConvexPoly(np.zeros(pixels.shape[:2], np.uint8), hull, (1,)).astype(bool)


def measure(path: Path, config: Config, anchor: Anchor) -> tuple[list[Row], dict[str, np.ndarray], np.ndarray]:
    """Three edits on a photo; their rows, their pictures, and the session's contact sheet."""
    with TemporaryDirectory() as folder:
        session = EditSession(Path(folder) / "session", config)
        session.add_photo(path)
        session.align()
        finish(session.invert())
        rows, pictures = [], {path.stem: close_up(session.photo.pixels, session.face(512).quad, 1.0)}
        for name in ("turn", "hair", "smile"):
            row, shown = _edit(session, name, path.name, anchor)
            rows.append(row)
            pictures |= shown
        for _ in rows:
            session.undo()
        assert session.current_edit is None and np.array_equal(session.result().pixels, session.photo.pixels)
        quad = session.face(512).quad
        every = {number: close_up(session.result(number).pixels, quad, 1.0) for number in range(len(rows) + 1)}
        return rows, pictures, contact_sheet(session.history(), every)


def _edit(session: EditSession, name: str, photo: str, anchor: Anchor) -> tuple[Row, dict[str, np.ndarray]]:
    face, before = session.face(512), session.result().pixels
    edit = asked(name, before, face)
    finish(session.drag(edit.handles, edit.targets, edit.mask, anchor=anchor))
    done, started = session.current_edit, cv2.getTickCount()
    after = session.result().pixels
    seconds = (cv2.getTickCount() - started) / cv2.getTickFrequency()
    assert done is not None
    held = before if anchor == "previous" else session.photo.pixels
    apart = np.abs(after.astype(int) - held).max(2)
    same = identity_distance(session.photo.pixels, after)
    row = Row(
        photo, name, done.outcome.stopped, done.outcome.steps, round(done.outcome.score, 2),
        None if same is None else round(same, 3), 0 if edit.mask is None else int(apart[~edit.mask].max()),
        differing_outside(session.photo.pixels, after, face.quad), done.outcome.seconds or 0.0, round(seconds, 2),
    )  # fmt: skip
    drawn = with_arrows(before, edit.handles, edit.targets)
    if edit.mask is not None:
        drawn[~edit.mask] = drawn[~edit.mask] // 2
    return row, {f"{name}: asked": close_up(drawn, face.quad, 1.0), name: close_up(after, face.quad, 1.0)}


def main(
    photos: Annotated[list[Path], tyro.conf.Positional],
    out: Path = Path("three-edits"),
    anchor: Anchor = "previous",
    config: Annotated[Config, tyro.conf.arg(name="")] = Config(),  # noqa: B008
) -> None:
    """Measures the photos, and writes a table, a JSON and the pictures into OUT."""
    out.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    for path in photos:
        new, pictures, sheet = measure(path, config, anchor)
        Image.fromarray(strip(pictures, 256)).save(out / f"{path.stem}.png")
        Image.fromarray(sheet).save(out / f"{path.stem}-history.png")
        if not rows:
            print("".join(f"{name:>16}" for name in asdict(new[0])))
        for row in new:
            print("".join(f"{value!s:>16.15}" for value in asdict(row).values()), flush=True)
        rows += new
    (out / "three_edits.json").write_text(json.dumps([asdict(row) for row in rows], indent=1))


if __name__ == "__main__":
    tyro.cli(main)
