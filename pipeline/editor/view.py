"""How a session looks in a browser: pictures small enough to be drawn while the steps run.

A live frame is the photo around the face, reduced, with the face pasted in by the same paste that the export uses.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.func import functional_call

from align import AlignedFace, Drawing, PasteConfig, Photo, paste_layers
from inversion import PivotStep, TuneStep
from pipeline.edits import Layer
from pipeline.session import EditSession, Inversion
from weights import Generator, to_pixels

LIVE = 384  # pixels: the face's square in a live frame
LIVE_DETAIL = 128  # pixels: the drawings that a live frame's motion is found on; 256 take a third more of its time
LARGEST = 4096  # pixels: the longer side of the photo as it is sent; of what is exported nothing is reduced
THUMB = 112  # pixels: an edit in the history
Box = tuple[int, int, int, int]  # left, top, right, bottom


def jpeg(pixels: np.ndarray, icc: bytes | None = None, quality: int = 85) -> bytes:
    """Pixels uint8 [H, W, 3] as a JPEG file, in the photo's own colours."""
    file = io.BytesIO()
    # 4:4:4, because lips and eyes are small and of strong colour.
    Image.fromarray(pixels).save(file, "JPEG", quality=quality, subsampling=0, icc_profile=icc)
    return file.getvalue()


def reduced(pixels: np.ndarray, longest: int) -> np.ndarray:
    """Pixels [H, W, ...] at most so long; those that are small enough stay as they are."""
    scale = longest / max(pixels.shape[:2])
    if scale >= 1:
        return pixels
    height, width = pixels.shape[:2]
    return cv2.resize(
        pixels, (max(1, round(width * scale)), max(1, round(height * scale))), interpolation=cv2.INTER_AREA
    )


def box_of(quad: np.ndarray, shape: tuple[int, ...]) -> Box:
    """The part of a photo of that shape in which a face with these corners lies: nothing outside it is edited."""
    low = np.maximum(np.floor(quad.min(0)).astype(int), 0)
    high = np.minimum(np.ceil(quad.max(0)).astype(int) + 1, [shape[1], shape[0]])
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])


def corners_of(box: Box) -> list[list[float]]:
    """Top left, bottom left and top right of a box, as points: pixel centres are at integers."""
    left, top, right, bottom = box
    return [[left - 0.5, top - 0.5], [left - 0.5, bottom - 0.5], [right - 0.5, top - 0.5]]


@dataclass(frozen=True)
class View:
    """One inversion of a photo, ready to draw layers over it. Reads nothing from the session's folder later on."""

    photo: Photo
    quad: np.ndarray  # float64 [4, 2]
    inversion: Inversion
    free: np.ndarray | None  # bool [H, W], what is not another face; None: everything
    config: PasteConfig

    @classmethod
    def of(cls, session: EditSession, photo: Photo) -> View:
        """Of the session's photo, or of that photo with other faces edited.

        Raises StaleResult where the face was not yet inverted.
        """
        return cls(
            photo,
            session.face(8).quad,
            session.inversion,
            session.without_neighbours(),
            replace(session.config.paste, detail=LIVE_DETAIL),
        )

    @cached_property
    def box(self) -> Box:
        return box_of(self.quad, self.photo.pixels.shape)

    def live(self, layers: Sequence[Layer]) -> np.ndarray:
        """The photo's box with layers over it, reduced, uint8 [h, w, 3]."""
        drawn = [Drawing(self._draw(layer.latent), self._shrunk(layer.mask), layer.pins) for layer in layers]
        small, free = self._small, self._shrunk(self.free)
        return paste_layers(small.photo, small.face, self._before, drawn, free, self.config)

    def thumb(self, layers: Sequence[Layer]) -> bytes:
        """A JPEG of the face's middle."""
        return jpeg(thumb_of(self.live(layers)), self.photo.icc, 80)

    def corners(self) -> list[list[float]]:
        return corners_of(self.box)

    def to_photo(self, points: np.ndarray) -> list[list[float]]:
        """Points [N, 2] of the aligned face as the generator draws it -> points of the photo, to a hundredth."""
        size = self.inversion.generator.resolution
        return AlignedFace(np.empty((size, size, 3), np.uint8), self.quad).to_photo(points).round(2).tolist()

    @cached_property
    def _small(self) -> _Small:
        left, top, right, bottom = self.box
        cut = self.photo.pixels[top:bottom, left:right]
        side = float(np.hypot(*(self.quad[3] - self.quad[0])))
        pixels = reduced(cut, max(1, round(max(cut.shape[:2]) * min(1, LIVE / side))))
        scale = np.array(pixels.shape[1::-1]) / cut.shape[1::-1]
        quad = (self.quad - [left, top] + 0.5) * scale - 0.5
        return _Small(pixels, AlignedFace.crop(pixels, quad, min(LIVE_DETAIL, self.inversion.generator.resolution)))

    @cached_property
    def _before(self) -> np.ndarray:
        return self._draw(self.inversion.latent)

    def _draw(self, latent: Tensor) -> np.ndarray:
        with torch.no_grad():
            generator = self.inversion.generator
            return reduced(to_pixels(generator.render(latent[None].to(generator.device))), LIVE_DETAIL)

    def _shrunk(self, mask: np.ndarray | None) -> np.ndarray | None:
        if mask is None:
            return None
        left, top, right, bottom = self.box
        height, width = self._small.photo.shape[:2]
        cut = mask[top:bottom, left:right].astype(np.uint8) * 255
        return np.asarray(cv2.resize(cut, (width, height), interpolation=cv2.INTER_AREA) > 127)


@dataclass(frozen=True)
class _Small:
    photo: np.ndarray
    face: AlignedFace


def thumb_of(pixels: np.ndarray) -> np.ndarray:
    """The middle of a face's box as a square of THUMB pixels."""
    height, width = pixels.shape[:2]
    side = round(min(height, width) * 0.72)
    top, left = (height - side) // 2, (width - side) // 2
    middle = np.ascontiguousarray(pixels[top : top + side, left : left + side])
    return cv2.resize(middle, (THUMB, THUMB), interpolation=cv2.INTER_AREA)


def reconstruction(base: Generator, latent: Tensor, step: PivotStep | TuneStep) -> np.ndarray:
    """The face as far as a step of the inversion knows it: uint8 [S, S, 3]."""
    with torch.no_grad():
        if isinstance(step, PivotStep):
            image = base.render(step.latent[None])
        else:
            image = functional_call(base.network.synthesis, step.weights, (latent[None],))
    return np.clip(np.rint(to_pixels(image)), 0, 255).astype(np.uint8)


def describe_steps(step: Any, seconds: float, more: int = 0) -> dict[str, Any]:
    """What is told of any step; `more` steps of another stage follow this one's."""
    told = {"index": step.index, "limit": step.limit, "score": round(float(step.score), 4)}
    if step.index > 0:
        per_step = seconds / step.index
        told |= {
            "rate": round(1 / max(per_step, 1e-6), 2),
            "left": round(per_step * (step.limit - step.index + more), 1),
        }
    return told
