"""What an edit did: how far points are from where they should be, whose face it still is, pictures side by side."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from align import NoFaceFound, choose_face, face_descriptor, find_faces

LABEL_HEIGHT = 28


def identity_distance(a: np.ndarray, b: np.ndarray) -> float | None:
    """dlib's distance between the largest faces of two photos; one person is below 0.6. None: no face in one."""
    try:
        first, second = (face_descriptor(p, choose_face(find_faces(p))) for p in (a, b))
    except NoFaceFound:
        return None
    return float(np.linalg.norm(first - second))


def differing_outside(a: np.ndarray, b: np.ndarray, quad: np.ndarray) -> int:
    """How many pixels of two photos [H, W, 3] differ outside a face's square `quad` [4, 2]."""
    drawn = cv2.fillConvexPoly(np.zeros(a.shape[:2], np.uint8), np.rint(quad).astype(np.int32), (1,))
    inside = cv2.dilate(drawn, np.ones((3, 3), np.uint8))  # fillConvexPoly rounds the corners
    return int(((a != b).any(2) & (inside == 0)).sum())


@dataclass(frozen=True)
class Seam:
    """Along the rim of what an edit changed, means over the rim's pixels, of 255 a pixel."""

    own: float  # how steep the photo is there
    difference: float  # by how much, and in which direction, the edit made it steeper


def seam(before: np.ndarray, after: np.ndarray) -> Seam | None:
    """How well the changed part of a photo uint8 [H, W, 3] fits into the rest; None: nothing changed."""
    changed = (before != after).any(2).astype(np.uint8)
    if not changed.any():
        return None
    around = np.ones((3, 3), np.uint8)
    rim = (cv2.dilate(changed, around) > 0) & (cv2.erode(changed, around) == 0)
    greys = (cv2.cvtColor(p, cv2.COLOR_RGB2GRAY).astype(np.float32) for p in (before, after))
    old, new = (np.stack(list(np.gradient(grey))) for grey in greys)  # [2, H, W]
    own, difference = (float(np.hypot(*slopes)[rim].mean()) for slopes in (old, new - old))
    return Seam(own, difference)


def strip(pictures: dict[str, np.ndarray], height: int = 400) -> np.ndarray:
    """Pictures uint8 [H, W, 3] side by side at one height, each under its name."""
    columns = [_labelled(name, picture, height) for name, picture in pictures.items()]
    return np.concatenate(columns, axis=1)


def close_up(picture: np.ndarray, quad: np.ndarray, share: float = 0.7) -> np.ndarray:
    """The middle of a face's square `quad` [4, 2], as much of it as the picture has."""
    middle = quad.mean(0)
    corners = middle + (quad - middle) * share
    left, top = np.maximum(np.rint(corners.min(0)).astype(int), 0)
    right, bottom = np.minimum(np.rint(corners.max(0)).astype(int), picture.shape[1::-1])
    return picture[top:bottom, left:right]


def with_arrows(picture: np.ndarray, handles: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """The picture with an arrow from each handle to its target, in its own pixels."""
    drawn = picture.copy()
    width = max(1, round(max(picture.shape[:2]) / 300))
    for handle, target in zip(np.rint(handles).astype(int), np.rint(targets).astype(int), strict=True):
        cv2.arrowedLine(drawn, handle.tolist(), target.tolist(), (255, 255, 255), 3 * width, tipLength=0.35)
        cv2.arrowedLine(drawn, handle.tolist(), target.tolist(), (220, 30, 60), width, tipLength=0.35)
    return drawn


def dimmed(picture: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    """The picture, darker where a mask bool [H, W] says that nothing may change."""
    if mask is None:
        return picture
    return np.where(mask[..., None], picture, picture // 2)


def _labelled(name: str, picture: np.ndarray, height: int) -> np.ndarray:
    width = round(picture.shape[1] * height / picture.shape[0])
    column = Image.new("RGB", (width, height + LABEL_HEIGHT), "white")
    column.paste(Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS), (0, LABEL_HEIGHT))
    ImageDraw.Draw(column).text((6, 4), name, fill="black", font=ImageFont.load_default(18))
    return np.array(column)
