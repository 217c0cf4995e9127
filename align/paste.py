"""Puts an edited face back into its photo: the photo's own pixels are moved, and only what is new is drawn.

The generator's picture is small and never quite the photo. So what counts is the step from its drawing *before*
the edit to the one *after*: the motion between the two (dense optical flow) moves the photo's own pixels, sharp as
they are, and the remaining difference (teeth that appear, a shadow that goes) is added on top. Where nothing
changed, nothing is added, and the photo stays as it is, byte for byte.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from align.face import AlignedFace

FLOW_SIZE = 512  # the flow is found on drawings of this size; it is smooth, so more detail costs time for nothing
UNCHANGED = 1.5  # of 255: a smaller change than this is the generator's murmur, not the edit
CHANGED = 6.0  # a change of this size is shown in full
GRAIN = 0.7  # pixels of the drawing: finer than this, two drawings differ by chance
SMOOTH = 0.02  # share of the crop's side: motion is as smooth as a face, or the photo's own grain would ripple
STILL = 0.5  # pixels of the flow's picture: less motion than this is the flow's own trembling
TINT = 0.12  # share of the crop's side: a change of colour as broad as this is the generator's drift, not the edit
LIGHT = 16.0  # of 255: a change of colour counts in full where the light changes by this, for alone it is drift too
RIM = 0.06  # share of the crop's side over which an edit fades out before the crop ends


@dataclass(frozen=True)
class Change:
    """What an edit did, float32 in the aligned frame at one size T (any)."""

    motion: np.ndarray  # [T, T, 2] where each pixel came from, minus where it is, in crop widths
    added: np.ndarray  # [T, T, 3] what motion does not explain, of 255
    alpha: np.ndarray  # [T, T] 0 where nothing changed, 1 where the edit is shown in full


def paste(
    photo: np.ndarray, face: AlignedFace, before: np.ndarray, after: np.ndarray, movable: np.ndarray | None = None
) -> np.ndarray:
    """The photo uint8 [H, W, 3] with the step from drawing `before` to drawing `after` (0..255, [S, S, 3]) in `face`.

    `movable` bool [H, W] says which of the photo's pixels may change at all.
    """
    left, top, right, bottom = _box(photo, face)
    if left >= right or top >= bottom:
        return photo.copy()
    change = find_change(np.asarray(before, np.float32), np.asarray(after, np.float32))
    motion, added, alpha = (
        _in_photo(part, face, (left, top, right, bottom)) for part in (change.motion, change.added, change.alpha)
    )
    if movable is not None:
        alpha = alpha * _inside(movable, face)[top:bottom, left:right]
    side = face.scale * face.size  # the crop's width in photo pixels
    rotate = face.matrix[:, :2] / face.scale
    moved = motion.reshape(-1, 2) @ rotate.T.astype(np.float32) * side
    y, x = np.indices(alpha.shape, dtype=np.float32)
    source = moved.reshape(motion.shape) + np.stack([x + left, y + top], -1)
    warped = _sample(photo.astype(np.float32), source, cv2.INTER_CUBIC)
    old = photo[top:bottom, left:right]
    new = np.rint(np.clip(old + alpha[..., None] * (warped + added - old), 0, 255)).astype(np.uint8)
    result = photo.copy()
    result[top:bottom, left:right] = np.where(alpha[..., None] > 0, new, old)
    return result


def lay_over(below: np.ndarray, above: np.ndarray, movable: np.ndarray, face: AlignedFace) -> np.ndarray:
    """Pixels uint8 [H, W, 3]: those of `above` within the mask `movable` bool [H, W], feathered; outside, `below`."""
    share = _inside(movable, face)[..., None]
    return np.rint(below + share * (above.astype(np.float32) - below)).astype(np.uint8)


def find_change(before: np.ndarray, after: np.ndarray) -> Change:
    """What happened between two drawings float32 [S, S, 3]: motion, what it does not explain, and where."""
    size = max(FLOW_SIZE, before.shape[0])
    before, after = (cv2.GaussianBlur(p, (0, 0), GRAIN) for p in (before, after))
    before, after = (cv2.resize(p, (size, size), interpolation=cv2.INTER_CUBIC) for p in (before, after))
    flow = _motion(before, after)
    y, x = np.indices((size, size), dtype=np.float32)
    added = after - _sample(before, np.stack([x, y], -1) + flow, cv2.INTER_LINEAR)
    added -= cv2.GaussianBlur(added, (0, 0), TINT * size)
    light = _light(added)
    share = np.clip(cv2.GaussianBlur(np.abs(light), (0, 0), 0.01 * size) / LIGHT, 0, 1)
    added = light[..., None] + (added - light[..., None]) * share[..., None]
    return Change(flow / size, added, _shown(flow, added))


def _light(pixels: np.ndarray) -> np.ndarray:
    """The luma [T, T] of RGB pixels [T, T, 3], which may be differences (ITU-R BT.601)."""
    return pixels @ np.array([0.299, 0.587, 0.114], np.float32)


def _motion(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Where each pixel of `after` was in `before`, minus where it is, [T, T, 2] in pixels; small motion is none."""
    still = np.zeros((*before.shape[:2], 2), np.float32)
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(_grey(after), _grey(before), still)
    flow = cv2.GaussianBlur(flow, (0, 0), SMOOTH * len(flow))
    length = np.hypot(flow[..., 0], flow[..., 1])[..., None]
    return flow * np.clip(1 - STILL / np.maximum(length, 1e-6), 0, 1)


def _shown(flow: np.ndarray, added: np.ndarray) -> np.ndarray:
    """alpha float32 [T, T]: 1 where something moved or was added, feathered, 0 elsewhere and at the crop's rim."""
    size = len(flow)
    change = cv2.GaussianBlur(np.abs(added).max(2), (0, 0), 0.01 * size)
    shown = np.clip((change - UNCHANGED) / (CHANGED - UNCHANGED), 0, 1)
    shown = np.maximum(shown, np.clip(np.hypot(flow[..., 0], flow[..., 1]), 0, 1))
    shown = cv2.dilate(shown, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size // 32 + 1,) * 2))
    return (np.where(shown > 0, cv2.GaussianBlur(shown, (0, 0), 0.01 * size), 0) * _window(size)).astype(np.float32)


def _sample(pixels: np.ndarray, points: np.ndarray, interpolation: int) -> np.ndarray:
    """Pixels [H, W, 3] at points float [h, w, 2]; mirrored at the edge."""
    x, y = np.ascontiguousarray(points.astype(np.float32)).transpose(2, 0, 1)
    return cv2.remap(pixels, x, y, interpolation, borderMode=cv2.BORDER_REFLECT_101)


def _grey(pixels: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(np.clip(np.rint(pixels), 0, 255).astype(np.uint8), cv2.COLOR_RGB2GRAY)


def _window(size: int) -> np.ndarray:
    """float32 [size, size]: 1 inside, falling smoothly to 0 at the crop's rim."""
    line = (np.arange(size) + 0.5) / size
    ramp = np.clip(np.minimum(line, 1 - line) / RIM, 0, 1)
    ramp = ramp * ramp * (3 - 2 * ramp)
    return np.outer(ramp, ramp).astype(np.float32)


def _box(photo: np.ndarray, face: AlignedFace) -> tuple[int, int, int, int]:
    """The part of the photo that the crop touches: left, top, right, bottom."""
    low = np.maximum(np.floor(face.quad.min(0)).astype(int), 0)
    high = np.minimum(np.ceil(face.quad.max(0)).astype(int) + 1, photo.shape[1::-1])
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])


def _in_photo(part: np.ndarray, face: AlignedFace, box: tuple[int, int, int, int]) -> np.ndarray:
    """A map [T, T, ...] of the aligned frame as seen in the photo's box; shrunk first where it would alias."""
    left, top, right, bottom = box
    target = int(np.ceil(face.scale * face.size))  # the crop's width in photo pixels
    if target < part.shape[0]:
        part = cv2.resize(part, (target, target), interpolation=cv2.INTER_AREA)
    at_size = AlignedFace(part, face.quad)  # the same square, cut into pixels of the map's own size
    to_map = at_size.inverse.copy()
    to_map[:, 2] += to_map[:, :2] @ [left, top]
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP  # the matrix leads from the result to the map
    return cv2.warpAffine(part, to_map, (right - left, bottom - top), flags=flags, borderMode=cv2.BORDER_CONSTANT)


def _inside(movable: np.ndarray, face: AlignedFace) -> np.ndarray:
    """float32 [H, W]: 0 where the photo may not change, rising to 1 inside what may."""
    feather = max(2.0, 0.01 * face.scale * face.size)
    depth = cv2.distanceTransform(movable.astype(np.uint8), cv2.DIST_L2, 5)
    return np.clip(depth / feather, 0, 1)
