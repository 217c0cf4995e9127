"""Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon): matrices step in all their directions alike.

A gradient of few pictures has few strong directions, and Adam, which looks at one number at a time, keeps them. Here
the momentum of a matrix is brought to the nearest orthogonal one by Newton's and Schulz's iteration.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from weights.precision import product_type

MOMENTUM = 0.9
SHARE = 0.3  # of the rate: the root mean square of a matrix's step, since none of it is noise that evens out
LEAST = 8  # rows and columns; what is smaller steps by Adam
ITERATIONS = 5
QUINTIC = 3.4445, -4.7750, 2.0315  # theirs: singular values come to 0.7 to 1.2, and small ones soon


class Muon(torch.optim.Optimizer):
    """Steps the matrices among parameters, of convolutions [O, I, k, k] as [O, I k k], and takes their gradients away.

    So an Adam of all parameters steps what is left. Groups are those of that Adam, without what is no matrix.
    """

    def __init__(self, groups: Iterable[dict[str, list[nn.Parameter]]], lr: float):
        super().__init__([{"params": [p for p in group["params"] if is_matrix(p)]} for group in groups], {"lr": lr})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for matrix in group["params"]:
                if matrix.grad is None:
                    continue
                state = self.state[matrix]
                if not state:
                    state["momentum"] = torch.zeros_like(matrix)
                momentum = state["momentum"]
                momentum.lerp_(matrix.grad, 1 - MOMENTUM)
                ahead = matrix.grad.lerp(momentum, MOMENTUM)  # Nesterov's
                way = orthogonal(ahead.flatten(1)).view_as(matrix)
                matrix.sub_(way, alpha=float(SHARE * group["lr"] / way.square().mean().sqrt().clamp_min(1e-12)))
                matrix.grad = None


def is_matrix(parameter: Tensor) -> bool:
    return parameter.ndim > 1 and min(parameter.shape[0], parameter[0].numel()) >= LEAST


def orthogonal(matrix: Tensor) -> Tensor:
    """Roughly the nearest matrix [n, m] of orthonormal rows or columns, whichever are fewer."""
    a, b, c = QUINTIC
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    x = (wide / wide.norm().clamp_min(1e-12)).to(product_type(matrix.device))
    for _ in range(ITERATIONS):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return (x if wide is matrix else x.T).to(matrix)
