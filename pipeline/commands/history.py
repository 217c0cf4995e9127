"""Moving through a session's edits, and looking at them: undo, redo, goto, history, diff."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from PIL import Image

from align import PhotoError
from pipeline.commands.common import Device, pick_device, say
from pipeline.compare import contact_sheet, difference, side_by_side
from pipeline.edits import PHOTO
from pipeline.history import Entry, NoSuchEdit, in_tree_order, told
from pipeline.record import write_atomically
from pipeline.report import close_up
from pipeline.session import EditSession

Output = Annotated[Path | None, tyro.conf.arg(aliases=["-o"])]
Number = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="N")]
COLUMNS = ("edit", "points", "mask", "stopped", "steps", "left", "seconds", "date (UTC)")


@dataclass(frozen=True, kw_only=True)
class OnSession:
    """What the commands on a session's history understand."""

    session: tyro.conf.Positional[Path]
    """The session's folder."""


@dataclass(frozen=True, kw_only=True)
class Undo(OnSession):
    """Back to the edit that the current one stands on; nothing is deleted."""

    def run(self) -> None:
        tell_place(self.session, EditSession(self.session).undo())


@dataclass(frozen=True, kw_only=True)
class Redo(OnSession):
    """Forward again, on the branch that was left last."""

    def run(self) -> None:
        tell_place(self.session, EditSession(self.session).redo())


@dataclass(frozen=True, kw_only=True)
class Goto(OnSession):
    """To any edit by its number, or to the photo."""

    edit: Number
    """The edit's number as `photodrag history` shows it; 0 or "photo": the photo itself."""

    def run(self) -> None:
        tell_place(self.session, EditSession(self.session).goto(parse_number(self.edit)))


@dataclass(frozen=True, kw_only=True)
class Show(OnSession):
    """Lists a session's edits as a tree and draws them side by side."""

    output: Output = None
    """Where the picture goes (.png); by default history.png in the session's folder."""
    overwrite: bool = False
    """Replace the output if it exists; the default one always is."""
    device: Device = "auto"
    """Where to compute; auto takes a GPU where there is one."""

    def run(self) -> None:
        session = EditSession(self.session, device=pick_device(self.device))
        output = checked_picture(self.output, self.session / "history.png", self.overwrite)
        entries = session.history()
        say(table(entries))
        for entry in entries:
            if entry.problem:
                say(f"edit {entry.number} cannot be used: {entry.problem}")
        usable = [PHOTO, *(entry.number for entry in entries if not entry.problem)]
        quad = session.face(512).quad
        pictures = {number: close_up(session.result(number).pixels, quad, 1.0) for number in usable}
        write_picture(output, contact_sheet(entries, pictures))
        say(f"{output}: their pictures")


@dataclass(frozen=True, kw_only=True)
class Diff(OnSession):
    """Says and shows what differs between two edits' results."""

    a: Number
    """An edit's number; 0 or "photo": the photo itself."""
    b: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="N")] = "current"
    """The other's; by default the current one."""
    output: Output = None
    """Where the picture goes (.png); by default diff-A-B.png in the session's folder."""
    overwrite: bool = False
    """Replace the output if it exists; the default one always is."""
    device: Device = "auto"
    """Where to compute; auto takes a GPU where there is one."""

    def run(self) -> None:
        session = EditSession(self.session, device=pick_device(self.device))
        a, b = (session.tree.current if text == "current" else parse_number(text) for text in (self.a, self.b))
        output = checked_picture(self.output, self.session / f"diff-{a}-{b}.png", self.overwrite)
        first, second = (session.result(number).pixels for number in (a, b))
        say(tell_difference(a, b, first, second))
        quad = session.face(512).quad
        write_picture(output, side_by_side((told(a), told(b)), close_up(first, quad, 1.0), close_up(second, quad, 1.0)))
        say(f"{output}: both, and where they differ")


def parse_number(text: str) -> int:
    """An edit's number, 0 for "photo". Raises NoSuchEdit."""
    if text == "photo":
        return PHOTO
    try:
        return int(text)
    except ValueError:
        raise NoSuchEdit(f'"{text}" is no edit: give its number, or "photo"') from None


def tell_place(folder: Path, number: int) -> None:
    say(f"at {told(number)}: `photodrag export {folder}` writes it, `photodrag drag {folder}` goes on from it")


def tell_difference(a: int, b: int, first: np.ndarray, second: np.ndarray) -> str:
    found = difference(first, second)
    if found.box is None:
        return f"{told(a)} and {told(b)} are the same to the pixel"
    left, top, right, bottom = found.box
    same = "no face in one" if found.identity is None else f"identity distance {found.identity:.2f} (same below 0.6)"
    return (
        f"{told(a)} and {told(b)} differ in {found.pixels} pixels, by {found.mean:.1f} of 255 on average and at most "
        f"{found.largest}, within {right - left} x {bottom - top} px at {left},{top}; {same}"
    )


def table(entries: tuple[Entry, ...]) -> str:
    """The tree as text, a line for each edit, the current one marked with a star."""
    at_photo = not any(entry.current for entry in entries)
    rows = [COLUMNS, ("photo" + " *" * at_photo, *[""] * (len(COLUMNS) - 1))]
    rows += [_row(entry, depth) for entry, depth in in_tree_order(entries)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(f"{cell:{n}}" for cell, n in zip(row, widths, strict=True)).rstrip() for row in rows)


def _row(entry: Entry, depth: int) -> tuple[str, ...]:
    name = f"{'  ' * depth}{entry.number}{' *' * entry.current}"
    outcome = entry.outcome
    if outcome is None:
        return (name, "", "", "lost", *[""] * 4)
    mask = f"holds {entry.anchor}" if entry.masked else ""
    seconds = "" if outcome.seconds is None else f"{outcome.seconds:.1f}"
    date = (outcome.date or "").removesuffix("+00:00").replace("T", " ")
    return (
        name,
        str(entry.points),
        mask,
        outcome.stopped,
        str(outcome.steps),
        f"{outcome.score:.1f} px",
        seconds,
        date,
    )


def checked_picture(given: Path | None, default: Path, overwrite: bool) -> Path:
    """Where a picture may go. Raises PhotoError before any work."""
    if given is None:
        return default
    if given.suffix.lower() != ".png":
        raise PhotoError(f"cannot write {given.name}: give a name that ends in .png")
    if given.exists() and not overwrite:
        raise PhotoError(f"{given} exists: choose another name, or give --overwrite")
    return given


def write_picture(path: Path, pixels: np.ndarray) -> None:
    """A PNG, whole or not at all. Raises NotWritten."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    write_atomically(path, file.getvalue())
