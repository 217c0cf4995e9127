"""`photodrag`: the session's stages as commands, with a bar over their steps. All printing is done here."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
import tyro
from tqdm import tqdm

from align import (
    FaceIndexError,
    NoFaceFound,
    Photo,
    PhotoError,
    choose_face,
    draw_faces,
    find_faces,
    read_mask,
)  # fmt: skip
from drag import BadEdit, DragStep
from inversion import PivotStep, TuneStep
from pipeline.config import Config
from pipeline.demo import run_demo
from pipeline.folder import StaleResult
from pipeline.progress import S
from pipeline.record import CorruptRecord, NotWritten
from pipeline.session import EditSession
from weights import WeightsCorrupt, WeightsMissing


class BadDevice(ValueError):
    """A device was asked for that this machine does not have."""


Device = Literal["auto", "cpu", "cuda", "mps"]
USER_ERRORS = (
    BadDevice,
    BadEdit, CorruptRecord, FaceIndexError, NoFaceFound, NotWritten, PhotoError, StaleResult, WeightsCorrupt,
    WeightsMissing,
)  # fmt: skip
LABELS: dict[type, str] = {PivotStep: "pivot", TuneStep: "tune", DragStep: "drag"}

Drags = Annotated[
    list[str],
    tyro.conf.UseAppendAction,
    tyro.conf.arg(name="drag", metavar="X,Y:X,Y", help="A point of the photo and where it shall go; repeatable."),
]
Mask = Annotated[Path | None, tyro.conf.arg(help="Picture of the photo's size, white where the photo may change.")]
Settings = Annotated[Config, tyro.conf.arg(name="")]


@dataclass(frozen=True, kw_only=True)
class Common:
    """What every command that computes understands."""

    device: Device = "auto"
    """Where to compute; auto takes a GPU where there is one."""
    seed: int | None = None
    """Of all that is random; by default each stage's own."""
    config: Settings = field(default_factory=Config)

    def open(self, folder: Path) -> EditSession:
        config = self.config if self.seed is None else self.config.seeded(self.seed)
        return EditSession(folder, config, pick_device(self.device))


@dataclass(frozen=True, kw_only=True)
class Edit(Common):
    """The whole way: a photo in, the same photo out with points dragged."""

    photo: tyro.conf.Positional[Path]
    """JPEG, PNG, WebP or HEIC with a face in it."""
    drags: Drags = field(default_factory=list)
    mask: Mask = None
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """Where the result goes; by default beside the photo, with "-edited" in its name."""
    face: str = "largest"
    """Which face: "largest", or its number as `photodrag faces` shows it."""
    generator: str = "embedded"
    """"embedded", or the path of a .safetensors file."""
    session: Path | None = None
    """Folder that keeps all stages, so that the next edit of the photo is quick; by default beside the output."""
    overwrite: bool = False
    """Replace the output if it exists."""

    def run(self) -> None:
        output = self.output or self.photo.with_name(f"{self.photo.stem}-edited{self.photo.suffix}")
        photo = Photo.load(self.photo)
        photo.check_output(output, overwrite=self.overwrite)
        handles, targets = parse_drags(self.drags)
        mask = read_mask(self.mask, photo.pixels.shape[:2]) if self.mask else None
        session = self.open(self.session or output.with_name(f"{output.stem}.session"))
        session.add_photo(self.photo)
        if not session.files.is_done("face", {"which": self.face}):
            session.align(self.face)
        session.to_face(handles, targets, mask)  # a bad edit is told before the minute that inversion takes
        bar(session.invert(self.generator, only_if_needed=True))
        last = bar(session.drag(handles, targets, mask, from_photo=True))
        session.export(output, overwrite=self.overwrite)
        say(told(last))
        say(f"{output}: done. Go on with `photodrag drag {session.folder} --drag ...`, then `photodrag export`.")


@dataclass(frozen=True, kw_only=True)
class Align(Common):
    """First stage: takes a photo into a session folder and cuts out the face."""

    session: tyro.conf.Positional[Path]
    """The session's folder; made if it is not there."""
    photo: Path | None = None
    """The photo; not needed when the session has it already."""
    face: str = "largest"
    """Which face: "largest", or its number as `photodrag faces` shows it."""

    def run(self) -> None:
        session = self.open(self.session)
        if self.photo is not None:
            session.add_photo(self.photo)
        face = session.align(self.face)
        say(f"face of {face.scale * face.size:.0f} px: next `photodrag invert {self.session}`")


@dataclass(frozen=True, kw_only=True)
class Invert(Common):
    """Second stage: finds the face in the generator, then tunes the generator to it."""

    session: tyro.conf.Positional[Path]
    """The session's folder."""
    generator: str = "embedded"
    """"embedded", or the path of a .safetensors file."""

    def run(self) -> None:
        bar(self.open(self.session).invert(self.generator))
        say(f"next `photodrag drag {self.session} --drag x,y:x,y`")


@dataclass(frozen=True, kw_only=True)
class Drag(Common):
    """Third stage: drags points of the photo. Run again, it goes on from the last edit."""

    session: tyro.conf.Positional[Path]
    """The session's folder."""
    drags: Drags = field(default_factory=list)
    mask: Mask = None
    from_photo: bool = False
    """Start from the photo again, not from the last edit; nothing is deleted."""

    def run(self) -> None:
        session = self.open(self.session)
        handles, targets = parse_drags(self.drags)
        mask = read_mask(self.mask, session.photo.pixels.shape[:2]) if self.mask else None
        say(told(bar(session.drag(handles, targets, mask, from_photo=self.from_photo))))
        say(f"next `photodrag export {self.session} -o result.png`, or drag on")


@dataclass(frozen=True, kw_only=True)
class Export(Common):
    """Last stage: writes the photo with the current edit in it."""

    session: tyro.conf.Positional[Path]
    """The session's folder."""
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """Where to; by default result.png (or the photo's own kind) in the session's folder."""
    overwrite: bool = False
    """Replace the output if it exists."""

    def run(self) -> None:
        session = self.open(self.session)
        output = self.output or self.session / f"result{session.files.photo.suffix}"
        session.export(output, overwrite=self.overwrite)
        say(f"{output}: done")


@dataclass(frozen=True, kw_only=True)
class Faces:
    """Lists the faces in a photo and writes a picture with their numbers."""

    photo: tyro.conf.Positional[Path]
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """Where the picture goes; by default beside the photo, with "-faces" in its name."""
    overwrite: bool = False
    """Replace the output if it exists."""

    def run(self) -> None:
        photo = Photo.load(self.photo)
        faces = find_faces(photo.pixels)
        largest = choose_face(faces)
        for number, face in enumerate(faces, start=1):
            left, top, right, bottom = (round(v) for v in face.box)
            note = " (largest)" if face is largest else ""
            say(f"face {number}: {right - left} x {bottom - top} px at {left},{top}{note}")
        output = self.output or self.photo.with_name(f"{self.photo.stem}-faces.png")
        photo.edited(draw_faces(photo.pixels, faces)).save(output, overwrite=self.overwrite, edited=False)
        say(f"{output}: numbered")


@dataclass(frozen=True, kw_only=True)
class Demo(Common):
    """Edits a photo that comes with the project: a smile, then a turn of the head."""

    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("demo-out")
    """Folder for the pictures."""
    photo: Path | None = None
    """Another photo to show it on."""

    def run(self) -> None:
        run_demo(self.open, self.output, self.photo, bar, say)


def parse_drags(drags: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """["310,420:335,405"] -> handles and targets float64 [N, 2]. Raises BadEdit."""
    number = r"\s*(-?\d+(?:\.\d+)?)\s*"
    form = re.compile(f"{number},{number}:{number},{number}")
    if not drags:
        raise BadEdit("nothing to drag: give --drag x,y:x,y, a point of the photo and where it shall go")
    points = []
    for text in drags:
        match = form.fullmatch(text)
        if match is None:
            raise BadEdit(f'--drag "{text}" is not x,y:x,y, as in 310,420:335,405')
        points.append([float(value) for value in match.groups()])
    both = np.array(points).reshape(-1, 2, 2)
    return both[:, 0], both[:, 1]


def pick_device(name: Device) -> torch.device:
    """The device of that name. Raises BadDevice where this machine has none."""
    have = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, there in have.items() if there))
    if not have[name]:
        raise BadDevice(f"this machine, or its torch, has no {name}: leave --device out, or say cpu")
    return torch.device(name)


def bar(steps: Iterator[S]) -> S | None:
    """Drains the steps under a bar with the score, a bar for each kind of step; the last step.

    Ctrl-C closes the steps, which saves the last good one, and goes on up.
    """
    last, shown = None, None
    try:
        for step in steps:
            if last is None or type(step) is not type(last):
                if shown is not None:
                    shown.close()
                shown = tqdm(total=step.limit, desc=LABELS[type(step)], unit="step")
            last = step
            assert shown is not None
            shown.set_postfix(score=f"{step.score:.3g}", refresh=False)
            shown.update(step.index - shown.n)
    finally:
        if shown is not None:
            shown.close()
        close: Any = getattr(steps, "close", None)
        if close is not None:
            close()
    return last


def told(step: DragStep | None) -> str:
    """How a drag ended, in a sentence."""
    assert step is not None
    distance = f"{step.score:.1f} px of a 512-pixel face from the targets on average"
    if step.arrived:
        return f"arrived after {step.index} steps, {distance}"
    return f"stopped after {step.index} of {step.limit} steps, still {distance}"


def say(text: str) -> None:
    print(text, flush=True)


def main() -> None:
    """Runs a command. A user's mistake is one line and exit status 1; Ctrl-C keeps what was done, status 130."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    logging.getLogger("PIL").setLevel(logging.WARNING)
    commands: dict[str, Any] = {
        "edit": Edit, "demo": Demo, "faces": Faces, "align": Align, "invert": Invert, "drag": Drag, "export": Export,
    }  # fmt: skip
    command = tyro.extras.subcommand_cli_from_dict(commands, prog="photodrag", description=__doc__)
    try:
        command.run()
    except USER_ERRORS as error:
        sys.exit(f"photodrag: {error}")
    except KeyboardInterrupt:
        print("photodrag: stopped; what was done is kept in the session", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
