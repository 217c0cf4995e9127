"""The paste: nothing where nothing changed, motion where something moved, and never beyond the crop or the mask."""

import tracemalloc

import cv2
import numpy as np
import pytest

from align import AlignedFace, PasteConfig, ffhq_quad, find_change, lay_over, paste


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
    change = find_change(*[face.pixels.astype(np.float32)] * 2, after.astype(np.float32))
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
    assert np.abs(find_change(before, before, purple).added[middle]).max() < 2
    kept = find_change(before, before, tooth).added[middle] / (85, 115, 115)
    assert kept.min() > 0.8 and np.ptp(kept) < 0.01  # a little of it goes as broad drift, of all colours alike


def test_a_difference_within_the_generators_own_error_is_not_shown(face) -> None:
    """A spot 20 brighter counts where the generator drew the photo well, not where it was 10 off all around."""
    drawn = np.full((128, 128, 3), 120.0, np.float32)
    after = drawn.copy()
    after[60:70, 55:75] += 20
    grain = np.where(np.indices((128, 128)).sum(0) % 8 < 4, 14, -14)[..., None].astype(np.float32)
    middle = 65 * 4, 65 * 4  # the flow's size is 512
    assert find_change(drawn, drawn, after).added[middle].min() > 15
    assert find_change(drawn + grain, drawn, after).added[middle].max() < 1
    assert find_change(drawn + grain, drawn, after, "motion").added[middle].min() > 15


def flat_photo_with_a_line() -> tuple[np.ndarray, AlignedFace]:
    """A photo of 140 with a line of one dark pixel row through the middle of a face that is 4 times the crop."""
    photo = np.full((600, 600, 3), 140, np.uint8)
    photo[300] = 40
    return photo, AlignedFace.crop(photo, np.array([[44.0, 44], [44, 556], [556, 556], [556, 44]]), 128)


def test_what_each_mode_does_with_a_new_spot() -> None:
    photo, face = flat_photo_with_a_line()
    before = np.full((128, 128, 3), 100.0, np.float32)  # the generator is 40 darker than the photo, and has no line
    after = before.copy()
    after[54:74, 54:74] += 60
    results = {
        mode: paste(photo, face, before, after, config=PasteConfig(mode)).astype(int)
        for mode in ("difference", "crop", "motion")
    }
    spot, line = (320, 300), (300, 300)
    # 60 more, less the broad part of it; the drawing takes the photo's level, so all modes agree on the spot.
    assert all(180 < result[spot][0] <= 200 for result in results.values())
    assert results["difference"][spot][0] - 140 == pytest.approx(results["difference"][line][0] - 40, abs=4)
    assert results["crop"][line][0] > 170  # the photo's line is gone: the drawing had none


@pytest.mark.parametrize("mode", ["auto", "motion", "difference", "crop"])
def test_every_mode_leaves_the_rest_and_fits_in(lisa, face, mode) -> None:
    after = moved(face.pixels, 60, 95, 4)
    assert np.array_equal(paste(lisa, face, face.pixels, face.pixels, config=PasteConfig(mode)), lisa)
    result = paste(lisa, face, face.pixels, after, config=PasteConfig(mode))
    differs = (result != lisa).any(2)
    y, x = np.nonzero(differs)
    assert differs.sum() > 500
    assert np.hypot(*(np.stack([x, y], 1) - face.to_photo(np.array([[60, 95]]))).T).max() < 60 * face.scale


def test_16_bits_stay_16_bits() -> None:
    """A ramp finer than 8 bits can tell: it is moved, not cut into steps; elsewhere it stays to the last bit."""
    ramp = np.arange(600, dtype=np.uint16) * 20 + 20000
    photo = np.broadcast_to(ramp[None, :, None], (600, 600, 3)).copy()
    eight = ((photo.astype(np.uint32) + 128) // 257).astype(np.uint8)
    rng = np.random.default_rng(0)
    texture = cv2.GaussianBlur(rng.normal(0, 400, (128, 128, 3)).astype(np.float32), (0, 0), 3) + 110
    face = AlignedFace.crop(eight, np.array([[44.0, 44], [44, 556], [556, 556], [556, 44]]), 128)
    result = paste(photo, face, texture, moved(texture, 64, 64, 3), config=PasteConfig("auto"))
    assert result.dtype == np.uint16
    middle = result[300, 250:350, 0].astype(int)
    assert np.abs(middle - photo[300, 250:350, 0]).max() > 60  # three of the crop's pixels are 12 of 20
    assert np.abs(np.diff(middle, 2)).max() < 10  # steps of 8 bits would be 257
    differs = (result != photo).any(2)
    assert 1000 < differs.sum() < 0.7 * differs.size
    same = paste(eight, face, texture, moved(texture, 64, 64, 3))
    assert np.abs(same - result / 257).max() < 1.1


def test_grey_photos_stay_grey(lisa, face) -> None:
    """Of one channel or of three alike, whatever colours the generator draws."""
    grey = cv2.cvtColor(lisa, cv2.COLOR_RGB2GRAY)[..., None]
    after = moved(face.pixels, 60, 95, 4).astype(np.float32)
    after[90:100, 50:70] += (60, 0, -30)
    one = paste(grey, face, face.pixels, after)
    three = paste(np.repeat(grey, 3, 2), face, face.pixels, after)
    assert one.shape == grey.shape and (one != grey).any()
    assert np.array_equal(three, np.repeat(one, 3, 2))


def test_a_face_cut_by_the_photos_border(lisa, face) -> None:
    """The photo ends in the middle of what moves: the part that is there comes out as from the whole photo."""
    left = int(face.to_photo(np.array([[60.0, 95]]))[0, 0])
    cut = np.ascontiguousarray(lisa[:, left:])
    cut_face = AlignedFace(face.pixels, face.quad - [left, 0])
    after = moved(face.pixels, 60, 95, 4)
    whole, part = paste(lisa, face, face.pixels, after)[:, left:], paste(cut, cut_face, face.pixels, after)
    assert (part != cut).any()
    assert np.abs(part[:, 40:].astype(int) - whole[:, 40:]).max() <= 1  # the mirror image shows near the border only


def test_layers_keep_what_lies_outside_their_mask(lisa) -> None:
    face = AlignedFace.crop(lisa, np.array([[150.0, 250], [150, 650], [550, 650], [550, 250]]), 128)
    above = 255 - lisa
    mask = np.zeros(lisa.shape[:2], bool)
    mask[480:620, 200:400] = True
    for kind in (np.uint8, np.uint16):
        laid = lay_over(lisa.astype(kind), above.astype(kind), mask, face)
        assert laid.dtype == kind
        assert np.array_equal(laid[~mask], lisa[~mask])
        assert np.array_equal(laid[500:600, 220:380], above[500:600, 220:380])


def test_a_large_photo_is_not_made_float_as_a_whole(face) -> None:
    """12 megapixels, a face of 2400 px in them: besides the result, less than another copy of the photo's bytes."""
    photo = np.full((3000, 4000, 3), 120, np.uint8)
    photo[::7, ::5] = 90
    large = AlignedFace(face.pixels, np.array([[800.0, 300], [800, 2700], [3200, 2700], [3200, 300]]))
    tracemalloc.start()
    paste(photo, large, face.pixels, moved(face.pixels, 64, 64, 6, radius=30))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * photo.nbytes + 60e6  # the maps, and a band of rows
