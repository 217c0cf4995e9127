"""Gestures: where landmarks are asked to go, what may move with them, and what is refused."""

import numpy as np
import pytest

from align import ffhq_quad
from drag import FEW, BadEdit
from pipeline.gestures import GESTURES, PhotoEdit, ask

SHAPE = (800, 600)


def moves(edit: PhotoEdit, points: np.ndarray) -> dict[int, np.ndarray]:
    """How each landmark is asked to move, in pixels."""
    nearest = [int(np.argmin(np.hypot(*(points - handle).T))) for handle in edit.handles]
    assert np.allclose(points[nearest], edit.handles)
    return dict(zip(nearest, edit.targets - edit.handles, strict=True))


def eye(points: np.ndarray) -> float:
    quad = ffhq_quad(points)
    return float(np.hypot(*(quad[3] - quad[0]))) / 4


def test_a_smile_takes_the_corners_out_and_up(lisa_points: np.ndarray) -> None:
    asked = moves(ask({"smile": 0.5}, lisa_points, SHAPE), lisa_points)
    # 0.12 eyes at strength 1, both out and up; lisa1 is upright to half a degree
    assert asked[48] == pytest.approx(np.array([-0.06, -0.06]) * eye(lisa_points), abs=1)
    assert asked[54] == pytest.approx(np.array([0.06, -0.06]) * eye(lisa_points), abs=1)
    upper, lower = asked[51], asked[57]  # nearer to each other, or lips would swell
    assert upper[1] == pytest.approx(0.01 * eye(lisa_points), abs=0.1) and lower == pytest.approx(-upper)


@pytest.mark.parametrize("strength", [0.1, 0.3, 1])
def test_a_smile_has_so_many_points_that_one_badly_seen_does_not_stop_it(
    strength: float, lisa_points: np.ndarray
) -> None:
    assert len(ask({"smile": strength}, lisa_points, SHAPE).handles) > FEW


@pytest.mark.parametrize("name", GESTURES)
def test_a_gesture_moves_in_proportion_and_within_its_mask(name: str, lisa_points: np.ndarray) -> None:
    for end in (GESTURES[name].low, GESTURES[name].high):
        if (name, end) == ("open-mouth", -1):
            continue  # lisa's mouth is closed
        half, whole = (ask({name: s}, lisa_points, SHAPE) for s in (end / 2, end))
        assert np.allclose(half.handles, whole.handles)
        ways = whole.targets - whole.handles
        # A turn goes along an arc, hence not quite twice as far.
        assert np.allclose(2 * (half.targets - half.handles), ways, rtol=0.1, atol=0.15 * np.abs(ways).max())
        at, to = (np.rint(p).astype(int) for p in (whole.handles, whole.targets))
        assert whole.mask.shape == SHAPE and not whole.mask.all()
        assert whole.mask[at[:, 1], at[:, 0]].all() and whole.mask[to[:, 1], to[:, 0]].all()


def test_masks_leave_the_rest_of_the_face_alone(lisa_points: np.ndarray) -> None:
    x, y = np.rint(lisa_points).astype(int).T
    smile = ask({"smile": 0.5}, lisa_points, SHAPE).mask[y, x]
    assert smile[48:68].all() and not smile[17:27].any()
    for name in ("hair-volume", "hair-length"):  # or jaws widen with the hair
        hair = ask({name: 0.5}, lisa_points, SHAPE).mask[y, x]
        assert not hair[:68].any()
    eyes = ask({"close-eyes": 0.5}, lisa_points, SHAPE).mask[y, x]
    assert eyes[36:48].all() and not eyes[17:27].any() and not eyes[48:68].any()


def test_gestures_turn_and_grow_with_the_face(lisa_points: np.ndarray) -> None:
    angle, scale = np.radians(30), 1.5
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    strengths = {"smile": 0.7, "turn": 8.0}
    straight = ask(strengths, lisa_points, SHAPE)
    turned = ask(strengths, lisa_points @ turn.T + [500, 100], (1600, 1600))
    assert np.allclose(turned.handles, straight.handles @ turn.T + [500, 100])
    assert np.allclose(turned.targets, straight.targets @ turn.T + [500, 100], atol=0.01)


def test_several_add_up_and_so_do_their_masks(lisa_points: np.ndarray) -> None:
    smile, brows, both = (
        ask(strengths, lisa_points, SHAPE)
        for strengths in ({"smile": 0.6}, {"raise-brows": 0.5}, {"smile": 0.6, "raise-brows": 0.5})
    )
    expected = moves(smile, lisa_points) | moves(brows, lisa_points)
    asked = moves(both, lisa_points)
    assert asked.keys() == expected.keys() and all(np.allclose(asked[i], expected[i]) for i in asked)
    assert np.array_equal(both.mask, smile.mask | brows.mask)
    turn = moves(ask({"turn": 9}, lisa_points, SHAPE), lisa_points)
    turned_smile = moves(ask({"turn": 9, "smile": 0.6}, lisa_points, SHAPE), lisa_points)
    assert np.allclose(turned_smile[48], turn[48] + expected[48])


def test_an_open_mouth_closes_and_a_closed_one_cannot(lisa_points: np.ndarray) -> None:
    with pytest.raises(BadEdit, match=r"open-mouth -0\.5 would move nothing"):
        ask({"open-mouth": -0.5}, lisa_points, SHAPE)
    opened = lisa_points.copy()
    opened[[65, 66, 67, 55, 56, 57, 58, 59, 6, 7, 8, 9, 10], 1] += 20
    asked = moves(ask({"open-mouth": -1}, opened, SHAPE), opened)
    gap = opened[66, 1] - opened[62, 1]
    assert asked[57][1] - asked[51][1] == pytest.approx(-gap, abs=1)  # the lips meet


@pytest.mark.parametrize(
    ("strengths", "message"),
    [
        ({"smile": 1.5}, r"--smile 1.5 is out of range: it goes from -1 to 1"),
        ({"turn": -45}, r"--turn -45 is out of range: it goes from "),
        ({"smile": 0}, "0 is no gesture"),
        ({"smile": 0.01}, "smile 0.01 would move nothing"),
        ({"nod": float("nan")}, "out of range"),
        ({"frown": 1}, 'no gesture "frown": it is one of smile, open-mouth'),
        ({"close-eyes": 0.6, "bigger-eyes": 0.8}, r"close-eyes and bigger-eyes pull landmark \d+ to opposite sides"),
    ],
)
def test_what_cannot_be_done_is_refused(strengths, message: str, lisa_points: np.ndarray) -> None:
    with pytest.raises(BadEdit, match=message):
        ask(strengths, lisa_points, SHAPE)


def test_a_face_from_the_side_is_refused(lisa_points: np.ndarray) -> None:
    turned = lisa_points.copy()
    for degrees in (12, 12, 12):
        for i, way in moves(ask({"turn": degrees}, turned, SHAPE), turned).items():
            turned[i] += way
    with pytest.raises(BadEdit, match=r"turned by 4\d degrees: gestures need one turned by 30 at most"):
        ask({"smile": 0.5}, turned, SHAPE)


def test_two_words_about_one_landmark_are_one_handle(lisa_points: np.ndarray) -> None:
    edit = ask({"turn": 8, "nod": 5, "tilt": 3}, lisa_points, SHAPE)
    assert len(edit.handles) == len(np.unique(edit.handles, axis=0))
    assert isinstance(edit, PhotoEdit)
