"""Whether all that is drawn, together, lies where the pictures do: the means of frozen features (Santos et al. 2019,
arXiv 1904.02762).

A discriminator looks at one picture after another and asks each to look real. That all of them lie to one side of the
pictures, a little of everything, it does not say. A batch is too small to tell: so the mean of what was drawn last is
remembered, and each batch asked to bring it nearer to the pictures' own.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from weights.training.features import Features

REMEMBERED = 128  # steps
LEAST_SPREAD = 1e-4  # of a feature, that it be divided by


class Moments(nn.Module):
    """The pictures' pooled features in the mean, how they vary, and how far those of what is drawn are off."""

    def __init__(self, channels: list[int]):
        super().__init__()
        self.sizes = list(channels)  # of each scale's part of a row of features
        for name in ("mean", "spread", "missed"):
            self.register_buffer(name, torch.zeros(sum(channels)))
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    @property
    def known(self) -> bool:
        return bool(self.get_buffer("spread").any())

    @torch.no_grad()
    def learn(self, features: Features, batches: Iterable[Tensor]) -> None:
        """What to ask for: of all pictures, float [n, 3, R, R] in [-1, 1], a few at a time."""
        rows = torch.cat([pooled(features(images)) for images in batches])
        self.get_buffer("mean").copy_(rows.mean(0))
        self.get_buffer("spread").copy_(rows.std(0))

    def forward(self, maps: list[Tensor]) -> Tensor:
        """How far the mean of what was drawn last is off, of which `maps` [n, C_i, h_i, w_i] are the newest: a scalar.

        In each channel in standard deviations of the pictures, squared; of each scale's channels the mean, summed. The
        gradient is that of the newest alone, as if all had been drawn so.
        """
        mean, spread, missed, steps = (self.get_buffer(name) for name in ("mean", "spread", "missed", "steps"))
        steps += 1
        share = max(1 / int(steps), 1 / REMEMBERED)
        now = missed.lerp((pooled(maps).mean(0) - mean) / spread.clamp_min(LEAST_SPREAD), share)
        missed.copy_(now.detach())
        off = torch.stack([part.square().mean() for part in now.split(self.sizes)]).sum()
        return off.detach() + (off - off.detach()) / share


def pooled(maps: list[Tensor]) -> Tensor:
    """Maps [n, C_i, h_i, w_i] -> their means [n, sum of C_i]."""
    return torch.cat([m.float().mean((2, 3)) for m in maps], 1)
