"""What the commands share: options, a bar over a session's steps, and which errors are the user's."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
import tyro
from tqdm import tqdm

from align import Alignment, BadBox, Box, FaceIndexError, NoFaceFound, PhotoError
from drag import BadEdit, DragStep
from inversion import PivotStep, TuneStep
from pipeline.config import Config
from pipeline.folder import StaleResult
from pipeline.history import NoSuchEdit
from pipeline.lock import SessionBusy
from pipeline.progress import S
from pipeline.record import CorruptRecord, NotWritten
from pipeline.session import EditSession
from weights import BadName, NotSaved, WeightsCorrupt, WeightsMissing, find_generator, metadata_of


class BadDevice(ValueError):
    """A device was asked for that this machine does not have."""


class BadAddress(ValueError):
    """An address that cannot be served, or not like this."""


Device = Literal["auto", "cpu", "cuda", "mps"]
USER_ERRORS = (
    BadAddress, BadBox, BadDevice,
    BadEdit, BadName, CorruptRecord, FaceIndexError, NoFaceFound, NoSuchEdit, NotSaved, NotWritten, PhotoError,
    SessionBusy, StaleResult, WeightsCorrupt, WeightsMissing,
)  # fmt: skip
NOTICED = 0.5  # pixels of a 512-pixel face
NEAR = 2.0  # pixels of a 512-pixel face: what many points that pull at each other leave is no failure
LABELS: dict[type, str] = {PivotStep: "pivot", TuneStep: "tune", DragStep: "drag"}


Drags = Annotated[
    list[str],
    tyro.conf.UseAppendAction,
    tyro.conf.arg(name="drag", metavar="X,Y:X,Y", help="A point of the photo and where it shall go; repeatable."),
]
Mask = Annotated[Path | None, tyro.conf.arg(help="Picture of the photo's size, white where the photo may change.")]
GeneratorName = Annotated[
    str,
    tyro.conf.arg(
        metavar="NAME|PATH",
        help='"embedded", one that `photodrag weights list` shows, or the path of a .safetensors, .pkl or .pt file.',
    ),
]
Cut = Annotated[
    Literal["auto", "face", "square", "none"],
    tyro.conf.arg(
        help="face: as FFHQ cuts faces; square: the largest square in the middle, or --box; none: the whole photo; "
        "auto: what the generator was trained on, a face where it doesn't say."
    ),
]
BoxText = Annotated[
    str | None, tyro.conf.arg(metavar="X,Y,W,H", help="The part of the photo to cut out, for --align square.")
]
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


def parse_drags(drags: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """["310,420:335,405"] -> handles and targets float64 [N, 2]. Raises BadEdit."""
    number = r"\s*(-?\d+(?:\.\d+)?)\s*"
    form = re.compile(f"{number},{number}:{number},{number}")
    if not drags:
        raise BadEdit(
            "nothing to drag: give --drag x,y:x,y, a point of the photo and where it shall go, or say --smile 0.6"
        )
    points = []
    for text in drags:
        match = form.fullmatch(text)
        if match is None:
            raise BadEdit(f'--drag "{text}" is not x,y:x,y, as in 310,420:335,405')
        points.append([float(value) for value in match.groups()])
    both = np.array(points).reshape(-1, 2, 2)
    return both[:, 0], both[:, 1]


def pick_cut(cut: str, box: str | None, face: str, generator: str) -> tuple[Alignment, Box | None]:
    """How to cut the photo: as asked, else as the generator says. Raises BadBox where options contradict."""
    kind: Any = cut
    if cut == "auto":
        kind = "square" if box else metadata_of(find_generator(generator)).get("alignment") or "face"
    if box and kind != "square":
        raise BadBox(f"--box goes with --align square, not with {kind}")
    if face != "largest" and kind != "face":
        raise BadBox(f"--face picks a face, and --align {kind} looks for none: leave one of them out")
    return kind, parse_box(box) if box else None


def parse_box(text: str) -> Box:
    """ "10,20,300,300" -> left, top, width, height. Raises BadBox."""
    try:
        left, top, width, height = (float(part) for part in text.split(","))
    except ValueError:
        raise BadBox(f'--box "{text}" is not x,y,w,h, as in 120,80,640,640') from None
    return left, top, width, height


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
            shown.total = step.limit  # which a tuning may put off
            shown.set_postfix(score=f"{step.score:.3g}", refresh=False)
            shown.update(step.index - shown.n)
    finally:
        if shown is not None:
            shown.close()
        close: Any = getattr(steps, "close", None)
        if close is not None:
            close()
    return last


def told(step: DragStep | None, left: float | None = None) -> str:
    """How a drag ended, in a sentence; `left` is `Draft.left` of its last step."""
    assert step is not None
    distance, rest = f"{step.score:.1f} px of a 512-pixel face from the targets on average", step.score
    if left is not None and left < step.score - NOTICED:
        distance, rest = f"{distance}, the photo bent to {left:.1f}", left
    if step.arrived:
        return f"arrived after {step.index} steps, {distance}"
    if step.state == "stuck" and rest <= NEAR:
        return f"as near as it comes after {step.index} steps, {distance}"
    if step.state == "stuck":
        return f"stuck after {step.index} steps, the nearest was {distance}: drag less far, or mark more points"
    return f"stopped after {step.index} of {step.limit} steps, still {distance}"


def say(text: str) -> None:
    print(text, flush=True)
