"""`photodrag gesture`: what gestures would do, to look at and to change."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from PIL import Image

from align import Photo, choose_face, find_faces
from pipeline.commands.asking import Asking
from pipeline.commands.common import say
from pipeline.report import dimmed, with_arrows
from pipeline.session import EditSession


@dataclass(frozen=True, kw_only=True)
class GestureCommand(Asking):
    """Shows what gestures would do, as points and a mask; edits nothing."""

    subject: tyro.conf.Positional[Path]
    """A session's folder, whose current result is shown, or a photo."""
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """Where the picture goes; by default beside the subject, with "-gesture" in its name. The mask goes beside it,
    with "-mask" in its name."""
    face: str = "largest"
    """Which face of a photo: "largest", or its number as `photodrag faces` shows it."""
    overwrite: bool = False
    """Replace the picture and the mask if they exist."""

    def run(self) -> None:
        wish = self.wish()
        output = self.output or self.subject.with_name(f"{self.subject.stem}-gesture.png")
        mask_output = output.with_name(f"{output.stem}-mask.png")
        photo, landmarks = self._look()
        for path in (output, mask_output):
            photo.check_output(path, overwrite=self.overwrite)
        shape = photo.pixels.shape[:2]
        edit = wish.on(lambda: landmarks, shape, self.read_mask(shape))
        shown = with_arrows(dimmed(photo.pixels, edit.mask), edit.handles, edit.targets)
        photo.edited(shown).save(output, overwrite=self.overwrite, edited=False)
        mask = np.ones(shape, bool) if edit.mask is None else edit.mask
        Image.fromarray(mask).save(mask_output)
        drags = (f"--drag {x:.1f},{y:.1f}:{u:.1f},{v:.1f}" for (x, y), (u, v) in zip(*edit[:2], strict=True))
        say(" ".join([*drags, f"--mask {mask_output}"]))
        say(f"{output}: shown. The line above asks for the same: change it as you like")

    def _look(self) -> tuple[Photo, np.ndarray]:
        """The picture that the gestures would change, and its landmarks."""
        if self.subject.is_dir():
            session = EditSession(self.subject)
            return session.result(), session.landmarks()
        photo = Photo.load(self.subject)
        return photo, choose_face(find_faces(photo.pixels), self.face).points
