"""`photodrag faces`: who is in a photo."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from align import Photo, choose_face, draw_faces, find_faces
from pipeline.commands.common import say


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
