"""Whether all that is drawn, together, is spread as the pictures are: mean and covariance of frozen features.

A discriminator looks at one picture after another and asks each to look real. That all drawings lie to one side of the
pictures, too near together, or elsewhere than their codes say, it does not tell, and a batch is too small to see it.
So some are drawn. What a linear map from codes tells of the pictures' features is asked of theirs, and of the rest the
Gaussian: by the map that takes theirs to the pictures'. That is asked of the same latents for some thousand pictures.
What is asked until then does not depend on how the training goes: moments of what was drawn last, remembered, come too
late, and the generator swings. Asked forever, it would hold each drawing to the rest that it had once, and where it has
another by now the nearest is to vary less. So it is found anew then, from what is drawn.

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
    slopes: Tensor
    covariance: Tensor
    z: Tensor
    wanted: Tensor
    asked_at: Tensor

    def __init__(self, z_dim: int, channels: list[int]):
        super().__init__()
        self.sizes = list(channels)  # of each scale's part of a row of features
        n, codes = sum(channels), z_dim - 1
        shapes = {"mean": (n,), "spread": (n,), "slopes": (codes, n), "covariance": (n, n)}
        for name, shape in (shapes | {"z": (DRAWN, z_dim), "wanted": (DRAWN, n)}).items():
            self.register_buffer(name, torch.zeros(shape))
        self.register_buffer("asked_at", torch.tensor(-1))  # pictures drawn by then

    @property
    def known(self) -> bool:
        return bool(self.covariance.any())

    def asked(self, span: int, drawn: int) -> bool:
        """Whether something is asked already, for less than `span` of the `drawn` pictures."""
        at = int(self.asked_at)
        return at >= 0 and drawn < at + span

    @torch.no_grad()
    def learn(self, pictures: Tensor, codes: Tensor, noise: float) -> None:
        """From pooled features of all pictures [n, C] and their codes [n, z_dim - 1].

        `noise` is the variance of the noise by which a random code lies off a picture's.
        """
        self.mean.copy_(pictures.mean(0))
        self.spread.copy_(pictures.std(0).clamp_min(LEAST_SPREAD))
        theirs = centred(self._standard(pictures))
        self.slopes.copy_(slopes(centred(codes), theirs, noise))
        self.covariance.copy_(theirs.T.cov())

    @torch.no_grad()
    def ask(self, z: Tensor, drawn: Tensor, stored: Tensor, at: int) -> float:
        """From what is drawn of z, codes lengthened [DRAWN, z_dim]; `at` is the pictures that were drawn by then.

        Of it are the features [DRAWN, C] as it is drawn and as the codec stores it, the same where there is none.
        Returns how far off that is, as `forward` does.
        """
        self.z.copy_(z)
        known, ours = centred(z[:, :-1]), centred(self._standard(stored))
        told = known @ self.slopes.double()
        rest = ours - known @ slopes(known, ours)
        noise = NOISE * torch.eye(len(self.mean), dtype=torch.float64, device=self.mean.device)
        way = transport(rest.T.cov() + noise, self.covariance - told.T.cov() + noise)
        there = told + rest @ way
        self.wanted.copy_(self._standard(drawn) - self._standard(stored) + there)
        self.asked_at.fill_(at)
        return float(self._distance(self._standard(drawn) - self.wanted))

    def forward(self, maps: list[Tensor], index: Tensor) -> Tensor:
        """How far drawings of `z[index]` are off, of maps [n, C_i, h_i, w_i]: squared, each scale's mean, summed."""
        return self._distance(self._standard(pooled(maps)) - self.wanted[index])

    def _distance(self, off: Tensor) -> Tensor:
        return torch.stack([part.square().mean() for part in off.split(self.sizes, 1)]).sum()

    def _standard(self, rows: Tensor) -> Tensor:
        return (rows - self.mean) / self.spread


def centred(rows: Tensor) -> Tensor:
    return (rows - rows.mean(0)).double()


def slopes(codes: Tensor, rows: Tensor, noise: float = 0.0) -> Tensor:
    """Of centred rows [n, C] by centred codes [n, k] with noise of that variance besides: [k, C], least squares."""
    seen = codes.T @ codes / len(codes) + noise * torch.eye(codes.shape[1]).to(codes)
    return torch.linalg.pinv(seen, hermitian=True) @ (codes.T @ rows) / len(codes)


def pooled(maps: list[Tensor]) -> Tensor:
    """Maps [n, C_i, h_i, w_i] -> their means [n, sum of C_i]."""
    return torch.cat([m.float().mean((2, 3)) for m in maps], 1)
