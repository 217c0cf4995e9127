"""The pose of a head from its landmarks: a generic face in 3D is fitted to them, turned, and projected again.

The camera is a portrait's, a metre away. What a turn does to a landmark is the difference between two poses of the
generic face, in which its proportions, which are not the person's, all but cancel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

Axis = Literal["turn", "nod", "tilt"]

# Landmarks of a grown-up's face in cm: x to the right of the picture, y down from the eyes, and how far before the
# ears. x and y are the mean of 12 people as dlib sees them from the front, pupils 6.3 apart; the depths are from common
# anthropometric proportions. The left side; the right mirrors it.
_LEFT = {
    17: (-5.7, -1.2, 7.2), 19: (-3.7, -2.6, 9.0), 21: (-1.1, -2.0, 9.8), 36: (-4.3, 0.0, 7.6), 39: (-1.8, 0.1, 8.9),
    31: (-1.3, 4.1, 10.2), 48: (-2.4, 6.8, 9.6),
}  # fmt: skip
_MIDDLE = {
    27: (0, -0.4, 9.9), 30: (0, 2.9, 12.4), 33: (0, 4.4, 10.9), 51: (0, 6.0, 11.0), 57: (0, 7.7, 10.7),
    8: (0, 11.2, 10.0),
}  # fmt: skip
_RIGHT = {17: 26, 19: 24, 21: 22, 36: 45, 39: 42, 31: 35, 48: 54}
_ALL = _LEFT | _MIDDLE | {_RIGHT[i]: (-x, y, front) for i, (x, y, front) in _LEFT.items()}
HEAD = {i: np.array([x, y, -front]) for i, (x, y, front) in _ALL.items()}  # the camera looks along z
FITTED = [8, 27, 30, 31, 33, 35, 36, 39, 42, 45, 48, 54]  # brows and lips are left out: they move by themselves
DISTANCE = 100.0  # cm, from the camera to the face
PUPILS = 6.3  # cm to one eye, the unit of the landmarks

# What the head turns about, in cm as above, and the axis of a positive turn. The neck's own joint lies further
# back; but generators are trained on faces whose eyes are in one place, and follow a turn that leaves them near it.
AXES: dict[Axis, tuple[tuple[float, float, float], tuple[float, float, float]]] = {
    "turn": ((0, 4, -6), (0, -1, 0)),
    "nod": ((0, 4, -6), (1, 0, 0)),
    "tilt": ((0, 9, -4), (0, 0, 1)),
}


@dataclass(frozen=True)
class Pose:
    """A head before the camera: camera = rotation @ head + shift, in cm; the camera looks along its z."""

    rotation: np.ndarray  # float64 [3, 3]
    shift: np.ndarray  # float64 [3]

    @property
    def angles(self) -> dict[Axis, float]:
        """Degrees by which the face looks to the right of the picture, looks down, and leans clockwise."""
        x, y, z = -self.rotation[:, 2]
        across = self.rotation[:, 0]
        return {
            "turn": math.degrees(math.atan2(x, -z)),
            "nod": math.degrees(math.atan2(y, math.hypot(x, z))),
            "tilt": math.degrees(math.atan2(across[1], across[0])),
        }

    def turned(self, axis: Axis, degrees: float) -> Pose:
        """The head turned about its own axis."""
        pivot, direction = (np.array(v, np.float64) for v in AXES[axis])
        turn = cv2.Rodrigues(direction * math.radians(degrees))[0]
        return Pose(self.rotation @ turn, self.shift + self.rotation @ (pivot - turn @ pivot))

    def project(self, head: np.ndarray) -> np.ndarray:
        """Points of the head [N, 3] in cm -> points of the picture [N, 2] in eyes."""
        camera = head @ self.rotation.T + self.shift
        return camera[:, :2] / camera[:, 2:] * (DISTANCE / PUPILS)


def fit_pose(points: np.ndarray) -> Pose:
    """The pose in which the generic face is nearest to landmarks [68 or more, 2], all but upright and in eyes."""
    head = np.array([HEAD[i] for i in FITTED])
    focal = DISTANCE / PUPILS
    start = np.zeros((3, 1)), np.array([[0.0], [0.0], [DISTANCE]])
    _, turn, shift = cv2.solvePnP(head, points[FITTED], np.diag([focal, focal, 1.0]), None, *start, True)
    return Pose(cv2.Rodrigues(turn)[0], shift[:, 0])


def turn_moves(points: np.ndarray, axis: Axis, degrees: float) -> dict[int, tuple[float, float]]:
    """How the landmarks that the generic face has move when the head turns, in eyes."""
    head, pose = np.array(list(HEAD.values())), fit_pose(points)
    moves = pose.turned(axis, degrees).project(head) - pose.project(head)
    return {i: (float(x), float(y)) for i, (x, y) in zip(HEAD, moves, strict=True)}
