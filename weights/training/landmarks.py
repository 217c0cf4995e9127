"""`python -m weights.training.landmarks DATA OUT.npz`: the 68 points of every training picture, by dlib.

Training pictures are aligned, so no detector is needed: the face is always in the same box. Points are (x, y)
as shares of the width, pixel centres at (i + 0.5) / size.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from weights.training.data import load_pictures

# The trees' box in the FFHQ alignment, as shares of the width: left, top, right, bottom.
BOX = (0.2, 0.3, 0.8, 0.9)
# One box moves the points by 1 % of the eye distance; the mean of several by a third of that.
SHIFTS = [(x, y) for x in (-0.02, 0.02) for y in (-0.02, 0.02)]


@dataclass(frozen=True)
class Arguments:
    """Find the 68 points in all pictures of a zip or a folder."""

    data: tyro.conf.Positional[Path]  # a zip or folder of square, aligned pictures
    out: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="OUT.npz")]
    resolution: int = 256  # px, at which the points are looked for


def main() -> None:
    arguments = tyro.cli(Arguments)
    pictures = load_pictures(arguments.data, arguments.resolution)
    np.savez_compressed(arguments.out, points=find_points(pictures.permute(0, 2, 3, 1).numpy()))


def find_points(pictures: np.ndarray) -> np.ndarray:
    """uint8 pictures [n, R, R, 3] -> points float32 [n, 68, 2], in their order."""
    import dlib

    folder = resources.files("face_recognition_models") / "models"
    with resources.as_file(folder / "shape_predictor_68_face_landmarks.dat") as path:
        predictor = dlib.shape_predictor(str(path))
    size = pictures.shape[1]
    boxes = []
    for x, y in SHIFTS:
        left, top, right, bottom = (round((v + d) * size) for v, d in zip(BOX, (x, y, x, y), strict=True))
        boxes.append(dlib.rectangle(left, top, right, bottom))

    def points(picture: np.ndarray) -> np.ndarray:
        found = [predictor(np.ascontiguousarray(picture), box).parts() for box in boxes]
        return np.mean([[(p.x, p.y) for p in parts] for parts in found], axis=0)

    pixels = np.stack([points(picture) for picture in pictures])
    return ((pixels + 0.5) / size).astype(np.float32)


if __name__ == "__main__":
    main()
