"""Whether what is drawn is as varied as the pictures: the sliced Wasserstein distance (Rabin et al. 2011; as a loss
Deshpande et al. 2018, arXiv 1803.11188) between the frozen features of both.

A discriminator looks at one picture after another, and says nothing of hair that is always short or of backgrounds that
are always plain. A batch is too small to tell either, so the features of the last KEPT pictures are
remembered. They are of whole pictures, whose colours nobody changed: else the changes, which are the same for drawn and
real, are most of what varies. And they are whitened, or the few directions in which pictures differ most would be all
that counts.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

KEPT = 4096  # pictures
FEWEST = 0.25  # of those, from which on something is asked
AXES = 48  # of the real features, the strongest
RENEWED = 512  # pictures, after which those are found anew
SLICES = 64  # directions a step


class Variety(nn.Module):
    """The pooled features of the last pictures, drawn and real."""

    def __init__(self, channels: list[int], kept: int = KEPT):
        super().__init__()
        self.sizes = list(channels)  # of each scale's part of a row of features
        width = sum(self.sizes)
        for name in ("real", "drawn"):
            self.register_buffer(name, torch.zeros(kept, width))
        self.register_buffer("axes", torch.zeros(width, min(AXES, width)))
        self.register_buffer("met", torch.zeros((), dtype=torch.long))

    def forward(self, real: list[Tensor], drawn: list[Tensor], rng: torch.Generator) -> Tensor:
        """How far the drawn maps [n, C_i, h_i, w_i] are from where pictures of their rank lie, in variances: a scalar.

        In random directions of the whitened features, drawn from `rng`, which is the CPU's, each picture is asked to
        where the real picture of the same rank among all remembered lies. Remembers both; 0 until enough are known.
        """
        points = pooled(drawn)
        known, pictures, axes, met = (self.get_buffer(name) for name in ("drawn", "real", "axes", "met"))
        at = (int(met) + torch.arange(len(points))) % len(known)
        known[at], pictures[at] = points.detach(), pooled(real).detach()
        met += len(at)
        if met < FEWEST * len(known):
            return points.sum() * 0
        known, pictures = known[:met], pictures[:met]
        if not axes.any() or met % RENEWED < len(at):
            axes.copy_(whitening(pictures, self.sizes, axes.shape[1]))
        directions = torch.randn(axes.shape[1], SLICES, generator=rng).to(axes)
        return distance(points, at, known, pictures, axes @ directions)


def whitening(points: Tensor, sizes: list[int], k: int) -> Tensor:
    """The k strongest axes [d, k] of points [n, d], along which they vary by one; of its `sizes`, each counts alike."""
    factors = torch.cat([v.sum().clamp_min(1e-12).rsqrt().expand(len(v)) for v in points.var(0).split(sizes)])
    variance, axes = torch.linalg.eigh(torch.cov((points * factors).T))
    variance, axes = variance[-k:], axes[:, -k:]  # ascending
    return factors[:, None] * axes * variance.clamp_min(1e-4 * float(variance[-1])).rsqrt()


def distance(points: Tensor, at: Tensor, drawn: Tensor, real: Tensor, directions: Tensor) -> Tensor:
    """Of points [n, d], which are the rows `at` of `drawn` [k, d], to where in `real` [k, d] their rank is, in each of
    the directions [d, s]; mean squares, in variances of `real` there."""
    pictures = (real @ directions).sort(0).values  # [k, s]
    ranks = (drawn @ directions).argsort(0).argsort(0)[at]  # [n, s]
    return ((points @ directions - pictures.gather(0, ranks)).square().mean(0) / pictures.var(0)).mean()


def pooled(maps: list[Tensor]) -> Tensor:
    """Maps [n, C_i, h_i, w_i] -> their means [n, sum of C_i]."""
    return torch.cat([m.mean((2, 3)) for m in maps], 1)
