"""An edit: what was asked for, what it stands on, how it went, and what is drawn; as a value and as a record.

A record holds all that its edit's picture needs, the layers below it too, so an edit outlives those it stands on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from align import AlignedFace, Pins, find_change, landed, pinned, sampled, settle, together
from drag import FEW, DragConfig, DragEdit, DragStep
from pipeline.record import Record

Anchor = Literal["photo", "previous"]
PHOTO = 0  # in place of an edit's number: the photo itself, on which the first edit stands


FILMED = 32  # at most so many steps of a drag are kept as latents, so that it can be shown as a film


@dataclass(frozen=True)
class Layer:
    """What an edit draws and where; outside its mask, what lies below shows."""

    latent: Tensor  # [num_ws, w_dim]
    mask: np.ndarray | None  # bool [H, W] of the photo; None: everywhere
    pins: Pins = Pins()


@dataclass(frozen=True)
class Outcome:
    """How a drag went. Old records do not know seconds and date."""

    steps: int
    stopped: str  # "arrived", "stuck", "steps used up", "cancelled"
    score: float  # mean distance of handles to targets at the end, pixels of a 512-pixel face
    seconds: float | None = None  # from before the first step
    date: str | None = None  # when it began: ISO 8601, UTC


@dataclass(frozen=True)
class Edit:
    """One edit as it was asked for and as far as it came. Points are in pixels of the aligned face."""

    number: int
    parent: int  # the edit it stands on, 0: the photo
    edit: DragEdit
    anchor: Anchor  # what its mask holds: the photo, or the edit it stands on
    config: Mapping[str, Any]  # DragConfig's fields
    latent: Tensor  # [num_ws, w_dim]
    handles: np.ndarray  # [N, 2] where they ended
    track: np.ndarray  # float32 [steps + 1, N, 2] where they were in each step; in old records the first and the last
    mask: np.ndarray | None  # bool [H, W] of the photo
    pins: Pins  # in old records none
    below: tuple[Layer, ...]  # what shows outside the mask, lowest first; nothing: the photo
    outcome: Outcome
    film: Mapping[int, Tensor]  # latents [num_ws, w_dim] on the way, by step, half precision; old records have none

    @property
    def layers(self) -> tuple[Layer, ...]:
        """All that is drawn over the photo, lowest first."""
        return (*self.below, Layer(self.latent, self.mask, self.pins))


def layers_below(parent: Edit | None, mask: np.ndarray | None, anchor: Anchor) -> tuple[Layer, ...]:
    """What shows outside an edit's mask.

    With the anchor "previous" that is its parent's whole picture. With "photo" it is the photo, and of the edits
    below only what they drew inside masks of their own: hair that was edited within a mask stays when a mouth is.
    """
    if parent is None or mask is None:
        return ()
    return tuple(layer for layer in parent.layers if anchor == "previous" or layer.mask is not None)


def pins_over(
    parent: Edit, handles: np.ndarray, face: AlignedFace, before: np.ndarray, draw: Callable[[Tensor], np.ndarray]
) -> Pins:
    """Pins, as yet without ends, of an edit that stands on another: handles [N, 2], in crop widths of its picture.

    Each comes from where it came from in the highest layer in which it is seen. `before` is the drawing of the photo
    as it was, `draw` makes one of a latent.
    """
    origins, sought = handles.copy(), np.ones(len(handles), bool)
    x, y = np.rint(face.to_photo(handles * face.size - 0.5)).astype(int).T
    settled = parent.pins.settled
    for layer in reversed(parent.layers):
        motion = find_change(face.pixels.astype(np.float32), before, draw(layer.latent), "motion").motion
        if layer.latent is parent.latent:
            settled = settle(motion, layer.pins)
        here = sought.copy()
        if layer.mask is not None:
            height, width = layer.mask.shape
            here &= layer.mask[y.clip(0, height - 1), x.clip(0, width - 1)]
        origins[here] += sampled(pinned(motion, layer.pins), handles[here])
        sought &= ~here
        if not sought.any():
            break  # what lies deeper need not be drawn
    return Pins(origins=origins, settled=settled)


def seen(edit: DragEdit, handles: np.ndarray, pins: Pins, size: int) -> np.ndarray:
    """Where handles that came to [..., N, 2] are seen in the photo: where their pins let them land.

    Records of before pins have none, nor have old ones of more than five handles: there they are where they came to.
    """
    if len(pins.origins) == 0:
        return handles
    if len(edit.handles) > FEW:
        handles = together(edit.handles, handles, edit.targets)
    return landed(edit.handles, handles, edit.targets, size)


@dataclass
class Draft:
    """An edit under way: what is known before its first step, and the handles' way so far."""

    parent: Edit | None
    edit: DragEdit
    anchor: Anchor
    config: DragConfig
    made_from: Mapping[str, str]  # the sha256 of what was inverted
    mask: np.ndarray | None
    size: int = 512  # of the aligned face that the edit's points are in
    pins: Pins = Pins()  # without ends: those are where the handles land
    track: list[np.ndarray] = field(default_factory=list)
    film: dict[int, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.date, self._started = datetime.now(UTC).isoformat(timespec="seconds"), time.monotonic()
        self.below = layers_below(self.parent, self.mask, self.anchor)
        self._arrays = _packed(self.edit, self.mask, self.below)  # once: a photo's mask has millions of bits

    def layer(self, step: DragStep) -> Layer:
        """What this step draws."""
        return Layer(step.latent, self.mask, self.pins.ending_at(self.seen(step), self.size))

    def seen(self, step: DragStep) -> np.ndarray:
        """Where its handles are seen in the photo, [N, 2] in pixels of the aligned face."""
        return seen(self.edit, step.handles, self.pins, self.size)

    def left(self, step: DragStep) -> float:
        """How far they are seen from their targets in the mean, pixels of a 512-pixel face."""
        return float(np.hypot(*(self.seen(step) - self.edit.targets).T).mean()) * 512 / self.size

    def followed(self, steps: Iterator[DragStep]) -> Iterator[DragStep]:
        """The same steps, their handles and some of their latents noted."""
        every = 1
        for step in steps:
            self.track.append(step.handles)
            if step.index % every == 0:
                self.film[step.index] = step.latent.half().cpu().numpy()
            if len(self.film) > FILMED:
                every *= 2
                self.film = {index: latent for index, latent in self.film.items() if index % every == 0}
            yield step

    def record(self, step: DragStep) -> Record:
        """The edit as far as this step."""
        outcome = Outcome(
            step.index, _why(step), step.score, round(time.monotonic() - self._started, 2), self.date
        )  # fmt: skip
        settings = {
            "parent": self.parent.number if self.parent else PHOTO,
            "anchor": self.anchor,
            "config": asdict(self.config),
            "outcome": asdict(outcome),
        }
        track = np.stack(self.track[: step.index + 1]).astype(np.float32)
        filmed = [index for index in self.film if index <= step.index]
        arrays = {"latent": step.latent.cpu().numpy(), "ended": step.handles, "track": track}
        arrays |= _pins_packed(self.layer(step).pins)
        arrays |= {"film": np.stack([self.film[index] for index in filmed]), "film_steps": np.array(filmed)}
        return Record("edit", self._arrays | arrays, settings)


def _why(step: DragStep) -> str:
    if step.state != "moving":
        return step.state
    return "steps used up" if step.index == step.limit else "cancelled"


def _packed(edit: DragEdit, mask: np.ndarray | None, below: tuple[Layer, ...]) -> dict[str, np.ndarray]:
    arrays = {"handles": edit.handles, "targets": edit.targets}
    if edit.movable is not None and mask is not None:
        arrays |= {"movable": edit.movable, "mask": np.packbits(mask)}  # one bit for each of the photo's pixels
    for number, layer in enumerate(below):
        arrays[f"below.{number}.latent"] = layer.latent.cpu().numpy()
        arrays |= _pins_packed(layer.pins, f"below.{number}.")
        if layer.mask is not None:
            arrays[f"below.{number}.mask"] = np.packbits(layer.mask)
    return arrays


def _pins_packed(pins: Pins, prefix: str = "") -> dict[str, np.ndarray]:
    return {f"{prefix}pins.{name}": places for name, places in vars(pins).items() if len(places)}


def read_edit(number: int, record: Record, photo_shape: tuple[int, int], device: torch.device) -> Edit:
    """The edit in a record; `photo_shape` (H, W) is that of the photo, whose pixels its masks are for."""
    arrays, settings = record.arrays, current_settings(record)

    def layer(prefix: str) -> Layer:
        bits = arrays.get(f"{prefix}mask")
        count = photo_shape[0] * photo_shape[1]
        mask = None if bits is None else np.unpackbits(bits, count=count).reshape(photo_shape).astype(bool)
        pins = {each.name: arrays[key] for each in fields(Pins) if (key := f"{prefix}pins.{each.name}") in arrays}
        return Layer(torch.from_numpy(arrays[f"{prefix}latent"]).to(device), mask, Pins(**pins))

    below = [f"below.{index}." for index in range(len(arrays)) if f"below.{index}.latent" in arrays]
    own = layer("")
    filmed = zip(arrays.get("film_steps", ()), arrays.get("film", ()), strict=True)
    return Edit(
        number=number,
        parent=settings["parent"],
        edit=DragEdit(arrays["handles"], arrays["targets"], arrays.get("movable")),
        anchor=settings["anchor"],
        config=settings["config"],
        latent=own.latent,
        handles=arrays["ended"],
        track=arrays.get("track", np.stack([arrays["handles"], arrays["ended"]]).astype(np.float32)),
        mask=own.mask,
        pins=own.pins,
        below=tuple(map(layer, below)),
        outcome=Outcome(**settings["outcome"]),
        film={int(step): torch.from_numpy(latent).to(device) for step, latent in filmed},
    )


def current_settings(record: Record) -> Mapping[str, Any]:
    """An edit record's settings as format 2 has them.

    Format 1 held a mask's features as they were before each edit, whence "previous"; it kept no seconds and no date.
    """
    old = record.settings
    if record.format != "1":
        return old
    outcome = Outcome(old["steps"], "arrived" if old["arrived"] else "not arrived", old["score"])
    config = {name.name: old[name.name] for name in fields(DragConfig) if name.name in old and name.name != "steps"}
    return {"parent": old["parent"] or PHOTO, "anchor": "previous", "config": config, "outcome": asdict(outcome)}
