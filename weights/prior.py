"""What z is to a generator that was trained from codes of pictures, and where its random z come from.

Codes are not quite normal, and such a generator draws best from z like theirs: a prior takes normal numbers to those.
It stands before the network, which stays NVIDIA's.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NAME = "prior."  # of its tensors in a generator's file
SLOPE = 0.2  # of the leaky ReLU


class Prior(nn.Module):
    """Normal numbers [n, z_dim], of which the last is not used, -> z like the training's [n, z_dim]."""

    def __init__(self, z_dim: int, layers: int = 3):
        super().__init__()
        self.z_dim = z_dim
        one = torch.eye(z_dim - 1)
        # What a leaky ReLU does to x, less what it does to -x, is 1.2 x.
        both, joined = torch.cat([one, -one]), torch.cat([one, -one], 1) / (1 + SLOPE)
        weights = [both, *(both @ joined for _ in range(layers - 1)), joined]
        self.layers = nn.ModuleList(linear(weight) for weight in weights)

    def forward(self, normal: Tensor) -> Tensor:
        return lengthened(self.codes(normal[:, :-1]))

    def codes(self, x: Tensor) -> Tensor:
        """Normal numbers [n, z_dim - 1] -> codes, begun as the identity."""
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


def lengthened(codes: Tensor) -> Tensor:
    """Codes [n, k] -> z [n, k + 1], with a constant in the end.

    All that a mapping network sees of z is its direction. Beside a number that is always the same, and larger than
    codes are long, the direction says how long a code is, which is how unusual a picture it stands for.
    """
    return F.pad(codes, (0, 1), value=2 * codes.shape[1] ** 0.5)


def take_prior(tensors: dict[str, Tensor]) -> Prior | None:
    """The prior among a file's tensors, which loses them. Raises ValueError, RuntimeError where it is none of ours."""
    found = {name.removeprefix(NAME): tensors.pop(name) for name in list(tensors) if name.startswith(NAME)}
    if not found:
        return None
    weights = [tensor for name, tensor in found.items() if name.endswith(".weight")]
    prior = Prior(min(weight.shape[-1] for weight in weights) + 1, len(weights) - 1)
    prior.load_state_dict({name: tensor.float() for name, tensor in found.items()})
    return prior.eval().requires_grad_(False)


def tensors_of(prior: Prior | None) -> Mapping[str, Tensor]:
    """Its tensors, as `take_prior` finds them again."""
    return {NAME + name: tensor for name, tensor in prior.state_dict().items()} if prior else {}
