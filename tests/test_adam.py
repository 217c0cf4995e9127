"""Adam for latents: hand-computed steps."""

from __future__ import annotations

import pytest
import torch

from weights import Adam


def test_steps_by_hand() -> None:
    adam, x = Adam(torch.zeros(1, 1), 0.1, (0.5, 0.75)), torch.zeros(1, 1)
    x = adam.step(x, torch.tensor([[2.0]]))  # moments 1 and 1, which are half and a quarter of what they stand for
    assert x.item() == pytest.approx(-0.1)
    x = adam.step(x, torch.tensor([[-1.0]]))  # moments 0 and 1
    assert x.item() == pytest.approx(-0.1)
    x = adam.step(x, torch.tensor([[4.0]]))  # moments 2 and 4.75, of 0.875 and 0.578125
    assert x.item() == pytest.approx(-0.1 - 0.1 * (2 / 0.875) / (4.75 / 0.578125) ** 0.5)


def test_by_row_a_first_step_goes_straight_down() -> None:
    gradient = torch.tensor([[3.0, 4.0], [0.5, 0.0]])
    step = Adam(gradient, 0.1, by_row=True).step(torch.zeros(2, 2), gradient)
    # Root mean squares of the rows: (25 / 2) ** 0.5 and (0.25 / 2) ** 0.5.
    torch.testing.assert_close(step, -0.1 * gradient / torch.tensor([[12.5], [0.125]]).sqrt())
    corner = Adam(gradient, 0.1).step(torch.zeros(2, 2), gradient)
    torch.testing.assert_close(corner, torch.tensor([[-0.1, -0.1], [-0.1, 0.0]]))
