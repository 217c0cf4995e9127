"""`report`: one page on what was done to a photo, and the drag as a film."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from tqdm import tqdm

from align import PhotoError
from pipeline.commands.common import Common, say
from pipeline.edits import PHOTO
from pipeline.film import Studio, chain, frames_of, gif, mp4, timed
from pipeline.history import NoSuchEdit
from pipeline.measure import measure, pictures_of
from pipeline.page import page
from pipeline.record import write_atomically


@dataclass(frozen=True, kw_only=True)
class Report(Common):
    """Writes a page with pictures, film and figures of an edit."""

    session: tyro.conf.Positional[Path]
    """The session's folder."""
    edit: int | None = None
    """Another edit's number than the current one's."""
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """Where the page goes (.html); by default report.html in the session's folder. The film goes beside it."""
    overwrite: bool = False
    """Replace the output if it exists; the default one always is."""
    film: bool = True
    """Draw the film of the drag too, as .mp4 and .gif."""

    def run(self) -> None:
        output = self._checked()
        session = self.open(self.session)
        number = session.tree.current if self.edit is None else self.edit
        edits = chain(session, number)
        if number == PHOTO:
            raise NoSuchEdit(f"nothing was done to the photo yet: `photodrag drag {self.session} --drag x,y:x,y`")
        film = None
        if self.film and not any(edit.film for edit in edits):
            say("no film: these edits are of an older version, which kept no steps to show")
        elif self.film:
            frames = frames_of(edits)
            shot = timed(frames, list(tqdm(Studio(session).shoot(frames), "film", len(frames), unit="picture")))
            film = mp4(shot)
            write_atomically(output.with_suffix(".mp4"), film)
            write_atomically(output.with_suffix(".gif"), gif(shot))
        figures = measure(session, edits)
        write_atomically(output, page(figures, edits, pictures_of(session, edits), film).encode())
        say(f"{output}: the report" + (f", and beside it the film, {output.stem}.mp4 and .gif" if film else ""))

    def _checked(self) -> Path:
        """Where the page goes. Raises PhotoError before any work."""
        if self.output is None:
            return self.session / "report.html"
        if self.output.suffix.lower() not in (".html", ".htm"):
            raise PhotoError(f"cannot write {self.output.name}: give a name that ends in .html")
        if not self.output.parent.is_dir():
            raise PhotoError(f"there is no folder {self.output.parent}: make it first, or choose another")
        for path in (self.output, *(self.output.with_suffix(end) for end in (".mp4", ".gif") if self.film)):
            if path.exists() and not self.overwrite:
                raise PhotoError(f"{path} exists: choose another name, or give --overwrite")
        return self.output
