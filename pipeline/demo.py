"""The demo: a photo that comes with the project gets a smile, and its head turned; pictures, times and scores."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from align import PhotoError, choose_face, find_faces
from pipeline.report import close_up, differing_outside, identity_distance, strip, with_arrows
from pipeline.session import EditSession

PHOTO = Path(__file__).parent.parent / "tests" / "data" / "lisa1.jpg"

# Landmarks of iBUG 300-W and where they go, in pixels of a 512-pixel face: right and down are positive.
Moves = dict[int, tuple[float, float]]
EDITS: dict[str, Moves] = {
    "smile": {48: (-8, -8), 54: (8, -8)},  # the mouth's corners, out and up
    "turn": {30: (-12, 0), 27: (-8, 0), 8: (-8, 0)},  # nose tip and root, and chin, to one side
}


def run_demo(
    open_session: Callable[[Path], EditSession],
    folder: Path,
    photo_path: Path | None,
    bar: Callable[[Iterator[Any]], Any],
    say: Callable[[str], None],
) -> None:
    """Runs the whole way on one photo, each edit from the photo itself, and writes the pictures into `folder`."""
    photo_path = photo_path or PHOTO
    if not photo_path.is_file():
        raise PhotoError(f"the demo's photo is not at {photo_path}: run it in a checkout, or give --photo")
    started = time.perf_counter()
    session = open_session(folder / f"{photo_path.stem}.session")
    session.add_photo(photo_path)
    face = session.align()
    say(f"aligned: {time.perf_counter() - started:.1f} s")
    started = time.perf_counter()
    bar(session.invert(only_if_needed=True))
    say(f"inverted: {time.perf_counter() - started:.1f} s")

    photo = session.photo
    points = choose_face(find_faces(photo.pixels)).points
    pictures = {"photo": photo.pixels}
    for name, moves in EDITS.items():
        started = time.perf_counter()
        handles = points[list(moves)]
        targets = handles + np.array(list(moves.values())) * face.scale * face.size / 512
        step = bar(session.drag(handles, targets, from_photo=True))
        result = session.result()
        output = folder / f"{name}{photo_path.suffix}"
        result.save(output, overwrite=True)
        pictures[f"{name}: asked"] = with_arrows(photo.pixels, handles, targets)
        pictures[name] = result.pixels
        same = identity_distance(photo.pixels, result.pixels)
        outside = differing_outside(photo.pixels, result.pixels, face.quad)
        say(
            f"{output}: {time.perf_counter() - started:.1f} s, {step.index} steps, "
            f"{'arrived' if step.arrived else 'not arrived'}, {step.score:.1f} px left of a 512-pixel face; "
            f"identity distance {'no face' if same is None else f'{same:.2f}'} (one person: below 0.6); "
            f"{outside} pixels differ outside the face's square"
        )
    closer = {name: close_up(picture, face.quad) for name, picture in pictures.items()}
    Image.fromarray(strip(closer)).save(folder / "strip.png")
    say(f"{folder / 'strip.png'}: before and after, side by side")
