"""The FFHQ crop of a face (Karras et al. 2019, arXiv 1812.04948), and the similarity that ties it to its photo.

Points are (x, y), pixel centres at integers. A crop pixel (i, j) shows the photo at
`quad[0] + (i + 1/2)/S (quad[3] - quad[0]) + (j + 1/2)/S (quad[1] - quad[0])`. The two edges are perpendicular and
of one length, so this is a similarity, and its inverse is written down, not solved for.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from PIL import Image

from align.square import Alignment, square_crop

SUPERSAMPLING = 4  # the published crop reads 4096 x 4096 samples for 1024 x 1024 pixels


@dataclass(frozen=True)
class AlignedFace:
    """A face cut out upright: `pixels` uint8 [S, S, 3], `quad` float64 [4, 2] its corners in the photo, in the
    order top left, bottom left, bottom right, top right.
    """

    pixels: np.ndarray
    quad: np.ndarray

    @classmethod
    def crop(cls, photo: np.ndarray, quad: np.ndarray, size: int, kind: Alignment = "face") -> AlignedFace:
        """What is in `quad` of a photo uint8 [H, W, 3] at size x size pixels, cut as FFHQ cuts faces, or plainly."""
        cut = ffhq_crop if kind == "face" else square_crop
        return cls(cut(photo, quad, size), np.array(quad, dtype=np.float64))

    @property
    def size(self) -> int:
        return self.pixels.shape[0]

    @property
    def scale(self) -> float:
        """Photo pixels per crop pixel."""
        return float(np.hypot(*(self.quad[3] - self.quad[0]))) / self.size

    @cached_property
    def matrix(self) -> np.ndarray:
        """float64 [2, 3]: crop point (x, y, 1) -> photo point."""
        across = (self.quad[3] - self.quad[0]) / self.size
        down = (self.quad[1] - self.quad[0]) / self.size
        return np.stack([across, down, self.quad[0] + across / 2 + down / 2], axis=1)

    @cached_property
    def inverse(self) -> np.ndarray:
        """float64 [2, 3]: photo point (x, y, 1) -> crop point; a scaled rotation's inverse is its transpose / s^2."""
        linear = self.matrix[:, :2].T / self.scale**2
        return np.hstack([linear, -linear @ self.matrix[:, 2:]])

    def to_photo(self, points: np.ndarray) -> np.ndarray:
        """Crop points [N, 2] -> photo points [N, 2]."""
        return np.asarray(points, np.float64) @ self.matrix[:, :2].T + self.matrix[:, 2]

    def from_photo(self, points: np.ndarray) -> np.ndarray:
        """Photo points [N, 2] -> crop points [N, 2]."""
        return np.asarray(points, np.float64) @ self.inverse[:, :2].T + self.inverse[:, 2]

    def mask_from_photo(self, mask: np.ndarray) -> np.ndarray:
        """A photo mask bool [H, W] as one of the crop, bool [S, S]: true where at least half the pixel is."""
        # Cells of the crop can be many photo pixels wide: the mask is read on a finer grid and averaged.
        fine = max(1, round(self.scale))
        grid = (np.indices((self.size * fine,) * 2)[::-1].reshape(2, -1).T + 0.5) / fine - 0.5  # [N, 2]
        x, y = self.to_photo(grid).astype(np.float32).T.reshape(2, self.size * fine, -1)
        seen = cv2.remap(mask.astype(np.float32), x, y, cv2.INTER_LINEAR, borderValue=(0.0,))
        return cv2.resize(seen, (self.size, self.size), interpolation=cv2.INTER_AREA) >= 0.5


def ffhq_quad(points: np.ndarray) -> np.ndarray:
    """The corners float64 [4, 2] of the FFHQ crop from 68 landmarks [68, 2], in photo pixels."""
    points = np.asarray(points, np.float64)
    eye_left, eye_right = points[36:42].mean(0), points[42:48].mean(0)
    eyes, mouth = (eye_left + eye_right) / 2, (points[48] + points[54]) / 2
    eye_to_eye, eye_to_mouth = eye_right - eye_left, mouth - eyes
    # The crop's half-width vector points along the eyes, corrected by the line from eyes to mouth.
    x = eye_to_eye + np.array([eye_to_mouth[1], -eye_to_mouth[0]])
    x *= max(2.0 * np.hypot(*eye_to_eye), 1.8 * np.hypot(*eye_to_mouth)) / np.hypot(*x)
    y = np.array([-x[1], x[0]])
    centre = eyes + 0.1 * eye_to_mouth
    return np.stack([centre - x - y, centre - x + y, centre + x + y, centre + x - y])


def ffhq_crop(photo: np.ndarray, quad: np.ndarray, size: int) -> np.ndarray:
    """The published crop at any size, pixels uint8 [size, size, 3]: the photo is shrunk first if it is large, cut,
    padded where the crop leaves it, and resampled.
    """
    image, quad = _shrink(photo, np.array(quad, np.float64), size)
    image, quad = _cut(image, quad)
    image, quad = _pad(image, quad)
    side = size * SUPERSAMPLING
    corners = (quad + 0.5).flatten().tolist()  # Pillow's corners count from pixel edges
    large = Image.fromarray(image).transform((side, side), Image.Transform.QUAD, corners, Image.Resampling.BILINEAR)
    return np.array(large.resize((size, size), Image.Resampling.LANCZOS))


def _width(quad: np.ndarray) -> float:
    return float(np.hypot(*(quad[3] - quad[0])))


def _border(quad: np.ndarray) -> int:
    return max(round(_width(quad) * 0.1), 3)


def _shrink(photo: np.ndarray, quad: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    factor = int(_width(quad) / size * 0.5)
    if factor <= 1:
        return photo, quad
    size_before = np.array(photo.shape[1::-1])
    size_after = np.rint(size_before / factor).astype(int)
    small = Image.fromarray(photo).resize(tuple(size_after.tolist()), Image.Resampling.LANCZOS)
    # The published script divides the corners by `factor`, a slip of up to half a shrunk pixel: not repeated here.
    return np.array(small), (quad + 0.5) * (size_after / size_before) - 0.5


def _cut(image: np.ndarray, quad: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    border = _border(quad)
    low = np.maximum(np.floor(quad.min(0)).astype(int) - border, 0)
    high = np.minimum(np.ceil(quad.max(0)).astype(int) + border, image.shape[1::-1])
    return image[low[1] : high[1], low[0] : high[0]], quad - low


def _pad(image: np.ndarray, quad: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mirrors the photo where the crop leaves it; outwards the mirror image is blurred, then fades to one colour."""
    border = _border(quad)
    before = np.maximum(border - np.floor(quad.min(0)).astype(int), 0)
    after = np.maximum(np.ceil(quad.max(0)).astype(int) - image.shape[1::-1] + border, 0)
    if max(before.max(), after.max()) <= border - 4:
        return image, quad
    least = round(_width(quad) * 0.3)
    before, after = np.maximum(before, least), np.maximum(after, least)
    padding = ((before[1], after[1]), (before[0], after[0]), (0, 0))
    padded = np.pad(image.astype(np.float32), padding, mode="reflect")
    outside = _outside(padded.shape[:2], before, after)[..., None]
    sigma = _width(quad) * 0.02
    taps = 2 * int(4 * sigma + 0.5) + 1
    blurred = cv2.GaussianBlur(padded, (taps, taps), sigma, borderType=cv2.BORDER_REFLECT)
    padded += (blurred - padded) * np.clip(outside * 3 + 1, 0, 1)
    padded += (np.median(padded, axis=(0, 1)) - padded) * np.clip(outside, 0, 1)
    return np.clip(np.rint(padded), 0, 255).astype(np.uint8), quad + before


def _outside(shape: tuple[int, int], before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """float32 [H, W]: 1 at the rim of the padding, 0 at the photo's edge, negative inside the photo."""
    y, x = np.ogrid[: shape[0], : shape[1]]
    across = np.minimum(x / before[0], (shape[1] - 1 - x) / after[0])
    down = np.minimum(y / before[1], (shape[0] - 1 - y) / after[1])
    return (1 - np.minimum(across, down)).astype(np.float32)
