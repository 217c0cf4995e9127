"""What the notebooks share: a session opened in its turn, a bar over its steps, pictures side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.commands.common import Device, bar, pick_device, told
from pipeline.config import Config
from pipeline.report import strip
from pipeline.session import EditSession

__all__ = ["MADE_BY", "OutOfOrder", "bar", "open_session", "show", "told"]

MADE_BY = {"face": "01_align", "tuned": "02_invert", "edits": "03_drag"}  # what a session holds, in order


class OutOfOrder(RuntimeError):
    """A notebook was run before the one that leaves what it needs."""


def open_session(
    folder: str | Path, needs: str | None = None, *, steps: int | None = None, device: Device = "auto"
) -> EditSession:
    """The session in a folder. Raises OutOfOrder, naming the notebook to run first, where it is not so far.

    `needs` is a key of MADE_BY; None: nothing, a session begins. `steps` limits every stage; None: as many as usual.
    """
    session = EditSession(Path(folder), _config(steps), pick_device(device))
    have = {
        "face": session.files.file("face").is_file(),
        "tuned": session.files.file("tuned").is_file(),
        "edits": bool(session.files.edits()),
    }
    order = list(MADE_BY)
    for stage in order[: order.index(needs) + 1] if needs else []:
        if not have[stage]:
            raise OutOfOrder(f"{folder} is not so far yet: run {MADE_BY[stage]}.ipynb first, with the same SESSION")
    return session


def show(pictures: Mapping[str, np.ndarray], height: int = 360) -> Image.Image:
    """Pictures [H, W, 3] of 0..255 side by side, under their names."""
    return Image.fromarray(strip({name: np.clip(p, 0, 255).astype(np.uint8) for name, p in pictures.items()}, height))


def _config(steps: int | None) -> Config:
    config = Config()
    if steps is None:
        return config
    return replace(
        config,
        pivot=replace(config.pivot, steps=steps),
        tune=replace(config.tune, steps=steps),
        drag=replace(config.drag, steps=steps),
    )
