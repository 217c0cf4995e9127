"""Faces and points on real photos: where they are, that they move with the photo, what is said of none."""

from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from align import landmarks
from align.landmarks import (
    Face,
    FaceIndexError,
    NoFaceFound,
    choose_face,
    draw_faces,
    face_descriptor,
    find_faces,
)

DATA = Path(__file__).parent / "data"


@cache
def picture(name: str) -> np.ndarray:
    return np.array(Image.open(DATA / name))


@cache
def only_face(name: str) -> Face:
    (face,) = find_faces(picture(name))
    return face


def eyes(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return points[36:42].mean(0), points[42:48].mean(0)


def eye_distance(points: np.ndarray) -> float:
    left, right = eyes(points)
    return float(np.linalg.norm(right - left))


def deviation(points: np.ndarray, truth: np.ndarray) -> float:
    """Mean distance, in eye distances."""
    return float(np.linalg.norm(points - truth, axis=1).mean()) / eye_distance(truth)


def scaled(pixels: np.ndarray, scale: float) -> np.ndarray:
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=how)


# The pupils, read off the photos by eye to some 4 px: first the one on the left of the picture, (x, y).
PUPILS = {
    "lisa1.jpg": ((219, 354), (381, 354)),
    "lisa2.jpg": ((245, 390), (332, 390)),
    "lisa3.jpg": ((249, 340), (371, 297)),
    "lisa4.jpg": ((189, 278), (331, 284)),
}


@pytest.mark.parametrize("name", PUPILS)
def test_eyes_are_where_they_are_seen(name):
    face = only_face(name)
    for found, seen in zip(eyes(face.points), PUPILS[name], strict=True):
        assert np.linalg.norm(found - seen) < 0.07 * eye_distance(face.points)


@pytest.mark.parametrize("name", PUPILS)
def test_points_are_in_the_order_of_ibug(name):
    points = only_face(name).points
    assert points.shape == (68, 2) and points.dtype == np.float64
    left, right = eyes(points)
    nose, mouth, chin = points[30], points[48:].mean(0), points[8]
    assert left[0] < nose[0] < right[0] and points[0, 0] < left[0] and right[0] < points[16, 0]
    assert max(left[1], right[1]) < nose[1] < mouth[1] < chin[1]
    assert only_face(name).detector == "hog"


@pytest.mark.parametrize(("width", "degrees"), [(900, 0), (700, 30), (301.5, -90), (120, 15)])
def test_the_map_goes_where_the_picture_goes(monkeypatch, width, degrees):
    """A soft dot in the photo, and its middle in the picture that the trees are shown."""
    monkeypatch.setattr(landmarks, "DARK", 0)  # would cut the dot's top off
    y, x = np.mgrid[:1400, :1500]
    dot = np.array([660.3, 744.8])
    spread = width / 40
    photo = 255 * np.exp(-((x - dot[0]) ** 2 + (y - dot[1]) ** 2) / (2 * spread**2))
    photo = np.repeat(np.rint(photo).astype(np.uint8)[..., None], 3, axis=2)
    place = landmarks._Place(dot + 0.2 * width, width, np.radians(degrees))
    view = landmarks._square(photo, place, 600)
    light = view.pixels[..., 0].astype(np.float64)
    j, i = np.mgrid[:600, :600]
    middle = np.array([(i * light).sum(), (j * light).sum()]) / light.sum()
    assert np.abs(middle - view.from_photo(dot[None])[0]).max() < 0.05
    assert np.allclose(view.to_photo(view.from_photo(dot[None])), dot)


@pytest.mark.parametrize("scale", [0.3, 0.55, 1.6])
@pytest.mark.parametrize("name", ["lisa1.jpg", "lisa4.jpg"])
def test_points_scale_with_the_photo(name, scale):
    small = scaled(picture(name), scale)
    s = np.array(small.shape[1::-1]) / picture(name).shape[1::-1]
    (face,) = find_faces(small)
    assert deviation((face.points + 0.5) / s - 0.5, only_face(name).points) < 0.01


@pytest.mark.parametrize("degrees", [-25, 15])
def test_points_turn_with_the_photo(degrees):
    image = picture("lisa4.jpg")
    turn = cv2.getRotationMatrix2D((300, 400), degrees, 1)
    turned = cv2.warpAffine(image, turn, (600, 800), borderMode=cv2.BORDER_REPLICATE)
    (face,) = find_faces(turned)
    assert deviation(face.points, only_face("lisa4.jpg").points @ turn[:, :2].T + turn[:, 2]) < 0.01


def test_a_photo_lying_on_its_side_is_understood():
    """HOG sees nothing there, the CNN does; the points come from the turn at which the trees agree."""
    image = np.rot90(scaled(picture("lisa4.jpg"), 0.3))  # x' = y, y' = width - 1 - x
    truth = (only_face("lisa4.jpg").points + 0.5) * 0.3 - 0.5
    truth = np.stack([truth[:, 1], image.shape[0] - 1 - truth[:, 0]], axis=1)
    (face,) = find_faces(image)
    assert face.detector == "cnn"
    assert deviation(face.points, truth) < 0.02


def test_a_dark_photo_is_understood():
    dark = (scaled(picture("lisa4.jpg"), 0.5) * 0.12).astype(np.uint8)
    (face,) = find_faces(dark)
    assert deviation((face.points + 0.5) * 2 - 0.5, only_face("lisa4.jpg").points) < 0.03


def test_a_small_face_in_a_large_photo():
    large = np.full((3000, 4000, 3), 120, np.uint8)
    small = scaled(picture("lisa4.jpg"), 0.35)  # the face is 110 px wide: 44 where HOG looks
    large[1000 : 1000 + small.shape[0], 2000 : 2000 + small.shape[1]] = small
    (face,) = find_faces(large)
    truth = (only_face("lisa4.jpg").points + 0.5) * 0.35 - 0.5 + (2000, 1000)
    assert deviation(face.points, truth) < 0.015


def test_a_face_partly_outside_the_photo():
    (face,) = find_faces(picture("lisa1.jpg")[:, 190:])  # cut through the jaw and close to the eye
    assert face.box[0] < 0
    assert np.abs(eyes(face.points)[1] + (190, 0) - PUPILS["lisa1.jpg"][1]).max() < 12
    assert face_descriptor(picture("lisa1.jpg")[:, 190:], face).shape == (128,)


def test_a_sleeve_is_no_face():
    (face,) = find_faces(picture("astronaut.jpg"))
    assert 96 <= face.box[0] < 100 and face.score > 1


def test_two_faces_are_numbered_from_left_to_right():
    small, large = scaled(picture("lisa2.jpg"), 0.5), scaled(picture("lisa1.jpg"), 0.5)
    for order, largest in (((small, large), 2), ((large, small), 1)):
        faces = find_faces(np.hstack(order))
        assert len(faces) == 2 and faces[0].box[0] < 300 < faces[1].box[0]
        assert choose_face(faces) is choose_face(faces, "largest") is faces[largest - 1]
        assert choose_face(faces, 1) is choose_face(faces, "1") is faces[0]
        assert choose_face(faces, 2) is faces[1]


@pytest.mark.parametrize("which", [0, 3, -1, "3", "left", ""])
def test_a_face_that_is_not_there(which):
    faces = [only_face("lisa1.jpg"), only_face("lisa2.jpg")]
    with pytest.raises(FaceIndexError, match=r"of 2: `photodrag faces photo.jpg` numbers|a number from 1 to 2"):
        choose_face(faces, which)


@pytest.mark.parametrize("kind", ["blank", "noise", "one pixel", "strip"])
def test_no_face(kind):
    pixels = np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8)
    pixels = {
        "blank": np.zeros_like(pixels),
        "noise": pixels,
        "one pixel": pixels[:1, :1],
        "strip": pixels[:5],
    }[kind]
    with pytest.raises(NoFaceFound, match="no face found: take a photo"):
        find_faces(pixels)


def test_the_photo_is_not_changed():
    pixels = scaled(picture("lisa2.jpg"), 0.5)
    before = pixels.copy()
    drawn = draw_faces(pixels, find_faces(pixels))
    assert np.array_equal(pixels, before) and drawn.shape == before.shape


@pytest.mark.parametrize("scale", [0.2, 1, 4])
def test_what_is_drawn_is_there(scale):
    pixels = scaled(picture("lisa2.jpg"), scale)
    face = only_face("lisa2.jpg")
    face = Face(tuple(v * scale for v in face.box), (face.points + 0.5) * scale - 0.5, face.score, face.detector)
    drawn = draw_faces(pixels, [face])
    changed = (drawn != pixels).any(2)
    x, y = np.rint(face.points).astype(int).T
    assert changed[y, x].all()
    assert 0.002 < changed.mean() < 0.15


def test_one_person_is_nearer_than_another():
    lisa = [face_descriptor(picture(name), only_face(name)) for name in ("lisa1.jpg", "lisa2.jpg")]
    other = face_descriptor(picture("astronaut.jpg"), only_face("astronaut.jpg"))
    assert lisa[0].shape == (128,) and lisa[0].dtype == np.float64
    assert np.linalg.norm(lisa[0] - lisa[1]) < 0.4
    assert np.linalg.norm(lisa[0] - other) > 0.6
