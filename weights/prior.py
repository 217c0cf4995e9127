"""Where random z come from, where they are not normal.

A generator that was trained from codes of pictures draws best from z like those, and codes are never quite normal. A
prior takes normal z to such ones. It stands before the network, which stays NVIDIA's.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NAME = "prior."  # of its tensors in a generator's file
SLOPE = 0.2  # of the leaky ReLU


class Prior(nn.Module):
    """Normal z [n, z_dim] -> z like the training's [n, z_dim]; begun as the identity but for z's length."""

    def __init__(self, z_dim: int, layers: int = 3):
        super().__init__()
        self.z_dim = z_dim
        one = torch.eye(z_dim)
        # What a leaky ReLU does to x, less what it does to -x, is 1.2 x.
        both, joined = torch.cat([one, -one]), torch.cat([one, -one], 1) / (1 + SLOPE)
        weights = [both, *(both @ joined for _ in range(layers - 1)), joined]
        self.layers = nn.ModuleList(linear(weight) for weight in weights)

    def forward(self, z: Tensor) -> Tensor:
        x = unit(z)
        for layer in list(self.layers)[:-1]:
            x = F.leaky_relu(layer(x), SLOPE)
        out: Tensor = self.layers[-1](x)
        return out


@torch.no_grad()
def linear(weight: Tensor) -> nn.Linear:
    """A layer with that weight [O, I] and no bias yet."""
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.weight.copy_(weight)
    layer.bias.zero_()
    return layer


def unit(z: Tensor) -> Tensor:
    """z [n, z_dim] with a mean square of 1, which is all that a mapping network sees of it."""
    return z * (z.square().mean(1, keepdim=True) + 1e-8).rsqrt()


def take_prior(tensors: dict[str, Tensor]) -> Prior | None:
    """The prior among a file's tensors, which loses them. Raises ValueError, RuntimeError where it is none of ours."""
    found = {name.removeprefix(NAME): tensors.pop(name) for name in list(tensors) if name.startswith(NAME)}
    if not found:
        return None
    weights = [tensor for name, tensor in found.items() if name.endswith(".weight")]
    prior = Prior(min(weight.shape[-1] for weight in weights), len(weights) - 1)
    prior.load_state_dict({name: tensor.float() for name, tensor in found.items()})
    return prior.eval().requires_grad_(False)


def tensors_of(prior: Prior | None) -> Mapping[str, Tensor]:
    """Its tensors, as `take_prior` finds them again."""
    return {NAME + name: tensor for name, tensor in prior.state_dict().items()} if prior else {}
