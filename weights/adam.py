"""Adam (Kingma and Ba 2015, arXiv 1412.6980), for latents. torch's own takes a second to import, as long as a drag."""

from __future__ import annotations

import torch
from torch import Tensor


class Adam:
    """Takes numbers [rows, d] step by step along their gradients.

    `betas` say how much of the gradient's first and second moment a step keeps. `by_row` gives the numbers of a row
    one second moment: then a row goes straight down, where a moment for each number turns it towards the corners.
    """

    def __init__(
        self,
        start: Tensor,
        learning_rate: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        by_row: bool = False,
    ):
        self.learning_rate, self.betas, self.eps, self.by_row, self.steps = learning_rate, betas, eps, by_row, 0
        self.mean = torch.zeros_like(start)
        self.square = torch.zeros_like(start[..., :1] if by_row else start)

    @torch.no_grad()
    def step(self, x: Tensor, gradient: Tensor) -> Tensor:
        """x after one step along its gradient."""
        square = gradient.square()
        if self.by_row:
            square = square.mean(-1, keepdim=True)
        self.steps += 1
        self.mean = self.mean.lerp(gradient, 1 - self.betas[0])
        self.square = self.square.lerp(square, 1 - self.betas[1])
        # Both begin at zero, and are as much too small.
        mean, square = (
            moment / (1 - beta**self.steps) for moment, beta in zip((self.mean, self.square), self.betas, strict=True)
        )
        return x - self.learning_rate * mean / (square.sqrt() + self.eps)
