"""Sampling, tracking and motion supervision on maps small enough to check by hand."""

import pytest
import torch

from drag import disc, motion_loss, sample, square, track
from weights import Windows


def ramp(size: int = 5) -> Windows:
    """[1, 2, 5, 5]: the first channel is x, the second y."""
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    return Windows.whole(torch.stack([x, y])[None].float())


def test_sample_reads_between_cells() -> None:
    points = torch.tensor([[0.0, 0.0], [1.5, 2.0], [3.25, 0.5]])
    torch.testing.assert_close(sample(ramp(), points[None], 5)[0], points)


def test_sample_follows_the_half_pixel_rule() -> None:
    """A map of 5 cells over a picture of 10 pixels: pixel p is at cell (p + 0.5) / 2 - 0.5."""
    points = torch.tensor([[4.5, 4.5], [2.5, 6.5], [0.5, 0.5]])
    torch.testing.assert_close(sample(ramp(), points[None], 10)[0], torch.tensor([[2.0, 2.0], [1.0, 3.0], [0.0, 0.0]]))


def test_sample_is_clamped_at_the_rim() -> None:
    torch.testing.assert_close(sample(ramp(), torch.tensor([[[-3.0, 9.0]]]), 5), torch.tensor([[[0.0, 4.0]]]))


def test_disc_and_square() -> None:
    # Strictly inside radius 2: the middle, 4 neighbours and 4 diagonals. (2, 0) is at the radius, so outside.
    assert len(disc(2.0, 1.0)) == 9
    # As in the official code at 512 px: radius 3 holds 25 pixels.
    assert len(disc(3.0, 1.0)) == 25
    assert len(square(1.0, 0.5)) == 25
    assert square(1.0, 0.5).abs().max() == 1.0


def test_track_finds_the_reference() -> None:
    """Where x is 2.5 and y is 3 is (2.5, 3); the grid of half steps around (2, 3) holds it."""
    found, match = track(ramp(), torch.tensor([[2.0, 3.0]]), torch.tensor([[[2.5, 3.0]]]), 1.0, 0.5, 5)
    torch.testing.assert_close(found, torch.tensor([[2.5, 3.0]]))
    torch.testing.assert_close(match, torch.tensor([0.0]))


def test_track_finds_what_lies_between_the_grids_points() -> None:
    """On a ramp the squared distance is (x - x0)^2 / 2: a parabola, so its bottom is found exactly."""
    sought = torch.tensor([[2.3, 1.9], [1.45, 3.05]])
    found, match = track(ramp(), torch.tensor([[2.0, 2.0], [1.0, 3.0]]), sought[:, None], 1.0, 1.0, 5)
    torch.testing.assert_close(found, sought)
    # At the grid's nearest points: sqrt((0.3^2 + 0.1^2) / 2), sqrt((0.45^2 + 0.05^2) / 2).
    torch.testing.assert_close(match, torch.tensor([0.223607, 0.320156]), atol=1e-5, rtol=0)


def test_track_looks_no_farther_than_its_window() -> None:
    found, match = track(ramp(), torch.tensor([[1.0, 1.0]]), torch.tensor([[[4.0, 1.0]]]), 1.0, 1.0, 5)
    torch.testing.assert_close(found, torch.tensor([[2.0, 1.0]]))
    torch.testing.assert_close(match, torch.tensor([2**0.5]))  # two cells off in one channel of two


def test_motion_loss_by_hand() -> None:
    """One handle at (2, 2) bound for (4, 2): every point of the patch looks one cell to the right, where x is one
    more and y the same. So each differs by (1, 0): the mean over two channels is 1/2.
    """
    patch = disc(1.5, 1.0)
    handles, targets = torch.tensor([[2.0, 2.0]]), torch.tensor([[4.0, 2.0]])
    assert motion_loss(ramp(), handles, targets, patch, 1.0, 5).item() == pytest.approx(0.5)
    # Two handles: the sum. The second is 0.5 from its target and is asked for no more: (0, 0.5), so 1/4.
    handles, targets = torch.tensor([[2.0, 2.0], [2.0, 2.0]]), torch.tensor([[4.0, 2.0], [2.0, 2.5]])
    assert motion_loss(ramp(), handles, targets, patch, 1.0, 5).item() == pytest.approx(0.75)


def test_motion_loss_moves_only_what_is_ahead() -> None:
    """What is here now is the aim, and takes no gradient; with a patch of one point, one cell ahead does."""
    features = ramp().values.requires_grad_(True)
    loss = motion_loss(
        Windows.whole(features), torch.tensor([[2.0, 2.0]]), torch.tensor([[4.0, 2.0]]), torch.zeros(1, 2), 1.0, 5
    )
    (gradient,) = torch.autograd.grad(loss, features)
    assert gradient[0, 0, 2, 3] == pytest.approx(0.5)
    assert gradient[0, 0].count_nonzero() == 1
