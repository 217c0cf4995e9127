"""What is set on a session's canvas and not yet dragged: kept beside its edits, the same for all who look at it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from pipeline.editor.protocol import Drag, Sketch, SketchPoint
from pipeline.record import NotWritten, write_atomically

REMEMBERED = 32  # clients: how far each was heard
FEW = 8  # points of an edit that was made elsewhere; more are a gesture's, and nobody wants to see them


class Asked(BaseModel):
    """What an edit was asked for: what was set before it, and what of that is left after it."""

    model_config = ConfigDict(frozen=True)

    before: Sketch
    after: Sketch


class Kept(BaseModel):
    """A session's sketch as it is on disk, and for each edit what it was asked for."""

    model_config = ConfigDict(frozen=True)

    now: Sketch = Sketch()
    asked: dict[int, Asked] = {}


class SketchPad:
    """The sketch of one session. The last client to say something is right.

    A client's own words come back to it, with how far it was heard, so that it can tell what others said before them
    from what they said since: in the end all show the same.
    """

    def __init__(self, folder: Path, heard: Mapping[str, int] = {}):
        self._file, self.heard = folder / "sketch.json", heard
        self._kept = _read(self._file)

    @property
    def sketch(self) -> Sketch:
        return self._kept.now

    def take(self, sketch: Sketch, *, meant: bool = True) -> None:
        """A client's; what is not `meant` for this session, but for one that was just left, is heard and no more."""
        others = [(by, said) for by, said in self.heard.items() if by != sketch.by]
        self.heard = dict([*others, (sketch.by, sketch.said)][-REMEMBERED:])
        if meant:
            self._keep(sketch)

    def without_gestures(self) -> None:
        """They are being made, and shall not be made again."""
        self._keep(self.sketch.model_copy(update={"gestures": {}}))

    def dragged(self, number: int, request: Drag, ended: np.ndarray) -> None:
        """An edit was made: the points that were dragged have their handles where the face went, `ended` [N, 2]."""
        before = [SketchPoint(handle=p.handle, target=p.target, held=p.handle == p.target) for p in request.points]
        places = {p.handle: (float(x), float(y)) for p, (x, y) in zip(request.points, ended, strict=False)}
        after = [p.model_copy(update={"handle": places.get(p.handle, p.handle)}) for p in self.sketch.points]
        asked = Asked(before=Sketch(points=before, gestures=request.gestures), after=Sketch(points=after))
        self._keep(self.sketch.model_copy(update={"points": after}), {**self._kept.asked, number: asked})

    def went(self, was: int, now: int, edits: Mapping[int, dict[str, Any]]) -> None:
        """After a step through the history: what was set before the edit that was undone, or after the one gone to."""
        undone = edits.get(was, {}).get("parent") == now
        number = was if undone else now
        asked = self._kept.asked.get(number) or _asked_elsewhere(edits.get(number, {}))
        found = asked.before if undone else asked.after
        self._keep(self.sketch.model_copy(update={"points": found.points, "gestures": found.gestures}))

    def told(self) -> dict[str, Any]:
        """As clients are told of it."""
        return self.sketch.model_dump(include={"points", "gestures", "mask"}) | {"heard": self.heard}

    def _keep(self, sketch: Sketch, asked: dict[int, Asked] | None = None) -> None:
        self._kept = Kept(now=sketch, asked=self._kept.asked if asked is None else asked)
        with suppress(NotWritten):  # a folder that may only be read
            write_atomically(self._file, self._kept.model_dump_json().encode(), durable=False)


def _asked_elsewhere(edit: Mapping[str, Any]) -> Asked:
    """What is known of an edit that was not made in the editor: its points, if they are few."""
    lists = [edit.get(key, ()) for key in ("handles", "targets", "ended")]
    before, after = Sketch(), Sketch()
    for was, goal, now in zip(*lists, strict=True) if len(lists[0]) <= FEW else ():
        held = float(np.hypot(goal[0] - was[0], goal[1] - was[1])) < 0.01
        before.points.append(SketchPoint(handle=was, target=goal, held=held))
        after.points.append(SketchPoint(handle=now, target=goal, held=held))
    return Asked(before=before, after=after)


def _read(file: Path) -> Kept:
    try:
        return Kept.model_validate_json(file.read_bytes())
    except (OSError, ValidationError):
        return Kept()
