"""A head whose pose is known: it is found again, and turned by what was asked."""

import numpy as np
import pytest

from pipeline.pose import HEAD, Pose, fit_pose, turn_moves

FRONT = Pose(np.eye(3), np.array([0.3, -0.5, 100.0]))


def seen(pose: Pose) -> np.ndarray:
    """The generic face's landmarks [68, 2] in that pose, in eyes; those that it does not have are far away."""
    points = np.full((68, 2), 99.0)
    points[list(HEAD)] = pose.project(np.array(list(HEAD.values())))
    return points


@pytest.mark.parametrize(("axis", "degrees"), [("turn", 25), ("turn", -12), ("nod", 15), ("nod", -9), ("tilt", 8)])
def test_a_pose_is_found_again(axis, degrees: float) -> None:
    angles = fit_pose(seen(FRONT.turned(axis, degrees))).angles
    expected = {"turn": 0, "nod": 0, "tilt": 0} | {axis: degrees}
    assert angles == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize(("axis", "landmark", "way"), [
    ("turn", 30, (1, 0)),  # the nose's tip goes to the right of the picture,
    ("nod", 30, (0, 1)),  # down,
    ("tilt", 27, (1, 0)),  # and leaning clockwise takes the eyes to the right
])  # fmt: skip
def test_positive_goes_where_the_help_says(axis, landmark: int, way: tuple[int, int]) -> None:
    move = np.array(turn_moves(seen(FRONT), axis, 10)[landmark])
    assert move @ way > 0.9 * np.hypot(*move) > 0


def test_moves_lead_to_the_asked_pose() -> None:
    points = seen(FRONT.turned("turn", 6))
    for i, move in turn_moves(points, "turn", 10).items():
        points[i] += move
    assert fit_pose(points).angles["turn"] == pytest.approx(16, abs=0.05)


def test_a_nose_turns_by_what_geometry_says() -> None:
    # Weakly: the tip lies 12.4 - 6 cm before the axis, which is 1.016 eyes; times sin(10 degrees), 0.176; nearer to
    # the camera than its 100 cm by 12.4, so larger by 100 / 87.6 on the way.
    x, _ = turn_moves(seen(Pose(np.eye(3), np.array([0, 0, 100.0]))), "turn", 10)[30]
    assert x == pytest.approx(0.176 * 100 / 87.6, abs=0.01)


def test_real_faces_look_ahead(lisa_points: np.ndarray) -> None:
    middle, unit = lisa_points[36:48].mean(0), np.hypot(*(lisa_points[42:48].mean(0) - lisa_points[36:42].mean(0)))
    angles = fit_pose((lisa_points - middle) / unit).angles
    assert abs(angles["turn"]) < 6 and abs(angles["tilt"]) < 3 and abs(angles["nod"]) < 15
