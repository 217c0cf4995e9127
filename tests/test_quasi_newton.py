"""The search of the pivot, on functions whose steps can be had by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from inversion.quasi_newton import QuasiNewton


def evaluate(search: QuasiNewton, square: Tensor) -> None:
    """Half of x A x."""
    search.tell(float(search.trial @ square @ search.trial) / 2, square @ search.trial)


def test_on_a_parabola_the_second_step_ends_at_the_bottom() -> None:
    search, four = QuasiNewton(torch.tensor([3.0]), 0.5), torch.tensor([[4.0]])
    trials = []
    for _ in range(3):
        trials.append(search.trial.item())
        evaluate(search, four)
    assert trials == [3.0, 2.5, 0.0]  # half a unit down, where the slope is 10 instead of 12: 2.5 more to the bottom
    assert search.value == 0 and search.point.item() == 0


def test_a_step_too_far_is_taken_back_to_the_bottom_of_a_parabola() -> None:
    search, two = QuasiNewton(torch.tensor([1.0]), 4.0), torch.tensor([[2.0]])
    evaluate(search, two)  # 1, slope 2: four down to -3, where it is 9
    evaluate(search, two)
    assert search.point.item() == 1 and search.value == 1  # the best so far
    assert search.trial.item() == 0  # the parabola through 1 and 9 with that slope


def test_a_step_is_cut_to_a_tenth_at_most_and_by_half_at_least() -> None:
    for value, share in ((1e6, 0.1), (math.nan, 0.1), (1.0, 0.5)):
        search = QuasiNewton(torch.tensor([1.0]), 1.0)
        search.tell(1.0, torch.tensor([1.0]))
        search.tell(value, torch.tensor([1.0]))
        assert search.value == 1.0 and search.trial.item() == pytest.approx(1 - share)


def test_known_curvature_turns_the_first_step_to_the_bottom() -> None:
    """And what the way teaches goes into the next, though the curvature was known as a hundredth of what it is."""
    square = torch.tensor([[100.0, 0.0], [0.0, 1.0]])
    search = QuasiNewton(torch.tensor([3.0, 4.0]), 0.5 / math.sqrt(2), lambda g: 100 * g / square.diagonal())
    evaluate(search, square)
    torch.testing.assert_close(search.trial, torch.tensor([2.7, 3.6]))  # half a unit of five
    evaluate(search, square)
    torch.testing.assert_close(search.trial, torch.zeros(2))


def test_a_curved_valley_is_followed_to_its_end() -> None:
    """Rosenbrock's, from where he began."""
    search = QuasiNewton(torch.tensor([-1.2, 1.0], dtype=torch.float64), 0.1)
    for _ in range(60):
        x = search.trial.clone().requires_grad_(True)
        value = 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2
        search.tell(value.item(), torch.autograd.grad(value, x)[0])
    torch.testing.assert_close(search.point, torch.ones(2, dtype=torch.float64), rtol=0, atol=1e-6)


def test_a_ridge_is_not_remembered() -> None:
    """Where the slope grows along a step no valley's bottom can be told, and it goes on down."""
    search = QuasiNewton(torch.tensor([1.0]), 0.5)
    for _ in range(3):
        search.tell(-(search.trial.item() ** 2), -2 * search.trial)
    assert not search.pairs and search.point.item() == 2.0 and search.trial.item() == 2.5
