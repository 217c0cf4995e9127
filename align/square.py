"""Crops without landmarks, for what has no face that dlib knows: cats, cars, landscapes, whole bodies.

They are squares whose sides are the photo's axes; the rest (the similarity, the paste) is as for faces. A side that
leaves the photo is filled with its mirror image.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from PIL import Image

Alignment = Literal["face", "square", "none"]
Box = tuple[float, float, float, float]  # left, top, width, height in pixels of the photo
LEAST = 16  # pixels of the photo: a smaller box is a slip


class BadBox(ValueError):
    """A crop cannot be cut from there."""


def square_quad(shape: tuple[int, ...], box: Box | None = None) -> np.ndarray:
    """The corners float64 [4, 2], as AlignedFace has them, of the square around a box in a photo of [H, W, ...].

    Without a box: the largest square in the photo's middle. Raises BadBox where the box is not in the photo.
    """
    height, width = shape[:2]
    if box is None:
        side = min(height, width)
        return _quad(width / 2, height / 2, side)
    left, top, w, h = box
    if not (left >= 0 and top >= 0 and left + w <= width and top + h <= height) or max(w, h) < LEAST or min(w, h) <= 0:
        raise BadBox(
            f"the box {left:g},{top:g},{w:g},{h:g} (left, top, width, height) must lie in the photo, "
            f"{width} x {height} px, and be at least {LEAST} px wide or high"
        )
    return _quad(left + w / 2, top + h / 2, max(w, h))


def whole_quad(shape: tuple[int, ...]) -> np.ndarray:
    """The corners of the smallest square with the whole photo in it."""
    height, width = shape[:2]
    return _quad(width / 2, height / 2, max(height, width))


def _quad(x: float, y: float, side: float) -> np.ndarray:
    """From the middle, counted from the photo's edges, to corners counted from the first pixel's centre."""
    left, top = x - side / 2 - 0.5, y - side / 2 - 0.5
    right, bottom = left + side, top + side
    return np.array([[left, top], [left, bottom], [right, bottom], [right, top]])


def square_crop(photo: np.ndarray, quad: np.ndarray, size: int) -> np.ndarray:
    """An upright square of a photo uint8 [H, W, 3] at size x size pixels, to the photo's very edge.

    The FFHQ crop blurs the photo towards its edges, which suits portraits and would spoil a picture that fills it.
    """
    low, high = quad[0] + 0.5, quad[2] + 0.5  # [2], from the photo's edges
    before = np.maximum(np.ceil(-low), 0).astype(int)
    after = np.maximum(np.ceil(high - photo.shape[1::-1]), 0).astype(int)
    padded = np.pad(photo, ((before[1], after[1]), (before[0], after[0]), (0, 0)), mode="symmetric")
    (left, top), (right, bottom) = (low + before).tolist(), np.minimum(high + before, padded.shape[1::-1]).tolist()
    image = Image.fromarray(padded)
    return np.array(image.resize((size, size), Image.Resampling.LANCZOS, box=(left, top, right, bottom)))
