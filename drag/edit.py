"""DragEdit: what a person asked for. How hard to try is DragConfig's."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


class BadEdit(ValueError):
    """An edit that cannot be done, with what to change."""


@dataclass(frozen=True)
class DragEdit:
    """Points to move and what may move with them, in pixels of the aligned face, pixel centres at integers."""

    handles: np.ndarray  # float64 [N, 2] (x, y)
    targets: np.ndarray  # float64 [N, 2]; a handle that is at its target is held there while others move
    movable: np.ndarray | None = None  # bool [S, S], true where the face may change; None: everywhere

    def __post_init__(self) -> None:
        for name in ("handles", "targets"):
            object.__setattr__(self, name, np.array(getattr(self, name), dtype=np.float64))
        if self.handles.ndim != 2 or self.handles.shape[1:] != (2,) or self.handles.shape != self.targets.shape:
            raise BadEdit(f"handles {self.handles.shape} and targets {self.targets.shape} must both be [N, 2]")
        if len(self.handles) == 0:
            raise BadEdit("an edit needs a point to drag: give --drag x,y:x,y at least once")

    def check(self, size: int, scale: float = 1.0) -> None:
        """Raises BadEdit unless this edit can be done on a face of size x size pixels.

        `scale` is the number of photo pixels to one of the face, so that messages speak of photo pixels.
        """
        for name, points in (("handle", self.handles), ("target", self.targets)):
            for number, point in enumerate(points, start=1):
                if not np.isfinite(point).all():
                    raise BadEdit(f"{name} {number} is not a pair of numbers")
                out = np.hypot(*(point - np.clip(point, -0.5, size - 0.5))) * scale
                if out > 0:
                    raise BadEdit(f"{name} {number} lies {out:.0f} px outside the face's square: choose a point inside")
        if np.allclose(self.handles, self.targets, rtol=0, atol=1e-6):
            raise BadEdit("handle 1 is already at its target: move the target")
        self._check_mask(size)

    def _check_mask(self, size: int) -> None:
        if self.movable is None:
            return
        if self.movable.shape != (size, size):
            raise BadEdit(f"the mask is {self.movable.shape[::-1]}, the face {(size, size)}: they must be the same")
        x, y = np.clip(np.rint(self.handles), 0, size - 1).astype(int).T
        if not self.movable[y, x].any():
            raise BadEdit("the mask lets none of the handles move: paint over at least one of them")
