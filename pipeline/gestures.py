"""Gestures: edits with a name and a strength, said in the face's 68 landmarks instead of in points.

A gesture moves some landmarks and says what may move with them; several are summed, so a gesture's `moves` knows
only itself. Turns of the head come from a 3D pose: a generic face is fitted to the landmarks (solvePnP), rotated,
and projected again. Moves are in *eyes*: a quarter of the side of the face's FFHQ square, the distance between the
pupils of a face seen from the front; x to the right of the picture, y down, the face upright.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

import cv2
import numpy as np

from align import ffhq_quad
from drag import BadEdit
from pipeline.pose import Axis, Pose, fit_pose, turn_moves

Move = tuple[float, float]
Moves = Mapping[int, Move]  # of landmarks; from 68 on, of the hair's points

FRONTAL = 30.0  # degrees: dlib's far cheek is a guess beyond
LEAST_MOVE = 0.004  # eyes: half a pixel of a 512-pixel face; less is no move
OPPOSED = 0.01  # eyes: two moves smaller than this do not contradict each other
LIPS_MEET = 0.03  # eyes: a gap between the lips that is none
WELL_INSIDE = 1.9  # eyes from the middle of the face's square, whose edge is at 2
SKULL, BESIDE = range(68, 73), range(73, 77)  # the hair's points
LIDS = [(37, 41), (38, 40), (43, 47), (44, 46)]  # above, below
# Landmarks i and MIRROR[i] are each other's mirror image; those that are missing lie in the middle.
_PAIRS = [(i, 16 - i) for i in range(8)] + [(i, 43 - i) for i in range(17, 22)]
_PAIRS += [(31, 35), (32, 34), (48, 54), (49, 53), (50, 52), (59, 55), (58, 56)]
MIRROR = dict(_PAIRS)


class PhotoEdit(NamedTuple):
    """What a session's `drag` is asked for, in pixels of the photo."""

    handles: np.ndarray  # float64 [N, 2] (x, y)
    targets: np.ndarray  # float64 [N, 2]
    mask: np.ndarray | None  # bool [H, W], true where the photo may change


@dataclass(frozen=True)
class Region:
    """The hull of some landmarks and what lies up to `reach` eyes around it, but not the hull of those `held`."""

    landmarks: tuple[int, ...]
    reach: float
    held: tuple[int, ...] = ()


@dataclass(frozen=True)
class Gesture:
    """A named edit. `low` and `high` are as far as a face still looks like a face, by eye, on real photos."""

    help: str
    low: float
    high: float
    moves: Callable[[np.ndarray, float], Moves]  # points float64 [77, 2] in eyes, strength -> moves in eyes
    region: Region
    rigid: bool = False  # moves the head as a whole, so that it contradicts nothing

    @property
    def range(self) -> str:
        return f"{self.low:g} to {self.high:g}"


def ask(strengths: Mapping[str, float], points: np.ndarray, shape: tuple[int, int]) -> PhotoEdit:
    """What to drag for these gestures, for landmarks `points` [68, 2] of a photo of `shape` (H, W).

    Raises BadEdit, with what to change, for a name or strength that is not known, a face seen too much from the
    side, and gestures that ask one landmark to opposite places.
    """
    check(strengths)
    frame = _Frame.of(points)
    face = with_hair(frame.from_photo(points))
    yaw = abs(pose_of(points).angles["turn"])
    if yaw > FRONTAL:
        raise BadEdit(f"the face is turned by {yaw:.0f} degrees: gestures need one turned by {FRONTAL:g} at most")
    asked = {name: _seen(GESTURES[name].moves(face, strength)) for name, strength in strengths.items()}
    for name, moves in asked.items():
        if not moves:
            raise BadEdit(f"--{name} {strengths[name]:g} would move nothing in this face: leave it out")
    _refuse_contradictions(asked)
    total = _sum(asked.values())
    if not total:
        raise BadEdit(f"{' and '.join(strengths)} together would move nothing in this face: leave out one")
    at = sorted(total)
    targets = face[at] + np.array([total[i] for i in at])
    masks = [region_mask(points, GESTURES[name].region, shape) for name in strengths]
    return PhotoEdit(frame.to_photo(face[at]), frame.to_photo(targets), np.logical_or.reduce(masks))


def check(strengths: Mapping[str, float]) -> None:
    """Raises BadEdit unless every gesture is known and its strength within its range."""
    for name, strength in strengths.items():
        if name not in GESTURES:
            raise BadEdit(f'there is no gesture "{name}": it is one of {", ".join(GESTURES)}')
        gesture = GESTURES[name]
        if not gesture.low <= strength <= gesture.high or strength == 0:
            raise BadEdit(f"--{name} {strength:g} is out of range: it goes from {gesture.range}, and 0 is no gesture")


def with_hair(face: np.ndarray) -> np.ndarray:
    """The 68 points, and nine more where hair usually is, [77, 2]: five round the skull, four beside the jaw."""
    left, right, chin = face[0], face[16], face[8]
    across, down = (right - left) / 2, chin - (left + right) / 2
    middle = (left + right) / 2
    angles = np.radians([200, 235, 270, 305, 340])
    skull = middle + 1.12 * np.outer(np.cos(angles), across) + 1.12 * np.outer(np.sin(angles), down)
    beside = [middle + side * across + low * down for side in (-1.15, 1.15) for low in (0.55, 0.95)]
    return np.vstack([face, skull, beside])


def _seen(moves: Moves) -> Moves:
    """Those moves that are large enough to be seen."""
    return {i: move for i, move in moves.items() if math.hypot(*move) >= LEAST_MOVE}


def _sum(many: Iterable[Moves]) -> Moves:
    """The moves added up; what adds up to nothing is left out."""
    total: dict[int, Move] = {}
    for moves in many:
        for i, (x, y) in moves.items():
            before = total.get(i, (0.0, 0.0))
            total[i] = (before[0] + x, before[1] + y)
    return _seen(total)


def _refuse_contradictions(asked: Mapping[str, Moves]) -> None:
    """Raises BadEdit where two gestures pull one landmark to opposite sides."""
    for (first, a), (second, b) in combinations(asked.items(), 2):
        if GESTURES[first].rigid or GESTURES[second].rigid:
            continue
        for i in sorted(a.keys() & b.keys()):
            if _opposed(a[i], b[i]):
                raise BadEdit(f"{first} and {second} pull landmark {i} to opposite sides: leave out one")


def _opposed(a: Move, b: Move) -> bool:
    """Whether two moves go more against than beside each other, and both are large enough to matter."""
    lengths = math.hypot(*a), math.hypot(*b)
    return min(lengths) >= OPPOSED and a[0] * b[0] + a[1] * b[1] < -0.5 * lengths[0] * lengths[1]


def pose_of(points: np.ndarray, like: np.ndarray | None = None) -> Pose:
    """The head's pose from its landmarks [68, 2]; `like`: those by which the face is called upright."""
    return fit_pose(_Frame.of(points if like is None else like).from_photo(points))


def region_mask(points: np.ndarray, region: Region, shape: tuple[int, int]) -> np.ndarray:
    """A region of a face with landmarks `points` [68, 2] as a mask bool [H, W] of the photo."""
    mask = np.zeros(shape, np.uint8)
    hull = _hull(points, region.landmarks)
    cv2.fillConvexPoly(mask, hull, (1,))
    cv2.polylines(mask, [hull], True, (1,), max(1, round(2 * region.reach * abs(_Frame.of(points).unit))))
    if region.held:
        cv2.fillConvexPoly(mask, _hull(points, region.held), (0,))
    return mask > 0


def _hull(points: np.ndarray, landmarks: tuple[int, ...]) -> np.ndarray:
    return cv2.convexHull(np.rint(points[list(landmarks)]).astype(np.int32))


@dataclass(frozen=True)
class _Frame:
    """The face upright and of one size: photo = origin + unit * face, in complex numbers."""

    origin: complex
    unit: complex

    @classmethod
    def of(cls, points: np.ndarray) -> _Frame:
        quad = _complex(ffhq_quad(points))
        return cls(complex(quad.mean()), complex(quad[3] - quad[0]) / 4)

    def from_photo(self, points: np.ndarray) -> np.ndarray:
        return _real((_complex(points) - self.origin) / self.unit)

    def to_photo(self, points: np.ndarray) -> np.ndarray:
        return _real(_complex(points) * self.unit + self.origin)


def _complex(points: np.ndarray) -> np.ndarray:
    return points[..., 0] + 1j * points[..., 1]


def _real(points: np.ndarray) -> np.ndarray:
    return np.stack([points.real, points.imag], -1)


# --- the gestures ------------------------------------------------------------------------------------------


def _both(left: Moves, strength: float) -> dict[int, Move]:
    """Moves of the picture's left side, and their mirror image on the right, times a strength."""
    scaled = {i: (x * strength, y * strength) for i, (x, y) in left.items()}
    return scaled | {MIRROR[i]: (-x, y) for i, (x, y) in scaled.items() if i in MIRROR}


def _smile(face: np.ndarray, strength: float) -> Moves:
    """At 1 the corners go as in twice the mean smile of the eight people of the Face Research Lab London Set, the lips
    beside them by half of that, and they get thinner, or a mouth that is closed would swell; below 0 corners sink."""
    if strength > 0:
        mouth = {48: (-0.12, -0.12), 49: (-0.06, -0.045), 59: (-0.06, -0.06), 50: (-0.02, 0.0), 58: (-0.03, -0.02)}
        return _both(mouth | {51: (0.0, 0.02), 57: (0.0, -0.02)}, strength)
    return _both({48: (0.02, 0.09), 59: (0.015, 0.045)}, -strength)


def _open_mouth(face: np.ndarray, strength: float) -> Moves:
    """Above 0 the jaw drops; below 0 so much of the gap between the lips closes."""
    gap = float(face[66, 1] - face[62, 1])
    if strength < 0 and gap < LIPS_MEET:
        return {}
    down = 0.2 * strength if strength > 0 else 0.75 * gap * strength
    jaw = {57: 1.0, 58: 0.95, 59: 0.65, 8: 0.85, 7: 0.8, 6: 0.6}
    upper = -0.03 * strength if strength > 0 else -0.25 * gap * strength  # or the whole mouth would go down
    return _both({i: (0.0, down * share) for i, share in jaw.items()} | dict.fromkeys((50, 51), (0.0, upper)), 1)


def _close_eyes(face: np.ndarray, strength: float) -> Moves:
    """The upper lids come down so much of the way to the lower; below 0 they rise by a third of that."""
    way = 0.9 * strength if strength > 0 else 0.3 * strength
    return {above: (0.0, way * float(face[below, 1] - face[above, 1])) for above, below in LIDS}


def _raise_brows(face: np.ndarray, strength: float) -> Moves:
    return _both({i: (0.0, -0.1 * share) for i, share in {17: 0.5, 18: 0.8, 19: 1, 20: 1, 21: 0.9}.items()}, strength)


def _bigger_eyes(face: np.ndarray, strength: float) -> Moves:
    """Each eye grows about its middle, by an eighth at 1, and opens by twice that; by twice as much it is a doll's."""
    moves: dict[int, Move] = {}
    for eye in (range(36, 42), range(42, 48)):
        away = (face[eye] - face[eye].mean(0)) * (0.125 * strength, 0.25 * strength)
        moves |= {i: (float(x), float(y)) for i, (x, y) in zip(eye, away, strict=True)}
    return moves


def _slim_face(face: np.ndarray, strength: float) -> Moves:
    return _both({i: (0.08 * share, 0.0) for i, share in {2: 0.5, 3: 0.8, 4: 1, 5: 1, 6: 0.7}.items()}, strength)


def _nose_width(face: np.ndarray, strength: float) -> Moves:
    return _both({31: (-0.05, 0.0), 32: (-0.025, 0.0)}, strength)


def _hair_volume(face: np.ndarray, strength: float) -> Moves:
    """The hair's points move away from the middle of the head."""
    away = face[SKULL] - face[27]
    away *= 0.12 * strength / np.hypot(away[:, 0], away[:, 1])[:, None]
    return _inside(face, {i: (float(x), float(y)) for i, (x, y) in zip(SKULL, away, strict=True)})


def _hair_length(face: np.ndarray, strength: float) -> Moves:
    return _inside(face, dict.fromkeys(BESIDE, (0.0, 0.2 * strength)))


def _inside(face: np.ndarray, moves: Moves) -> Moves:
    """Those moves that begin and end well inside the face's square, which is four eyes wide."""
    return {i: move for i, move in moves.items() if np.abs([face[i], face[i] + move]).max() < WELL_INSIDE}


def _turning(axis: Axis) -> Callable[[np.ndarray, float], Moves]:
    return lambda face, degrees: turn_moves(face, axis, degrees)


_MOUTH = Region((*range(2, 15), 31, 35, 40, 47), 0.25)
_JAW = Region(_MOUTH.landmarks, 0.5)
_EYES = Region(tuple(range(36, 48)), 0.15)
_FOREHEAD = Region((*range(17, 28), *range(36, 48)), 0.5)
_NOSE = Region(tuple(range(27, 36)), 0.3)
_OUTLINE = Region(tuple(range(17)), 0.4, held=tuple(range(27, 60)))
_HEAD = Region(tuple(range(27)), 1.5)
_HAIR = Region(_HEAD.landmarks, _HEAD.reach, held=tuple(range(27)))

GESTURES: dict[str, Gesture] = {
    "smile": Gesture("The corners of the mouth out and up; below 0 down.", -1, 1, _smile, _MOUTH),
    "open-mouth": Gesture("The jaw drops; below 0 an open mouth closes.", -1, 0.6, _open_mouth, _JAW),
    "close-eyes": Gesture("The upper lids come down; below 0 they rise.", -1, 0.6, _close_eyes, _EYES),
    "raise-brows": Gesture("The brows rise; below 0 they sink.", -1, 1, _raise_brows, _FOREHEAD),
    "turn": Gesture(
        "Degrees to the right of the picture; below 0 to the left.", -12, 12, _turning("turn"), _HEAD, True
    ),
    "nod": Gesture("Degrees downwards; below 0 up.", -8, 8, _turning("nod"), _HEAD, True),
    "tilt": Gesture("Degrees clockwise; below 0 counter-clockwise.", -5, 5, _turning("tilt"), _HEAD, True),
    "slim-face": Gesture("Cheeks and jaw in; below 0 out.", -1, 1, _slim_face, _OUTLINE),
    "bigger-eyes": Gesture("The eyes grow; below 0 they shrink.", -1, 1, _bigger_eyes, _EYES),
    "nose-width": Gesture("The nose widens; below 0 it narrows.", -1, 1, _nose_width, _NOSE),
    "hair-volume": Gesture("Hair out from the head; below 0 closer.", -1, 1, _hair_volume, _HAIR),
    "hair-length": Gesture("Hair beside the jaw down; below 0 up.", -0.5, 0.5, _hair_length, _HAIR),
}
