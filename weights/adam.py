"""Adam (Kingma and Ba 2015, arXiv 1412.6980), for latents. torch's own takes a second to import, as long as a drag."""

from __future__ import annotations

import torch
from torch import Tensor


class Adam:
    """Takes numbers [rows, d] step by step along their gradients.

    `betas` say how much of the gradient's first and second moment a step keeps.
    """

    def __init__(self, start: Tensor, learning_rate: float, betas: tuple[float, float] = (0.9, 0.999)):
        self.learning_rate, self.betas, self.steps = learning_rate, betas, 0
        self.mean, self.square = torch.zeros_like(start), torch.zeros_like(start)

    @torch.no_grad()
    def step(self, x: Tensor, gradient: Tensor) -> Tensor:
        """x after one step along its gradient."""
        self.steps += 1
        self.mean = self.mean.lerp(gradient, 1 - self.betas[0])
        self.square = self.square.lerp(gradient.square(), 1 - self.betas[1])
        # Both begin at zero, and are as much too small.
        mean, square = (
            moment / (1 - beta**self.steps) for moment, beta in zip((self.mean, self.square), self.betas, strict=True)
        )
        return x - self.learning_rate * mean / (square.sqrt() + 1e-8)
