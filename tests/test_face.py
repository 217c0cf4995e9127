"""The FFHQ crop: equal to the published script's, and tied to the photo by a similarity."""

import numpy as np
from conftest import DATA

from align import AlignedFace, ffhq_quad


def test_crop_is_the_published_one(lisa, lisa_points) -> None:
    """The golden crop was made by NVlabs' download_ffhq.py from these landmarks (256 px, 1024 samples a side).

    lisa1's crop leaves the photo on both sides, so the mirrored and blurred padding is compared too.
    """
    quad = ffhq_quad(lisa_points)
    assert quad[:, 0].min() < -20 and quad[:, 0].max() > lisa.shape[1] + 20
    golden = np.load(DATA / "ffhq_golden.npz")["crop"].astype(int)
    difference = np.abs(AlignedFace.crop(lisa, quad, 256).pixels.astype(int) - golden)
    assert difference.max() <= 2 and difference.mean() < 0.01


def test_large_photos_are_shrunk_without_a_shift(lisa, lisa_points) -> None:
    """At 64 px the photo is halved or more first; the crop must show the same as a finer one averaged."""
    quad = ffhq_quad(lisa_points)
    small = AlignedFace.crop(lisa, quad, 64).pixels.astype(float)
    fine = AlignedFace.crop(lisa, quad, 512).pixels.reshape(64, 8, 64, 8, 3).mean((1, 3))
    here = np.abs(small - fine)[8:-8, 8:-8].mean()
    shifted = np.abs(np.roll(small, 1, axis=1) - fine)[8:-8, 8:-8].mean()
    assert here < 2.5 and here < shifted / 3


def test_quad_of_hand_made_landmarks() -> None:
    """Eyes at (40, 50) and (60, 50), mouth at (50, 70): e2e 20, e2m 20, so x = (40, 0) / 40 * max(40, 36) = (40, 0)."""
    points = np.zeros((68, 2))
    points[36:42], points[42:48], points[[48, 54]] = (40, 50), (60, 50), (50, 70)
    np.testing.assert_allclose(ffhq_quad(points), [[10, 12], [10, 92], [90, 92], [90, 12]])


def test_points_go_there_and_back_under_rotation(lisa) -> None:
    angle, width = 0.3, 150.0
    x = width / 2 * np.array([np.cos(angle), np.sin(angle)])
    y, middle = np.array([-x[1], x[0]]), np.array([300.0, 400.0])
    quad = np.stack([middle - x - y, middle - x + y, middle + x + y, middle + x - y])
    face = AlignedFace.crop(lisa, quad, 100)
    points = np.random.default_rng(0).uniform(0, 100, (20, 2))
    np.testing.assert_allclose(face.from_photo(face.to_photo(points)), points, atol=1e-9)
    # The corners of the crop are the edges of its outermost pixels, half a pixel beyond their centres.
    np.testing.assert_allclose(face.to_photo([[-0.5, -0.5], [-0.5, 99.5], [99.5, 99.5], [99.5, -0.5]]), quad, atol=1e-9)
    assert face.scale == np.float64(1.5)


def test_a_pixel_of_the_crop_shows_the_photo_at_its_point() -> None:
    """A photo that is its own coordinates: red = x / 4, green = y / 4."""
    y, x = np.mgrid[0:800, 0:800]
    photo = np.stack([x / 4, y / 4, 0 * x], -1).round().astype(np.uint8)
    face = AlignedFace.crop(photo, np.array([[200.0, 240], [180, 560], [500, 580], [520, 260]]), 64)
    at = np.array([[10, 20], [50, 11], [32, 60]])
    shown = face.pixels[at[:, 1], at[:, 0], :2] * 4.0
    np.testing.assert_allclose(shown, face.to_photo(at), atol=4)


def test_mask_is_averaged_into_the_crop(lisa) -> None:
    face = AlignedFace.crop(lisa, np.array([[100.0, 100], [100, 356], [356, 356], [356, 100]]), 64)
    mask = np.zeros(lisa.shape[:2], bool)
    mask[:, :228] = True  # the crop's left half
    movable = face.mask_from_photo(mask)
    assert movable[:, :32].all() and not movable[:, 33:].any()
