"""Whether all that is drawn, together, is spread as the pictures are: mean and covariance of frozen features.

A discriminator looks at one picture after another and asks each to look real. That all drawings lie to one side of the
pictures, or too near together, it does not say, and a batch is too small to tell. So some are drawn when this begins.
The map that takes the Gaussian of their features to the pictures' says where each should have its own, and that is
asked of the same latents from then on. What is asked does not depend on how the training goes: moments of what was
drawn last, remembered, come too late, and the generator swings.

Pictures came out of a lossy codec, so it is through it that drawings are compared with them. What it does to one
drawing, though, is mostly chance: a change of a third of a level moves the coarsest features by a fifth of a deviation.
So the way that a drawing has to go is found through the codec, and asked of the drawing as it is.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from weights.training.gaussians import transport

DRAWN = 2048  # latents
LEAST_SPREAD = 1e-4  # of a feature, that it be divided by
NOISE = 1.0  # variance added to that of all features, which is 1 in the mean: where they vary less, too little is known


class Moments(nn.Module):
    """Latents, and the pooled features that what is drawn from each should have.

    Those are in deviations from the pictures' mean, in units of the pictures' spread.
    """

    mean: Tensor
    spread: Tensor
    z: Tensor
    wanted: Tensor

    def __init__(self, z_dim: int, channels: list[int]):
        super().__init__()
        self.sizes = list(channels)  # of each scale's part of a row of features
        n = sum(channels)
        shapes = {"mean": (n,), "spread": (n,), "z": (DRAWN, z_dim), "wanted": (DRAWN, n)}
        for name, shape in shapes.items():
            self.register_buffer(name, torch.zeros(shape))

    @property
    def known(self) -> bool:
        return bool(self.spread.any())

    @torch.no_grad()
    def learn(self, pictures: Tensor, z: Tensor, drawn: Tensor, stored: Tensor) -> None:
        """From pooled features of all pictures [n, C], and of what is drawn now of z [DRAWN, z_dim].

        Of that, [DRAWN, C], as it is drawn and as the codec stores it: the same where there is none.
        """
        self.mean.copy_(pictures.mean(0))
        self.spread.copy_(pictures.std(0).clamp_min(LEAST_SPREAD))
        theirs, ours = self._standard(pictures), self._standard(stored)
        self.z.copy_(z)
        noise = NOISE * torch.eye(len(self.mean), dtype=torch.float64, device=self.mean.device)
        way = transport(ours.T.cov() + noise, theirs.T.cov() + noise)
        there = (ours - ours.mean(0)) @ way.to(ours)
        self.wanted.copy_(self._standard(drawn) + there - ours)

    def forward(self, maps: list[Tensor], index: Tensor) -> Tensor:
        """How far drawings of `z[index]` are off, of maps [n, C_i, h_i, w_i]: squared, each scale's mean, summed."""
        off = (self._standard(pooled(maps)) - self.wanted[index]).square()
        return torch.stack([part.mean() for part in off.split(self.sizes, 1)]).sum()

    def _standard(self, rows: Tensor) -> Tensor:
        return (rows - self.mean) / self.spread


def pooled(maps: list[Tensor]) -> Tensor:
    """Maps [n, C_i, h_i, w_i] -> their means [n, sum of C_i]."""
    return torch.cat([m.float().mean((2, 3)) for m in maps], 1)
