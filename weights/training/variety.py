"""Whether what is drawn is as varied as the pictures: the sliced Wasserstein distance (Rabin et al. 2011; as a loss
Deshpande et al. 2018, arXiv 1803.11188) between the frozen features of both.

A discriminator looks at one picture after another, and says nothing of hair that is always short or of backgrounds that
are always plain. A batch is too small to tell either, so the features of the last KEPT pictures are
remembered.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

KEPT = 4096  # pictures
FEWEST = 0.25  # of those, from which on something is asked
SLICES = 64  # directions a step


class Variety(nn.Module):
    """The pooled features of the last pictures, drawn and real, of each of the `views` that take turns in a batch."""

    def __init__(self, channels: list[int], views: int = 1, kept: int = KEPT):
        super().__init__()
        self.sizes = list(channels)  # of each scale's part of a row of features
        for name in ("real", "drawn"):
            self.register_buffer(name, torch.zeros(views, kept, sum(self.sizes)))
        self.register_buffer("met", torch.zeros(views, dtype=torch.long))

    def forward(self, real: list[Tensor], drawn: list[Tensor], rng: torch.Generator) -> Tensor:
        """How far the drawn maps [n, C_i, h_i, w_i] are from where pictures of their rank lie, in variances: a scalar.

        In random directions of all features, drawn from `rng`, which is the CPU's, each picture is asked to where the
        real picture of the same rank among all remembered lies. Remembers both; 0 until enough are known.
        """
        width = self.get_buffer("real").shape[-1]
        directions = torch.randn(width, SLICES, generator=rng).to(drawn[0])
        ours, theirs = pooled(drawn), pooled(real)
        views = len(self.get_buffer("met"))
        asked = [self._of_view(view, theirs[view::views], ours[view::views], directions) for view in range(views)]
        return torch.stack(asked).mean()

    def _of_view(self, view: int, real: Tensor, drawn: Tensor, directions: Tensor) -> Tensor:
        known, pictures, met = (self.get_buffer(name)[view] for name in ("drawn", "real", "met"))
        at = (int(met) + torch.arange(len(drawn))) % len(known)
        known[at], pictures[at] = drawn.detach(), real.detach()
        met += len(at)
        if met < FEWEST * len(known):
            return drawn.sum() * 0
        known, pictures = known[:met], pictures[:met]
        return distance(drawn, at, known, pictures, self.scaled(pictures, directions))

    def scaled(self, real: Tensor, directions: Tensor) -> Tensor:
        """The directions with every scale's features, which vary as `real` [k, d], counting alike."""
        variances = real.var(0).split(self.sizes)
        factors = [v.sum().clamp_min(1e-12).rsqrt().expand(len(v)) for v in variances]
        return directions * torch.cat(factors)[:, None]


def distance(points: Tensor, at: Tensor, drawn: Tensor, real: Tensor, directions: Tensor) -> Tensor:
    """Of points [n, d], which are the rows `at` of `drawn` [k, d], to where in `real` [k, d] their rank is, in each of
    the directions [d, s]; mean squares, in variances of `real` there."""
    pictures = (real @ directions).sort(0).values  # [k, s]
    ranks = (drawn @ directions).argsort(0).argsort(0)[at]  # [n, s]
    return ((points @ directions - pictures.gather(0, ranks)).square().mean(0) / pictures.var(0)).mean()


def pooled(maps: list[Tensor]) -> Tensor:
    """Maps [n, C_i, h_i, w_i] -> their means [n, sum of C_i]."""
    return torch.cat([m.mean((2, 3)) for m in maps], 1)
