"""Pins: what was dragged is seen in the photo exactly where it was dragged to.

The motion between two drawings is smooth, and drawings are small: where one point was dragged, the motion found there
falls short of it. Each pin bends the photo before it is moved, in a spot around the place to which the motion leads,
so that what has to be seen is seen. Bent is the photo, not the motion: so an edit that comes later, and moves all of
it, keeps what was pinned before.

All places are in crop widths: (0, 0) is a corner of the aligned face, (1, 1) the opposite one.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import cv2
import numpy as np

REACH = 0.04  # of a pin: the standard deviation of its spot, a mouth's corner
SOFT = 0.22  # how far pins that contradict each other give way; a lone one comes 1 / (1 + SOFT^2) of its way
LANDING = 8 / 512  # at most so far a pin is from where its drag ended


@dataclass(frozen=True)
class Pins:
    """Which place of the photo has to be seen where in a drawing."""

    ends: np.ndarray = field(default_factory=lambda: np.empty((0, 2)))  # float64 [N, 2] in the drawing
    origins: np.ndarray = field(default_factory=lambda: np.empty((0, 2)))  # float64 [N, 2] of the photo
    settled: np.ndarray = field(default_factory=lambda: np.empty((0, 2, 2)))
    """float64 [M, 2, 2], of earlier edits: the place of the photo to which the motion alone leads, and the right one"""

    def ending_at(self, points: np.ndarray, size: int) -> Pins:
        """The same, with the first of these points [>= N, 2] as ends, in pixels of a drawing size x size."""
        return replace(self, ends=(points[: len(self.origins)] + 0.5) / size)


def together(starts: np.ndarray, ends: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Where points that were dragged from `starts` [N, 2] to `ends` [..., N, 2] are if all came equally far.

    Of many points some are seen badly; pinned where it seems to be, such a one would bend a brow. How far they came
    together is known well, and so far each is put on its own way to its target: what that bends is as smooth as what
    was asked for.
    """
    way = targets - starts
    asked = np.square(way).sum()
    share = ((ends - starts) * way).sum((-2, -1), keepdims=True) / max(asked, 1e-9)
    return starts + share.clip(0, 1) * way


def landed(starts: np.ndarray, ends: np.ndarray, targets: np.ndarray, size: int) -> np.ndarray:
    """Points [..., N, 2] that a drag brought from `starts` to `ends`, let go on to their targets, in pixels.

    Where the network comes no nearer, the photo is bent the rest of the way: no farther than the drag came, for what
    does not move at all is not there to be moved.
    """
    rest = targets - ends
    far = np.minimum(np.linalg.norm(ends - starts, axis=-1), LANDING * size)
    return ends + rest * np.minimum(1, far / np.maximum(np.linalg.norm(rest, axis=-1), 1e-9))[..., None]


def settle(motion: np.ndarray, pins: Pins) -> np.ndarray:
    """Pins as pairs of places in the photo [K, 2, 2], as `settled` has them; `motion` [T, T, 2] is in crop widths.

    Where an earlier pin is near a new one, the new one has the say.
    """
    new = np.stack([pins.ends + sampled(motion, pins.ends), pins.origins], axis=1)
    apart = np.linalg.norm(pins.settled[:, None] - new[None], axis=3)  # [M, N, 2]
    return np.concatenate([new, pins.settled[(apart > REACH).all((1, 2))]])


def pinned(motion: np.ndarray, pins: Pins) -> np.ndarray:
    """Motion [T, T, 2], in crop widths, with the pins where they belong."""
    pairs = settle(motion, pins)
    if len(pairs) == 0:
        return motion
    at, bend = pairs[:, 0], pairs[:, 1] - pairs[:, 0]
    # A bend longer than its spot is wide would fold the photo; then it was the drag that lost sight of its handle.
    bend = bend * np.minimum(1, REACH / np.maximum(np.linalg.norm(bend, axis=1, keepdims=True), 1e-9))
    nearness = np.exp(-np.square(at[:, None] - at[None]).sum(2) / (2 * REACH**2))  # [K, K]
    size = len(motion)
    line = (np.arange(size) + 0.5) / size
    across, down = (np.exp(-np.square(line - at[:, [axis]]) / (2 * REACH**2)) for axis in (0, 1))  # [K, T]
    # What pins have in common passes. Where neighbours differ, as lips that part, it would take bells many times higher
    # than what is asked, which throw about all that lies beside them: those give way.
    strength = np.linalg.solve(nearness @ nearness + SOFT**2 * np.eye(len(at)), nearness @ bend)  # [K, 2]
    bent = np.einsum("ky,kx,kc->yxc", down, across, strength, optimize=True).astype(np.float32)
    places = np.stack(np.meshgrid(line, line), -1).astype(np.float32)
    return motion + sampled(bent, places + motion)


def sampled(motion: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Motion float32 [T, T, 2] at places [N, 2] or [h, w, 2]; float32 of that shape."""
    if places.size == 0:
        return np.empty(places.shape, np.float32)
    x, y = np.moveaxis(places * len(motion) - 0.5, -1, 0).astype(np.float32)
    found = cv2.remap(motion, np.atleast_2d(x), np.atleast_2d(y), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return found.reshape(places.shape)
