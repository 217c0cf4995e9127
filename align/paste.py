"""Puts an edited face back into its photo: the photo's own pixels are moved, and only what is new is drawn.

The generator's picture is small and never quite the photo. So what counts is the step from its drawing *before*
the edit to the one *after*: the motion between the two (dense optical flow) moves the photo's own pixels, sharp as
they are, and the remaining difference (teeth that appear, a shadow that goes) is added on top, as far as it is
larger than what the generator was wrong by in the first place. Where nothing changed, nothing is added, and the
photo stays as it is, byte for byte. What was dragged is pinned: seen exactly where it was dragged to.

Photos are grey or RGB, of 8 or 16 bits; drawings, and all that is reckoned, are in 0..255.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import cv2
import numpy as np

from align.face import AlignedFace
from align.pins import Pins, pinned

Mode = Literal["auto", "motion", "difference", "crop"]
Box = tuple[int, int, int, int]  # left, top, right, bottom

UNCHANGED = 1.5  # of 255: a smaller change than this is the generator's murmur, not the edit
CHANGED = 6.0  # a change of this size is shown in full
GRAIN = 0.7  # pixels of the drawing: finer than this, two drawings differ by chance
SMOOTH = 0.014  # share of the crop's side: motion is as smooth as a face, or the photo's own grain would ripple
STILL = 0.5, 1.5  # pixels of the flow's picture: motion up to here is its own trembling, from here on it is in full
TINT = 0.12  # share of the crop's side: a change of colour as broad as this is the generator's drift, not the edit
LIGHT = 16.0  # of 255: a change of colour counts in full where the light changes by this, for alone it is drift too
WRONG = 0.05  # share of the crop's side: how broadly the generator's error is looked at
NOVEL = 3.0, 7.0  # times that error: a difference up to here is drift, from here on it is shown in full
MATCH = 0.025  # share of the crop's side: broader than this, a pasted drawing takes the photo's colours and light
RIM = 0.06  # share of the crop's side over which an edit fades out before the crop ends
BAND = 256  # rows of the photo that are reckoned at once, for the memory's sake


@dataclass(frozen=True)
class PasteConfig:
    """How an edit is put back into its photo."""

    mode: Mode = "auto"
    """auto: the photo's own pixels move, and what is new is added. motion: so is what may be the generator's drift.
    difference: the whole difference is added, nothing moves. crop: the drawing itself, in the photo's colours."""
    detail: int = 512
    """Side in pixels of the drawings that the motion is found on, at least the generator's. It is smooth: more costs
    time for nothing, and half of it will do for a preview."""


@dataclass(frozen=True)
class Drawing:
    """One picture to put over a photo, and where it shows."""

    picture: np.ndarray  # [S, S, 3] of 0..255
    mask: np.ndarray | None = None  # bool [H, W] of the photo; None: everywhere
    pins: Pins = Pins()


@dataclass(frozen=True)
class Change:
    """What an edit did, float32 in the aligned frame at one size T (any); C is 1 or 3."""

    motion: np.ndarray  # [T, T, 2] where each pixel came from, minus where it is, in crop widths
    added: np.ndarray  # [T, T, C] what motion does not explain, of 255
    drawn: np.ndarray | None  # [T, T, C] what it is added to, where that is not the photo itself
    alpha: np.ndarray  # [T, T] 0 where nothing changed, 1 where the edit is shown in full


def paste(
    photo: np.ndarray,
    face: AlignedFace,
    before: np.ndarray,
    after: np.ndarray,
    movable: np.ndarray | None = None,
    config: PasteConfig = PasteConfig(),
    pins: Pins = Pins(),
) -> np.ndarray:
    """The photo [H, W, 1 or 3] with the step from drawing `before` to drawing `after` (0..255, [S, S, 3]) in `face`.

    The photo is uint8 or uint16, and so is the result. Where it is grey, be it of one channel or of three, the
    result is too. `movable` bool [H, W] says which of the photo's pixels may change at all.
    """
    if photo.shape[2] == 3 and _is_grey(photo):
        return np.repeat(paste(photo[..., :1], face, before, after, movable, config, pins), 3, axis=2)
    seen, before, after = (_channels(np.asarray(p, np.float32), photo.shape[2]) for p in (face.pixels, before, after))
    change = _for_photo(find_change(seen, before, after, config.mode, config.detail, pins), face)
    result = photo.copy()
    for box in _bands(_box(photo, face, change.alpha)):
        left, top, right, bottom = box
        result[top:bottom, left:right] = _blend(photo, face, change, movable, box)
    return result


def paste_layers(
    photo: np.ndarray,
    face: AlignedFace,
    before: np.ndarray,
    layers: Sequence[Drawing],
    movable: np.ndarray | None = None,
    config: PasteConfig = PasteConfig(),
) -> np.ndarray:
    """The photo with several drawings in it, lowest first.

    Of those without a mask only the last counts: it covers what lies below. Nothing changes outside `movable`.
    """
    picture = photo
    for layer in layers:
        if layer.mask is None or picture is photo:
            allowed = [mask for mask in (layer.mask, movable) if mask is not None]
            free = np.logical_and.reduce(allowed) if allowed else None
            picture = paste(photo, face, before, layer.picture, free, config, layer.pins)
        else:
            above = paste(photo, face, before, layer.picture, movable, config, layer.pins)
            picture = lay_over(picture, above, layer.mask, face)
    return picture


def lay_over(below: np.ndarray, above: np.ndarray, movable: np.ndarray, face: AlignedFace) -> np.ndarray:
    """Photos [H, W, C] of one kind, alike outside `face`: `above` where the mask `movable` bool [H, W] is, feathered.

    Outside the mask `below` shows, byte for byte.
    """
    result = below.copy()
    for box in _bands(_box(below, face, np.ones((1, 1), np.float32))):
        left, top, right, bottom = box
        old, new = (photo[top:bottom, left:right] for photo in (below, above))
        share = _inside(movable, face, box)[..., None]
        result[top:bottom, left:right] = np.rint(old + share * (new.astype(np.float32) - old))
    return result


def find_change(
    seen: np.ndarray,
    before: np.ndarray,
    after: np.ndarray,
    mode: Mode = PasteConfig.mode,
    detail: int = PasteConfig.detail,
    pins: Pins = Pins(),
) -> Change:
    """What happened between two drawings float32 [S, S, C] of a face that the photo shows as `seen`."""
    size = max(detail, before.shape[0])
    before, after = (cv2.GaussianBlur(p, (0, 0), GRAIN).reshape(p.shape) for p in (before, after))
    seen, before, after = (_resized(p, size, cv2.INTER_CUBIC) for p in (seen, before, after))
    flow = np.zeros((size, size, 2), np.float32)
    moves = mode in ("auto", "motion")
    if moves:
        flow = _motion(before, after)
        y, x = np.indices((size, size), dtype=np.float32)
        seen, before = (_sample(p, np.stack([x, y], -1) + flow, cv2.INTER_LINEAR) for p in (seen, before))
    added = _without_drift(after - before)
    if mode == "auto":
        added *= _credible(added, _without_drift(seen - before))
    drawn = before + _blur(seen - before, MATCH) if mode == "crop" else None
    motion = pinned(flow / size, pins) if moves else flow
    return Change(motion, added, drawn, _shown(motion * size, added))


def _blend(photo: np.ndarray, face: AlignedFace, change: Change, movable: np.ndarray | None, box: Box) -> np.ndarray:
    """A box of the photo with the change in it."""
    left, top, right, bottom = box
    old = photo[top:bottom, left:right]
    alpha = _in_photo(change.alpha, face, box)
    if movable is not None:
        alpha = alpha * _inside(movable, face, box)
    if not alpha.any():
        return old
    unit = np.float32(257 if photo.dtype == np.uint16 else 1)
    if change.drawn is None:
        to_pixels = (face.matrix[:, :2].T * face.size).astype(np.float32)  # crop widths -> photo pixels
        below = _moved(photo, _in_photo(change.motion, face, box) @ to_pixels, box) / unit
    else:
        below = _in_photo(change.drawn, face, box)
    blended = old / unit
    blended += alpha[..., None] * (below + _in_photo(change.added, face, box) - blended)
    new = np.rint(np.clip(blended, 0, 255) * unit).astype(photo.dtype)
    return np.where(alpha[..., None] > 0, new, old)


def _without_drift(added: np.ndarray) -> np.ndarray:
    """A difference [T, T, C] without what the generator changes of itself: broad tints, and colour without light."""
    added = added - _blur(added, TINT)
    light = _light(added)
    share = np.clip(_blur(np.abs(light), 0.01) / LIGHT, 0, 1)
    return light + (added - light) * share


def _credible(added: np.ndarray, wrong: np.ndarray) -> np.ndarray:
    """float32 [T, T, 1]: 0 where a difference is no more than the generator's own error `wrong`, 1 where it is new."""
    error = 0.4 + _blur(np.abs(wrong).max(2), WRONG)
    change = _blur(np.abs(added).max(2), 0.01)
    return _ramp(change / error, *NOVEL)[..., None]


def _ramp(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """0 up to `low`, 1 from `high` on."""
    return np.clip((values - low) / (high - low), 0, 1)


def _motion(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Where each pixel of `after` was in `before`, minus where it is, [T, T, 2] in pixels; small motion is none."""
    still = np.zeros((*before.shape[:2], 2), np.float32)
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(_grey(after), _grey(before), still)
    flow = _blur(flow, SMOOTH)
    length = np.hypot(flow[..., 0], flow[..., 1])[..., None]
    return flow * _ramp(length, *STILL)


def _shown(flow: np.ndarray, added: np.ndarray) -> np.ndarray:
    """alpha float32 [T, T]: 1 where something moved or was added, feathered, 0 elsewhere and at the crop's rim."""
    size = len(flow)
    change = _blur(np.abs(added).max(2), 0.01)
    shown = _ramp(change, UNCHANGED, CHANGED)
    shown = np.maximum(shown, np.clip(np.hypot(flow[..., 0], flow[..., 1]), 0, 1))
    shown = cv2.dilate(shown, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size // 32 + 1,) * 2))
    return (np.where(shown > 0, _blur(shown, 0.01), 0) * _window(size)).astype(np.float32)


def _window(size: int) -> np.ndarray:
    """float32 [size, size]: 1 inside, falling smoothly to 0 in the outermost pixels."""
    line = np.linspace(0, 1, size)
    ramp = np.clip(np.minimum(line, 1 - line) / RIM, 0, 1)
    ramp = ramp * ramp * (3 - 2 * ramp)
    return np.outer(ramp, ramp).astype(np.float32)


# Colours


def _is_grey(photo: np.ndarray) -> bool:
    for some in (photo[::16, ::16], photo):  # a photo in colour is known by a few of its pixels
        if not ((some[..., 0] == some[..., 1]) & (some[..., 1] == some[..., 2])).all():
            return False
    return True


def _channels(pixels: np.ndarray, count: int) -> np.ndarray:
    return _light(pixels) if count == 1 else pixels


def _light(pixels: np.ndarray) -> np.ndarray:
    """The luma [T, T, 1] of pixels [T, T, 1 or 3], which may be differences (ITU-R BT.601)."""
    return pixels if pixels.shape[2] == 1 else pixels @ np.array([[0.299], [0.587], [0.114]], np.float32)


def _grey(pixels: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(_light(pixels)[..., 0]), 0, 255).astype(np.uint8)


# Maps [T, T, ...] of the aligned frame


def _blur(part: np.ndarray, share: float) -> np.ndarray:
    """Blurred by a share of the side; a last axis of one channel stays."""
    sigma, size = share * len(part), len(part)
    coarse = max(1, int(sigma / 4))  # a broad blur is as good, and far quicker, on a smaller map
    small = _resized(part, size // coarse, cv2.INTER_AREA)
    blurred = cv2.GaussianBlur(small, (0, 0), sigma / coarse).reshape(small.shape)
    return _resized(blurred, size, cv2.INTER_LINEAR)


def _resized(part: np.ndarray, size: int, interpolation: int) -> np.ndarray:
    return cv2.resize(part, (size, size), interpolation=interpolation).reshape(size, size, *part.shape[2:])


def _sample(pixels: np.ndarray, points: np.ndarray, interpolation: int) -> np.ndarray:
    """Pixels [H, W, C] at points float [h, w, 2]; mirrored at the edge."""
    x, y = np.ascontiguousarray(points.astype(np.float32)).transpose(2, 0, 1)
    found = cv2.remap(pixels, x, y, interpolation, borderMode=cv2.BORDER_REFLECT_101)
    return found.reshape(*points.shape[:2], pixels.shape[2])


# The photo


def _for_photo(change: Change, face: AlignedFace) -> Change:
    """The change in maps no larger than the face is in the photo, where they would alias."""
    size = int(np.ceil(face.scale * face.size))
    if size >= len(change.alpha):
        return change
    parts = {name: part for name, part in vars(change).items() if part is not None}
    small = {name: _resized(part, size, cv2.INTER_AREA) for name, part in parts.items()}
    small["alpha"][[0, -1]] = small["alpha"][:, [0, -1]] = 0
    return replace(change, **small)


def _box(photo: np.ndarray, face: AlignedFace, alpha: np.ndarray) -> Box:
    """The part of the photo in which alpha [T, T] is not 0."""
    rows, columns = np.nonzero(alpha.any(1))[0], np.nonzero(alpha.any(0))[0]
    if len(rows) == 0:
        return 0, 0, 0, 0
    cell = face.size / len(alpha)  # of the map, in the crop's pixels
    reach = max(1.0, cell)  # of interpolation
    low = np.array([columns[0], rows[0]]) * cell - 0.5 - reach
    high = np.array([columns[-1] + 1, rows[-1] + 1]) * cell - 0.5 + reach
    corners = face.to_photo(np.array([low, [low[0], high[1]], high, [high[0], low[1]]]))
    left, top = np.maximum(np.floor(corners.min(0)).astype(int), 0).tolist()
    right, bottom = np.minimum(np.ceil(corners.max(0)).astype(int) + 1, photo.shape[1::-1]).tolist()
    return left, top, right, bottom


def _bands(box: Box) -> Iterator[Box]:
    left, top, right, bottom = box
    if left < right:
        yield from ((left, row, right, min(row + BAND, bottom)) for row in range(top, bottom, BAND))


def _in_photo(part: np.ndarray, face: AlignedFace, box: Box) -> np.ndarray:
    """A map [T, T, ...] of the aligned frame as seen in the photo's box."""
    left, top, right, bottom = box
    at_size = AlignedFace(part, face.quad)  # the same square, cut into pixels of the map's own size
    to_map = at_size.inverse.copy()
    to_map[:, 2] += to_map[:, :2] @ [left, top]
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP  # the matrix leads from the result to the map
    shape = right - left, bottom - top
    return cv2.warpAffine(part, to_map, shape, flags=flags, borderMode=cv2.BORDER_CONSTANT).reshape(
        *shape[::-1], *part.shape[2:]
    )


def _moved(photo: np.ndarray, motion: np.ndarray, box: Box) -> np.ndarray:
    """float32: the photo's pixels at each place of the box plus `motion` [h, w, 2], in photo pixels."""
    left, top, right, bottom = box
    reach = int(np.ceil(np.abs(motion).max())) + 4  # cubic interpolation reads two pixels further
    low_x, low_y = max(left - reach, 0), max(top - reach, 0)
    part = photo[low_y : bottom + reach, low_x : right + reach].astype(np.float32)
    y, x = np.indices(motion.shape[:2], dtype=np.float32)
    return _sample(part, motion + np.stack([x + (left - low_x), y + (top - low_y)], -1), cv2.INTER_CUBIC)


def _inside(movable: np.ndarray, face: AlignedFace, box: Box) -> np.ndarray:
    """float32 [h, w]: 0 where the photo may not change, rising to 1 inside what may."""
    left, top, right, bottom = box
    feather = max(2.0, 0.01 * face.scale * face.size)
    reach = int(np.ceil(feather)) + 1
    low_x, low_y = max(left - reach, 0), max(top - reach, 0)
    part = movable[low_y : bottom + reach, low_x : right + reach].astype(np.uint8)
    depth = cv2.distanceTransform(part, cv2.DIST_L2, 5)
    return np.clip(depth[top - low_y :, left - low_x :][: bottom - top, : right - left] / feather, 0, 1)
