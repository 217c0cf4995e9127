"""The training's distance between the mean features of what is drawn and of the pictures: known answers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from weights.training.moments import REMEMBERED, Moments, pooled


def flat_maps(values: Tensor) -> list[Tensor]:
    """Two scales of n even pictures: [n] -> maps [n, 1, 4, 4] and, ten times as large, [n, 1, 2, 2]."""
    return [values.view(-1, 1, 1, 1).expand(-1, 1, 4, 4), 10 * values.view(-1, 1, 1, 1).expand(-1, 1, 2, 2)]


def known() -> Moments:
    """Of pictures with a mean of 2 and a standard deviation of 2, given in two parts."""
    moments = Moments([1, 1])
    assert not moments.known
    moments.learn(lambda images: flat_maps(images.flatten()), [torch.tensor([0.0, 2.0]), torch.tensor([4.0])])
    assert moments.known
    return moments


def test_features_are_pooled_over_the_picture() -> None:
    picture = torch.arange(16.0).view(1, 1, 4, 4)
    assert pooled([picture, picture[..., :2, :2]]).tolist() == [[7.5, 2.5]]


def test_the_distance_is_of_the_means_in_the_pictures_deviations() -> None:
    assert known()(flat_maps(torch.tensor([1.0, 5.0, 9.0]))).item() == pytest.approx(2 * ((5 - 2) / 2) ** 2)
    assert known()(flat_maps(torch.tensor([-9.0, 13.0]))).item() == 0  # each is far off, and together they are not


def test_what_was_drawn_before_is_remembered() -> None:
    moments = known()
    for value in (2.0, 6.0):
        off = moments(flat_maps(torch.tensor([value])))
    assert off.item() == pytest.approx(2 * ((4 - 2) / 2) ** 2)  # the mean of both is 4
    for _ in range(20 * REMEMBERED):
        off = moments(flat_maps(torch.tensor([2.0])))
    assert off.item() == pytest.approx(0, abs=1e-6)  # and forgotten


def test_the_newest_are_asked_to_bring_the_mean_nearer() -> None:
    """Alone they lie right: it is the mean, too large, that they are asked to lower, as if all were drawn anew."""
    moments = known()
    moments(flat_maps(torch.tensor([6.0])))
    drawn = torch.tensor([2.0, 2.0], requires_grad=True)
    moments(flat_maps(drawn)).backward()
    off = (4 - 2) / 2  # deviations, in each of two scales
    slope = 2 * (2 * off) / 2 / 2  # of both scales' squares, by one of two pictures, in units of a deviation of 2
    assert drawn.grad is not None and drawn.grad.tolist() == pytest.approx([slope] * 2)


def test_features_that_never_vary_ask_for_nothing_endless() -> None:
    moments = Moments([1, 1])
    moments.learn(lambda images: [images, 0 * images], [torch.tensor([0.0, 1.0]).view(2, 1, 1, 1)])
    assert torch.isfinite(moments([torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 1, 1)]))
