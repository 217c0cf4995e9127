"""The messages between the editor and its host: small JSON objects, checked before anybody acts on them.

To the host go requests. Back come messages of a few kinds, of which only the newest of each kind counts; some carry
bytes: a picture, or the exported file. Points are (x, y) in pixels of the photo, pixel centres at integers.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import cv2
import numpy as np
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

MASK_SIDE = 2048  # a mask is painted at most this large, and scaled to the photo
MOST_POINTS = 64
LONGEST = 8_000_000  # bytes of a request: a mask's runs are the largest part


class BadMessage(ValueError):
    """A request that is not of a known shape."""


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


Coordinate = Annotated[float, Field(ge=-1e6, le=1e6)]


class Point(_Request):
    """A handle and its target; where both are one, the point is held where it is."""

    handle: tuple[Coordinate, Coordinate] = Field(strict=False)
    target: tuple[Coordinate, Coordinate] = Field(strict=False)


class Mask(_Request):
    """What may change: lengths of runs, row by row, the first of pixels that may not."""

    width: int = Field(ge=1, le=MASK_SIDE)
    height: int = Field(ge=1, le=MASK_SIDE)
    runs: list[Annotated[int, Field(ge=0)]]

    def read(self, shape: tuple[int, int]) -> np.ndarray:
        """bool [H, W] of a photo of that shape. Raises BadMessage."""
        if sum(self.runs) != self.width * self.height:
            raise BadMessage(f"the mask's runs add up to {sum(self.runs)}, not to {self.width} x {self.height}")
        values = np.arange(len(self.runs)) % 2 == 1
        small = np.repeat(values, self.runs).reshape(self.height, self.width)
        scaled = cv2.resize(small.astype(np.uint8) * 255, shape[::-1], interpolation=cv2.INTER_LINEAR)
        return np.asarray(scaled > 127)


class Begin(_Request):
    """Cut out a face, counted from 1, and find it in a generator. None: the face that was cut out already.

    Where another face was learned already, this one gets a session of its own, and a face that has one is gone back to.
    """

    type: Literal["begin"]
    face: int | None = Field(ge=1)
    generator: str = Field(max_length=200)


class Drag(_Request):
    """Drag points, and make gestures, from the current edit or from the photo."""

    type: Literal["drag"]
    points: list[Point] = Field(max_length=MOST_POINTS)
    gestures: dict[str, float] = Field(default={}, max_length=MOST_POINTS)
    mask: Mask | None = None
    anchor: Literal["photo", "previous"] = "photo"
    from_photo: bool = False


class SketchPoint(_Request):
    """A point that was set. Without a target, only its handle was."""

    handle: tuple[Coordinate, Coordinate] = Field(strict=False)
    target: tuple[Coordinate, Coordinate] | None = Field(default=None, strict=False)
    held: bool = False


class Sketch(_Request):
    """All that is set and not yet dragged. Each client counts what it has said, and is told how far it was heard."""

    type: Literal["sketch"] = "sketch"
    by: str = Field(default="", max_length=32)
    said: int = Field(default=0, ge=0)
    face: int | None = None  # for which face it is meant
    points: list[SketchPoint] = Field(default=[], max_length=MOST_POINTS)
    gestures: dict[str, float] = Field(default={}, max_length=MOST_POINTS)
    mask: Mask | None = None


class Move(_Request):
    """Through the history."""

    type: Literal["undo", "redo"]


class GoTo(_Request):
    type: Literal["goto"]
    number: int = Field(ge=0)


class Control(_Request):
    """Of the work under way."""

    type: Literal["pause", "resume", "stop"]


class Export(_Request):
    """The photo with the current edit, as a file; "photo" is the format it came in."""

    type: Literal["export"]
    format: Literal["photo", "png", "jpg", "webp"] = "photo"


class Hello(_Request):
    """Says again all that is known: somebody new looks through this line."""

    type: Literal["hello"]


class Shown(_Request):
    """The last frame is on the screen: the next one may come."""

    type: Literal["shown"]


Request = Begin | Drag | Sketch | Move | GoTo | Control | Export | Hello | Shown
_REQUESTS: TypeAdapter[Request] = TypeAdapter(Annotated[Request, Field(discriminator="type")])


def read_request(text: str | bytes) -> Request:
    """The request in a text. Raises BadMessage, in one line."""
    if len(text) > LONGEST:
        raise BadMessage(f"the message has {len(text)} bytes, at most {LONGEST} are read")
    try:
        return _REQUESTS.validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise BadMessage(f"a message of the wrong shape: {where + ': ' if where else ''}{first['msg']}") from None


@dataclass(frozen=True)
class Message:
    """What the host says. Of each kind but "problem" and "file" only the newest counts."""

    kind: str
    body: dict[str, Any] = field(default_factory=dict)
    payload: bytes = b""

    @property
    def head(self) -> dict[str, Any]:
        return {"type": self.kind, **self.body}

    def pack(self) -> bytes:
        """Four bytes, little-endian: the head's length; the head in JSON; the payload."""
        head = json.dumps(self.head, separators=(",", ":")).encode()
        return len(head).to_bytes(4, "little") + head + self.payload
