"""The session's stages, one command each: align, invert, drag, export."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from pipeline.commands.asking import AskingMore
from pipeline.commands.common import BoxText, Common, Cut, GeneratorName, bar, pick_cut, say
from pipeline.edits import Anchor
from pipeline.faces import Faces
from pipeline.session import EditSession, alignment_settings


@dataclass(frozen=True, kw_only=True)
class Align(Common):
    """First stage: takes a photo into a session folder and cuts out the face."""

    session: tyro.conf.Positional[Path]
    """The session's folder; made if it is not there."""
    photo: Path | None = None
    """The photo; not needed when the session has it already."""
    face: str = "largest"
    """Which face: "largest", or its number as `photodrag faces` shows it."""
    align: Cut = "auto"
    box: BoxText = None
    generator: GeneratorName = "embedded"

    def run(self) -> None:
        kind, box = pick_cut(self.align, self.box, self.face, self.generator)
        session = self.open(self.session)
        if self.photo is not None:
            session.add_photo(self.photo)
        asked = alignment_settings(self.face, kind, box)
        kept = self.photo is not None and session.files.is_done("face", asked)  # a photo put back changes nothing
        face = session.face(512) if kept else session.align(self.face, kind=kind, box=box)
        named = "" if self.generator == "embedded" else f" --generator {self.generator}"
        what = "face" if kind == "face" else "square"
        say(f"{what} of {face.scale * face.size:.0f} px: next `photodrag invert {self.session}{named}`")


@dataclass(frozen=True, kw_only=True)
class Invert(Common):
    """Second stage: finds the face in the generator, then tunes it to the face."""

    session: tyro.conf.Positional[Path]
    """The session's folder."""
    generator: GeneratorName = "embedded"

    def run(self) -> None:
        bar(self.open(self.session).invert(self.generator))
        say(f"next `photodrag drag {self.session} --drag x,y:x,y`")


@dataclass(frozen=True, kw_only=True)
class Drag(Common, AskingMore):
    """Third stage: drags points, or makes gestures. Run again, it goes on from the current edit."""

    session: tyro.conf.Positional[Path]
    """The session's folder."""
    anchor: Anchor | None = None
    """What shows outside the mask: the photo (with what earlier edits drew in masks of their own), or the previous
    edit's result; by default the photo, but for gestures, which come with masks of their own, the previous."""
    from_photo: bool = False
    """Start from the photo again, not from the current edit; nothing is deleted."""

    def run(self) -> None:
        session = self.open(self.session)
        self.carry_out(session, from_photo=self.from_photo, anchor=self.anchor)
        self._tell_what_is_hidden(session)
        say(f"next `photodrag export {self.session} -o result.png`, or drag on")

    def _tell_what_is_hidden(self, session: EditSession) -> None:
        edit = session.current_edit
        below = session.edit(edit.parent).layers if edit and edit.parent and edit.mask is not None else ()
        if edit and edit.anchor == "photo" and any(layer.mask is None for layer in below):
            say("outside the mask the photo shows, not the edits before it: `--anchor previous` keeps those")


@dataclass(frozen=True, kw_only=True)
class Export(Common):
    """Last stage: writes the photo with the current edit in it, and with those of its other faces."""

    session: tyro.conf.Positional[Path]
    """The session's folder."""
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """Where to; by default result.png (or the photo's own kind) in the session's folder."""
    overwrite: bool = False
    """Replace the output if it exists."""

    def run(self) -> None:
        session = self.open(self.session)
        output = self.output or self.session / f"result{session.files.photo.suffix}"
        Faces.around(session).result().save(output, overwrite=self.overwrite)
        say(f"{output}: done")
