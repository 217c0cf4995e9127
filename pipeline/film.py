"""A film of an edit: the drag from the photo on, with its points drawn; as MP4 and as GIF.

OpenCV's wheels write VP9 in an MP4, which browsers play; H.264 would need an encoder of its own (170 MB).
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from align import AlignedFace, Drawing, paste_layers
from pipeline.edits import PHOTO, Edit, Layer, seen
from pipeline.record import NotWritten
from pipeline.session import EditSession

SIDE = 480  # pixels: the longer side of the pictures
GIF_SIDE, GIF_COLOURS = 400, 128  # half of the megabytes that it would have
RATE = 12  # pictures a second
MOST = 72  # pictures at most, besides those that stand still
STILL = 10  # pictures for which each edit's end stands still
HANDLE, TARGET = (230, 30, 60), (40, 110, 255)
TOLD = (
    "made with a trained generator: http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
)


@dataclass(frozen=True)
class Frame:
    """A moment of an edit: the latent [num_ws, w_dim], and where the handles came along, [k, N, 2] in the face."""

    edit: Edit
    step: int
    latent: Tensor
    track: np.ndarray


def chain(session: EditSession, number: int) -> list[Edit]:
    """The edits from the photo to this one. Raises NoSuchEdit, CorruptRecord, StaleResult."""
    edits: list[Edit] = []
    while number != PHOTO:
        edits.insert(0, session.edit(number))
        number = edits[0].parent
    return edits


def frames_of(edits: Sequence[Edit]) -> list[Frame]:
    """The moments of a film of these edits, each edit's last one included; edits of old records have only that."""
    share = max(2, MOST // max(1, len(edits)))
    return [frame for edit in edits for frame in _frames(edit, share)]


def _frames(edit: Edit, most: int) -> list[Frame]:
    every = -(-len(edit.film) // most) or 1
    steps = sorted(edit.film)[::every]
    on_the_way = [Frame(edit, n, edit.film[n].float(), edit.track[: n + 1]) for n in steps if n < edit.outcome.steps]
    return [*on_the_way, Frame(edit, edit.outcome.steps, edit.latent, edit.track)]


@dataclass(frozen=True)
class Studio:
    """A session's photo around the face, made small enough for a film."""

    session: EditSession

    @cached_property
    def place(self) -> tuple[slice, slice, float]:
        """The rows and columns of the photo around the face, and the film's pixels per photo pixel."""
        quad, (height, width) = self.session.face(512).quad, self.session.photo.pixels.shape[:2]
        left, top = np.maximum(np.floor(quad.min(0)).astype(int), 0).tolist()
        right, bottom = np.minimum(np.ceil(quad.max(0)).astype(int) + 1, (width, height)).tolist()
        return slice(top, bottom), slice(left, right), SIDE / max(bottom - top, right - left)

    def small(self, picture: np.ndarray, interpolation: int = cv2.INTER_AREA) -> np.ndarray:
        """A picture of the photo's size, as the film shows it."""
        rows, columns, scale = self.place
        part = picture[rows, columns]
        height, width = (max(2, round(n * scale / 2) * 2) for n in part.shape[:2])  # encoders want even sides
        return cv2.resize(part, (width, height), interpolation=interpolation if scale < 1 else cv2.INTER_CUBIC)

    def mask(self, mask: np.ndarray | None) -> np.ndarray | None:
        return None if mask is None else self.small(mask.astype(np.uint8), cv2.INTER_NEAREST) > 0

    @cached_property
    def face(self) -> AlignedFace:
        """The face in the film's pixels."""
        rows, columns, scale = self.place
        face = self.session.face(self.session.inversion.generator.resolution)
        return AlignedFace(face.pixels, (face.quad - [columns.start, rows.start] + 0.5) * scale - 0.5)

    @cached_property
    def photo(self) -> np.ndarray:
        return self.small(self.session.photo.pixels)

    @cached_property
    def before(self) -> np.ndarray:
        return self.session.draw(self.session.inversion.latent)

    def picture(self, frame: Frame) -> np.ndarray:
        """uint8 [h, w, 3], the points drawn in."""
        session, edit = self.session, frame.edit
        track = self.seen(edit, frame.track)
        pins = edit.pins.ending_at(track[-1], self.face.size)
        shown = (*edit.below, Layer(frame.latent, edit.mask, pins))
        layers = [Drawing(session.draw(layer.latent), self.mask(layer.mask), layer.pins) for layer in shown]
        free = self.mask(session.without_neighbours())
        picture = paste_layers(self.photo, self.face, self.before, layers, free, session.config.paste)
        return with_track(picture, self.in_film(track), self.in_film(edit.edit.targets))

    def seen(self, edit: Edit, track: np.ndarray) -> np.ndarray:
        """Where an edit's handles were seen in each step, [steps, N, 2] in pixels of the generator's face."""
        return seen(edit.edit, track, edit.pins, self.face.size)

    def in_film(self, points: np.ndarray) -> np.ndarray:
        """Points [..., 2] of the generator's face in the film's pixels."""
        return self.face.to_photo(points.reshape(-1, 2)).reshape(points.shape)

    def shoot(self, frames: Sequence[Frame]) -> Iterator[np.ndarray]:
        """The pictures, one for each frame."""
        for frame in frames:
            yield _captioned(self.picture(frame), f"edit {frame.edit.number}, step {frame.step}")


def with_track(picture: np.ndarray, track: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """The picture with the way [k, N, 2] of its handles so far, where they are, and rings [N, 2] at their targets."""
    fine = 16  # OpenCV takes points in sixteenths of a pixel
    drawn, size = np.ascontiguousarray(picture).copy(), max(1, round(max(picture.shape[:2]) / 280))
    for way, target in zip(np.rint(track * fine).astype(int).swapaxes(0, 1), np.rint(targets * fine), strict=True):
        end, goal = way[-1].tolist(), target.astype(int).tolist()
        for colour, width in ((255, 255, 255), 2 * size + 1), (HANDLE, size):
            cv2.polylines(drawn, [way[:, None]], False, colour, width, cv2.LINE_AA, 4)
        for colour, width in ((255, 255, 255), 2 * size + 1), (TARGET, size):
            cv2.circle(drawn, goal, 4 * size * fine, colour, width, cv2.LINE_AA, 4)
        for colour, radius in ((255, 255, 255), 3 * size), (HANDLE, 2 * size):
            cv2.circle(drawn, end, radius * fine, colour, -1, cv2.LINE_AA, 4)
    return drawn


def _captioned(picture: np.ndarray, text: str) -> np.ndarray:
    image = Image.fromarray(picture)
    font = ImageFont.load_default(16)
    ImageDraw.Draw(image).text((8, 6), text, "white", font, stroke_width=2, stroke_fill="black")
    return np.array(image)


def timed(frames: Sequence[Frame], pictures: Sequence[np.ndarray]) -> list[tuple[np.ndarray, int]]:
    """Each picture, and for how many frames of the film it shows: an edit's last one stands still."""
    ends = [a.edit.number != b.edit.number for a, b in pairwise(frames)] + [True]
    return [(picture, STILL if end else 1) for picture, end in zip(pictures, ends, strict=True)]


def mp4(film: Sequence[tuple[np.ndarray, int]]) -> bytes:
    """An MP4 (VP9). Raises NotWritten where this build of OpenCV has no such encoder."""
    height, width = film[0][0].shape[:2]
    with TemporaryDirectory() as folder:
        path = Path(folder) / "film.mp4"
        writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"vp09"), RATE, (width, height))
        if not writer.isOpened():
            raise NotWritten(
                "this build of OpenCV writes no MP4: install opencv-python-headless from PyPI, or --no-film"
            )
        for picture, times in film:
            for _ in range(times):
                writer.write(picture[..., ::-1])
        writer.release()
        return path.read_bytes()


def _few_colours(picture: np.ndarray) -> Image.Image:
    """Small, and without the dither that a GIF cannot compress; the points' colours, rare as they are, are kept."""
    image = Image.fromarray(picture)
    image.thumbnail((GIF_SIDE, GIF_SIDE))
    points = np.repeat(np.array([[HANDLE], [TARGET]], np.uint8), image.width, 1).repeat(8, 0)
    palette = Image.fromarray(np.concatenate([np.array(image), points])).quantize(GIF_COLOURS)
    return image.quantize(palette=palette, dither=Image.Dither.NONE)


def gif(film: Sequence[tuple[np.ndarray, int]]) -> bytes:
    """An animated GIF that repeats."""
    images = [_few_colours(picture) for picture, _ in film]
    durations = [round(1000 / RATE) * times for _, times in film]
    file = io.BytesIO()
    images[0].save(file, "GIF", save_all=True, append_images=images[1:], duration=durations, loop=0, comment=TOLD)
    return file.getvalue()
