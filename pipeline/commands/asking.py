"""What may be asked for in an edit: points, gestures, a mask, and further edits on top."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, make_dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import tyro

from align import read_mask
from drag import BadEdit
from pipeline.commands.common import Drags, Mask, bar, parse_drags, say, told
from pipeline.edits import Anchor
from pipeline.gestures import GESTURES, Gesture, PhotoEdit, ask, check
from pipeline.session import EditSession


def _option(gesture: Gesture) -> Any:
    """A gesture as an option. It may be given many times, so that two strengths of one can be refused."""
    told = tyro.conf.arg(metavar="S", help_behavior_hint="", help=f"{gesture.help} From {gesture.range}.")
    return Annotated[list[float], tyro.conf.UseAppendAction, told]


if TYPE_CHECKING:

    @dataclass(frozen=True)
    class GestureOptions: ...
else:
    GestureOptions = make_dataclass(
        "GestureOptions",
        [(name.replace("-", "_"), _option(g), field(default_factory=list)) for name, g in GESTURES.items()],
        frozen=True,
        kw_only=True,
    )

Gestures = Annotated[GestureOptions, tyro.conf.OmitArgPrefixes, tyro.conf.arg(help="Edits by name and strength.")]
Then = Annotated[
    list[list[str]],
    tyro.conf.UseAppendAction,
    tyro.conf.arg(metavar="GESTURE S ...", help="A further edit on top, as in --then turn 12 smile 0.4; repeatable."),
]


@dataclass(frozen=True)
class Wish:
    """One edit as it was asked for: gestures by name, and points. Raises BadEdit where it asks for nothing."""

    strengths: Mapping[str, float]
    drags: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        check(self.strengths)
        if self.drags or not self.strengths:
            parse_drags(self.drags)

    def on(self, landmarks: Callable[[], np.ndarray], shape: tuple[int, int], mask: np.ndarray | None) -> PhotoEdit:
        """What to drag in a photo of `shape`. Beside a gesture's own mask only one that is given counts: points may
        lie anywhere, so together with points there is none.
        """
        if not self.strengths:
            return PhotoEdit(*parse_drags(self.drags), mask)
        asked = ask(self.strengths, landmarks(), shape)
        if not self.drags:
            return asked if mask is None else asked._replace(mask=mask)
        handles, targets = parse_drags(self.drags)
        return PhotoEdit(np.vstack([asked.handles, handles]), np.vstack([asked.targets, targets]), mask)


@dataclass(frozen=True, kw_only=True)
class Asking:
    """Points, gestures and a mask: what a command that edits understands."""

    drags: Drags = field(default_factory=list)
    gestures: Gestures = field(default_factory=GestureOptions)
    mask: Mask = None

    def wish(self) -> Wish:
        given = [(name.replace("_", "-"), v) for name, values in vars(self.gestures).items() for v in values]
        return Wish(_once(given), self.drags)

    def read_mask(self, shape: tuple[int, int]) -> np.ndarray | None:
        return read_mask(self.mask, shape) if self.mask else None


@dataclass(frozen=True, kw_only=True)
class AskingMore(Asking):
    """The same, and further edits on top."""

    then: Then = field(default_factory=list)

    def wishes(self) -> list[Wish]:
        """The edits asked for, one on top of the other. Raises BadEdit."""
        return [self.wish(), *(Wish(_once(_pairs(words))) for words in self.then)]

    def carry_out(self, session: EditSession, *, from_photo: bool, anchor: Anchor | None = None) -> None:
        """Does one edit after the other, under a bar, and says how each ended."""
        shape = session.photo.pixels.shape[:2]
        mask = self.read_mask(shape)
        for wish in self.wishes():
            edit = wish.on(partial(session.landmarks, of_photo=from_photo), shape, mask)
            held: Anchor = anchor or ("previous" if wish.strengths else "photo")
            draft = session.draft(*edit, anchor=held, from_photo=from_photo)
            step = bar(session.carry_out(draft))
            assert step is not None
            say(told(step, draft.left(step)))
            from_photo = False


def _pairs(words: list[str]) -> list[tuple[str, float]]:
    """["turn", "12", "smile", "0.4"] -> [("turn", 12.0), ("smile", 0.4)]. Raises BadEdit."""
    try:
        return [(name, float(value)) for name, value in zip(words[::2], words[1::2], strict=True) if words]
    except ValueError:
        raise BadEdit(
            f"--then {' '.join(words)}: give gestures and strengths, as in --then turn 12 smile 0.4"
        ) from None


def _once(given: Iterable[tuple[str, float]]) -> dict[str, float]:
    """One strength for each gesture. Raises BadEdit for two of one."""
    strengths: dict[str, float] = {}
    for name, value in given:
        if name in strengths:
            raise BadEdit(f"--{name} {strengths[name]:g} and --{name} {value:g} contradict each other: give one")
        strengths[name] = value
    return strengths
