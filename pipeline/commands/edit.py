"""`photodrag edit`: the whole way in one command."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import tyro

from align import Photo
from pipeline.commands.asking import AskingMore
from pipeline.commands.common import BoxText, Common, Cut, GeneratorName, bar, pick_cut, say
from pipeline.faces import Faces
from pipeline.session import alignment_settings


@dataclass(frozen=True, kw_only=True)
class Edit(Common, AskingMore):
    """The whole way: a photo in, the same photo out with points dragged, or gestures made."""

    photo: tyro.conf.Positional[Path]
    """JPEG, PNG, WebP or HEIC, with a face in it or what else the generator knows."""
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """Where the result goes; by default beside the photo, with "-edited" in its name."""
    face: str = "largest"
    """Which face: "largest", or its number as `photodrag faces` shows it. Each has a session of its own in the folder,
    and the output has the edits of all."""
    align: Cut = "auto"
    box: BoxText = None
    generator: GeneratorName = "embedded"
    session: Path | None = None
    """Folder that keeps all stages, so that the next edit of the photo is quick; by default beside the output."""
    overwrite: bool = False
    """Replace the output if it exists."""

    def run(self) -> None:
        output = self.output or self.photo.with_name(f"{self.photo.stem}-edited{self.photo.suffix}")
        photo = Photo.load(self.photo)
        photo.check_output(output, overwrite=self.overwrite)
        kind, box = pick_cut(self.align, self.box, self.face, self.generator)
        wish, mask = self.wishes()[0], self.read_mask(photo.pixels.shape[:2])
        session = self.open(self.session or output.with_name(f"{output.stem}.session"))
        session.add_photo(self.photo)
        faces = Faces(session)
        if not session.files.is_done("face", alignment_settings(self.face, kind, box)):
            if kind == "face":
                session = faces.aligned(self.face)
            else:
                session.align(kind=kind, box=box)
        landmarks = partial(session.landmarks, of_photo=True)
        session.to_face(
            *wish.on(landmarks, photo.pixels.shape[:2], mask)
        )  # a bad edit is told before the minute that inversion takes
        bar(session.invert(self.generator, only_if_needed=True))
        self.carry_out(session, from_photo=True)
        faces.result().save(output, overwrite=self.overwrite)
        say(f"{output}: done. Go on with `photodrag drag {session.folder} --drag ...`, then `photodrag export`.")
