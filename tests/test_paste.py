"""The paste: nothing where nothing changed, motion where something moved, and never beyond the crop or the mask."""

import cv2
import numpy as np
import pytest

from align import AlignedFace, ffhq_quad, find_change, paste


@pytest.fixture(scope="module")
def face(lisa, lisa_points) -> AlignedFace:
    return AlignedFace.crop(lisa, ffhq_quad(lisa_points), 128)


def moved(pixels: np.ndarray, x: int, y: int, by: float, radius: int = 14) -> np.ndarray:
    """The picture with what is around (x, y) pushed `by` pixels to the right, smoothly."""
    rows, columns = np.indices(pixels.shape[:2], dtype=np.float32)
    weight = np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * radius**2))
    return cv2.remap(pixels, columns - by * weight, rows, cv2.INTER_LINEAR)


def test_unchanged_drawing_gives_the_photo_back(lisa, face) -> None:
    assert np.array_equal(paste(lisa, face, face.pixels, face.pixels), lisa)


def test_a_local_change_leaves_the_rest_byte_for_byte(lisa, face) -> None:
    result = paste(lisa, face, face.pixels, moved(face.pixels, 60, 95, 4))
    differs = (result != lisa).any(2)
    y, x = np.nonzero(differs)
    centre = face.to_photo([[60, 95]])[0]
    assert differs.sum() > 500
    assert np.hypot(x - centre[0], y - centre[1]).max() < 60 * face.scale  # 4 sigma of the push


def test_outside_the_crop_nothing_changes(lisa) -> None:
    quad = np.array([[200.0, 300], [200, 500], [400, 500], [400, 300]])
    face = AlignedFace.crop(lisa, quad, 128)
    result = paste(lisa, face, face.pixels, 255 - face.pixels)
    changed = (result != lisa).any(2)
    assert changed[310:490, 210:390].mean() > 0.5
    changed[300:501, 200:401] = False
    assert not changed.any()


def test_the_photos_own_pixels_move(lisa, face) -> None:
    """A push drawn at 128 px shows up in the photo as the photo's own pixels, pushed: sharper than the drawing."""
    after = moved(face.pixels, 60, 95, 4)
    result = paste(lisa, face, face.pixels, after)
    change = find_change(face.pixels.astype(np.float32), after.astype(np.float32))
    at = 95 * 4, 60 * 4  # the flow's size is 512
    assert change.motion[at][0] * 128 == pytest.approx(-4, abs=1)  # it came from the left
    x, y = np.rint(face.to_photo([[60, 95]])[0]).astype(int)
    there = np.s_[y - 25 : y + 25, x - 40 : x + 40]

    def sharpness(photo: np.ndarray) -> float:
        return float(cv2.Laplacian(cv2.cvtColor(photo[there], cv2.COLOR_RGB2GRAY), cv2.CV_32F).std())

    blurred = cv2.resize(cv2.resize(lisa, None, fx=1 / face.scale, fy=1 / face.scale), lisa.shape[1::-1])
    assert sharpness(result) > 0.6 * sharpness(lisa) > sharpness(blurred)


def test_a_mask_is_never_left(lisa, face) -> None:
    mask = np.zeros(lisa.shape[:2], bool)
    mask[480:620, 200:400] = True
    result = paste(lisa, face, face.pixels, moved(face.pixels, 60, 95, 6, radius=30), mask)
    changed = (result != lisa).any(2)
    assert changed[mask].sum() > 500
    assert not changed[~mask].any()


def test_a_tilted_crop_is_pasted_where_it_came_from(lisa) -> None:
    """What is drawn in a turned crop lands where the similarity says."""
    x = 120 * np.array([np.cos(0.4), np.sin(0.4)])
    y, middle = np.array([-x[1], x[0]]), np.array([300.0, 420.0])
    face = AlignedFace.crop(lisa, np.stack([middle - x - y, middle - x + y, middle + x + y, middle + x - y]), 128)
    after = face.pixels.copy()
    after[80:100, 30:50] = (255, 0, 0)
    result = paste(lisa, face, face.pixels, after)
    redder = (result.astype(float) - lisa)[..., 0] - (result.astype(float) - lisa)[..., 1] > 80
    rows, columns = np.nonzero(redder)
    np.testing.assert_allclose((columns.mean(), rows.mean()), face.to_photo([[39.5, 89.5]])[0], atol=1.5)
    assert redder.sum() == pytest.approx((20 * face.scale) ** 2, rel=0.25)  # a square of 20 of the crop's pixels


def test_a_face_smaller_than_the_drawing_is_not_aliased() -> None:
    """Fine stripes in the middle of the drawing average out in a photo where the face is an eighth of its size."""
    quad = np.array([[300.0, 400], [300, 432], [332, 432], [332, 400]])
    face = AlignedFace(np.full((256, 256, 3), 128, np.uint8), quad)
    stripes = np.full((256, 256, 3), 100.0, np.float32)
    stripes[96:160, 96:160:2] = 200  # 64 x 64 of 256: 8 x 8 pixels of the photo
    photo = np.full((800, 600, 3), 100, np.uint8)
    result = paste(photo, face, np.full((256, 256, 3), 100.0, np.float32), stripes)
    inside = result[414:418, 314:318].astype(float)
    # Half of 100 more on average, less what counts as a broad drift.
    assert inside.std() < 6 and 120 < inside.mean() < 150


def test_a_broad_drift_of_colour_is_not_shown(lisa, face) -> None:
    """A generator whose picture gets redder all over has not been asked to. (The flow may see some motion in it.)"""
    drift = np.array([12, -8, 5], np.float32)
    result = paste(lisa, face, face.pixels, face.pixels + drift)
    assert (result == lisa).all(2).mean() > 0.95
    assert np.abs(result.mean((0, 1)) - lisa.mean((0, 1))).max() < 0.1


def test_colour_without_light_is_drift_but_what_is_new_keeps_its_colour(face) -> None:
    before = np.full((128, 128, 3), (150.0, 110.0, 100.0), np.float32)
    purple, tooth = before.copy(), before.copy()
    # Luma 0.299 * 10 + 0.587 * -10 + 0.114 * 25 = 0: nothing but colour.
    purple[60:70, 55:75] += (10, -10, 25)
    tooth[60:70, 55:75] = (235, 225, 215)
    middle = 65 * 4, 65 * 4  # the flow's size is 512
    assert np.abs(find_change(before, purple).added[middle]).max() < 2
    kept = find_change(before, tooth).added[middle] / (85, 115, 115)
    assert kept.min() > 0.8 and np.ptp(kept) < 0.01  # a little of it goes as broad drift, of all colours alike
