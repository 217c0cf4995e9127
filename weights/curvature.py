"""How steep an inversion's loss is, along which ways of a latent: much the same for all latents of a generator.

So it can be known before a picture is seen, and the search of its latent goes as far along each way as is good there
(Wang and Ponce 2021, arXiv 2101.06006).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Curvature(nn.Module):
    """The steepest `ways` [k, n] of latents' n = num_ws * w_dim numbers, orthonormal.

    `values` [k] are the loss's second derivatives along them, per squared spread of W, falling; `rest` [n] those along
    each number, less its part in these ways.
    """

    ways: Tensor
    values: Tensor
    rest: Tensor

    def __init__(self, k: int, n: int):
        super().__init__()
        self.register_buffer("ways", torch.eye(k, n))
        self.register_buffer("values", torch.ones(k))
        self.register_buffer("rest", torch.ones(n))

    def inverse(self, gradient: Tensor) -> Tensor:
        """A gradient [n] divided by the curvature along each way: against it lies the bottom of such a valley."""
        along = self.ways @ gradient
        beside = (gradient - along @ self.ways) / self.rest
        return beside + (along / self.values - self.ways @ beside) @ self.ways
