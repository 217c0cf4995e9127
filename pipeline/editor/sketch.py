"""What is set on a session's canvas and not yet dragged: kept beside its edits, the same for all who look at it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from pipeline.editor.protocol import Point, Sketch, SketchPoint
from pipeline.record import NotWritten, write_atomically

REMEMBERED = 32  # clients: how far each was heard


class SketchPad:
    """The sketch of one session. The last client to say something is right.

    A client's own words come back to it, with how far it was heard, so that it can tell what others said before them
    from what they said since: in the end all show the same.
    """

    def __init__(self, folder: Path, heard: Mapping[str, int] = {}):
        self._file, self.heard = folder / "sketch.json", heard
        self.sketch = _read(self._file)

    def take(self, sketch: Sketch, *, meant: bool = True) -> None:
        """A client's; what is not `meant` for this session, but for one that was just left, is heard and no more."""
        others = [(by, said) for by, said in self.heard.items() if by != sketch.by]
        self.heard = dict([*others, (sketch.by, sketch.said)][-REMEMBERED:])
        if meant:
            self._keep(sketch.points, sketch.gestures, sketch)

    def without_gestures(self) -> None:
        """They are being made, and shall not be made again."""
        self._keep(self.sketch.points, {})

    def followed(self, asked: Sequence[Point], ended: np.ndarray) -> None:
        """The points that were dragged, their handles where the face went: `ended` [N, 2]."""
        places = {point.handle: (float(x), float(y)) for point, (x, y) in zip(asked, ended, strict=False)}
        points = [p.model_copy(update={"handle": places.get(p.handle, p.handle)}) for p in self.sketch.points]
        self._keep(points, self.sketch.gestures)

    def restored(self, edit: dict[str, Any] | None, *, undone: bool) -> None:
        """After a step through the history: the points of an edit as they were, or as they are after it."""
        points = []
        for was, goal, now in zip(*(edit[key] for key in ("handles", "targets", "ended")), strict=True) if edit else ():
            held = float(np.hypot(goal[0] - was[0], goal[1] - was[1])) < 0.01
            points.append(SketchPoint(handle=was if undone else now, target=goal, held=held))
        self._keep(points, self.sketch.gestures)

    def told(self) -> dict[str, Any]:
        """As clients are told of it."""
        return self.sketch.model_dump(include={"points", "gestures", "mask"}) | {"heard": self.heard}

    def _keep(self, points: list[SketchPoint], gestures: dict[str, float], of: Sketch | None = None) -> None:
        self.sketch = Sketch(points=points, gestures=gestures, mask=(of or self.sketch).mask)
        with suppress(NotWritten):  # a folder that may only be read
            write_atomically(self._file, self.sketch.model_dump_json().encode(), durable=False)


def _read(file: Path) -> Sketch:
    try:
        return Sketch.model_validate_json(file.read_bytes())
    except (OSError, ValidationError):
        return Sketch()
