"""Crops without landmarks: to the pixel where they need no resampling, and points there and back."""

import numpy as np
import pytest

from align import AlignedFace, BadBox, paste, square_crop, square_quad, whole_quad

PHOTO = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)


def test_the_middle_square_is_the_photos_own_pixels() -> None:
    quad = square_quad(PHOTO.shape)
    assert quad.tolist() == [[9.5, -0.5], [9.5, 59.5], [69.5, 59.5], [69.5, -0.5]]
    assert np.array_equal(square_crop(PHOTO, quad, 60), PHOTO[:, 10:70])


def test_a_box_is_widened_to_a_square_around_its_middle() -> None:
    assert np.array_equal(square_crop(PHOTO, square_quad(PHOTO.shape, (20, 10, 40, 40)), 40), PHOTO[10:50, 20:60])
    assert square_quad(PHOTO.shape, (20, 20, 40, 20)).tolist() == square_quad(PHOTO.shape, (20, 10, 40, 40)).tolist()


def test_the_whole_photo_goes_on_as_its_mirror_image() -> None:
    crop = square_crop(PHOTO, whole_quad(PHOTO.shape), 80)
    assert np.array_equal(crop[10:70], PHOTO)
    assert np.array_equal(crop[:10], PHOTO[9::-1]) and np.array_equal(crop[70:], PHOTO[:-11:-1])


@pytest.mark.parametrize("size", [16, 60, 128])
def test_points_of_the_crop_are_the_photos(size: int) -> None:
    smooth = np.broadcast_to(np.arange(80, dtype=np.uint8)[None, :, None], (60, 80, 3))  # each pixel says its x
    crop = AlignedFace.crop(smooth, square_quad(smooth.shape, (8, 10, 40, 40)), size, "square")
    inner = np.arange(3, size - 3)
    x = crop.to_photo(np.stack([inner, np.full_like(inner, size // 2)], 1))[:, 0]
    assert np.abs(crop.pixels[size // 2, inner, 0] - x).max() <= 1.0
    points = np.array([[3.0, 4.0], [50.0, 20.5]])
    np.testing.assert_allclose(crop.to_photo(crop.from_photo(points)), points)


@pytest.mark.parametrize(
    "box", [(-1, 0, 30, 30), (0, 0, 81, 30), (0, 40, 30, 30), (0, 0, 10, 10), (0, 0, float("nan"), 30)]
)
def test_boxes_outside_the_photo_are_refused(box: tuple[float, float, float, float]) -> None:
    with pytest.raises(BadBox, match="must lie in the photo, 80 x 60 px"):
        square_quad(PHOTO.shape, box)


def test_an_unchanged_square_pasted_back_leaves_the_photo() -> None:
    square = AlignedFace.crop(PHOTO, whole_quad(PHOTO.shape), 64, "none")
    drawn = square.pixels.astype(np.float32)
    assert np.array_equal(paste(PHOTO, square, drawn, drawn), PHOTO)
