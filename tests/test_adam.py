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
