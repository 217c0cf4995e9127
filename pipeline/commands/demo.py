"""The demo: a photo that comes with the project gets a smile, and its head turned; pictures, times and scores."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from PIL import Image

from align import AlignedFace, PhotoError
from pipeline.commands.common import Common, bar, say, told
from pipeline.gestures import PhotoEdit, ask
from pipeline.report import close_up, differing_outside, identity_distance, strip, with_arrows
from pipeline.session import EditSession

PHOTO = Path(__file__).parents[2] / "tests" / "data" / "lisa1.jpg"

SMILE = 0.6  # the gesture's strength
# Landmarks of iBUG 300-W and where they go, in pixels of a 512-pixel face: nose tip and root, and chin, to one side.
TURN = {30: (-12, 0), 27: (-8, 0), 8: (-8, 0)}


@dataclass(frozen=True, kw_only=True)
class Demo(Common):
    """Edits a photo that comes with the project: a smile, then a turn of the head."""

    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("demo-out")
    """Folder for the pictures."""
    photo: Path | None = None
    """Another photo to show it on."""

    def run(self) -> None:
        photo_path, folder = self.photo or PHOTO, self.output
        if not photo_path.is_file():
            raise PhotoError(f"the demo's photo is not at {photo_path}: run it in a checkout, or give --photo")
        started = time.perf_counter()
        session = self.open(folder / f"{photo_path.stem}.session")
        session.add_photo(photo_path)
        face = session.align()
        say(f"aligned: {time.perf_counter() - started:.1f} s")
        started = time.perf_counter()
        bar(session.invert(only_if_needed=True))
        say(f"inverted: {time.perf_counter() - started:.1f} s")

        points, pixels = session.landmarks(of_photo=True), session.photo.pixels
        handles, moves = points[list(TURN)], np.array(list(TURN.values()))
        edits = {
            "smile": ask({"smile": SMILE}, points, pixels.shape[:2]),
            "turn": PhotoEdit(handles, handles + moves * face.scale * face.size / 512, None),
        }
        pictures = {"photo": pixels}
        for name, edit in edits.items():
            pictures |= self._edit(session, face, name, edit)
        closer = {name: close_up(picture, face.quad) for name, picture in pictures.items()}
        Image.fromarray(strip(closer)).save(folder / "strip.png")
        say(f"{folder / 'strip.png'}: before and after, side by side")

    def _edit(self, session: EditSession, face: AlignedFace, name: str, edit: PhotoEdit) -> dict[str, np.ndarray]:
        """One edit from the photo, exported and told; what was asked and what came of it, as pictures."""
        started = time.perf_counter()
        before = session.photo
        draft = session.draft(edit.handles, edit.targets, edit.mask, from_photo=True)
        step = bar(session.carry_out(draft))
        assert step is not None
        after = session.result()
        output = self.output / f"{name}{session.files.photo.suffix}"
        after.save(output, overwrite=True)
        same = identity_distance(before.pixels, after.pixels)
        outside = differing_outside(before.pixels, after.pixels, face.quad)
        say(
            f"{output}: {time.perf_counter() - started:.1f} s, {told(step, draft.left(step))}; "
            f"identity distance {'no face' if same is None else f'{same:.2f}'} (one person: below 0.6); "
            f"{outside} pixels differ outside the face's square"
        )
        return {f"{name}: asked": with_arrows(before.pixels, edit.handles, edit.targets), name: after.pixels}
