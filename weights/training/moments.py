"""Whether all that is drawn, together, is spread as the pictures are: mean and covariance of frozen features.

A discriminator looks at one picture after another and asks each to look real. That all drawings lie to one side of the
pictures, too near together, or elsewhere than their codes say, it does not tell, and a batch is too small to see it.
So some are drawn. What a linear map from codes tells of the pictures' features is asked of theirs, and of the rest the
Gaussian: by the map that takes theirs to the pictures'. That is asked of the same latents for some thousand pictures.
What is asked until then does not depend on how the training goes: moments of what was drawn last, remembered, come too
late, and the generator swings. Asked forever, it would hold each drawing to the rest that it had once, and where it has
another by now the nearest is to vary less. So it is found anew then, from what is drawn.

Of what a good generator is off, three quarters are what codes tell, and beside that it learns little else. So each of
mean, told and rest may be asked to go farther than is missing, or less far, and the smaller ones are heard.

Averaged over the picture, features do not tell where in it something is missing. So of the maps in the middle, where a
feature is a part of a face and not yet all of it, what codes tell is asked for in each of 4 x 4 places as well; there
are too many of those for a covariance, and of the rest each is to be spread as it is in pictures.

Pictures came out of a lossy codec, so it is through it that drawings are compared with them. What it does to one
drawing, though, is mostly chance: a change of a third of a level moves the coarsest features by a fifth of a deviation.
So the way that a drawing has to go is found through the codec, and asked of the drawing as it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from weights.training.gaussians import transport

DRAWN = 2048  # latents
GRID = 4  # places a side
WIDEST = 1.25  # how much wider the rest of a feature in a place is asked to be at once
LEAST_SPREAD = 1e-4  # of a feature, that it be divided by
NOISE = 1.0  # variance added to that of all features, which is 1 in the mean: where they vary less, too little is known


@dataclass(frozen=True)
class Beyond:
    """How many times the way that is missing is asked for; 0: to stay."""

    mean: float = 1.0  # to the pictures' mean
    told: float = 1.0  # to what codes tell
    rest: float = 1.0  # to the spread of what they do not


AS_MISSING = Beyond()


class Moments(nn.Module):
    """Latents, and the features, a row of them, that what is drawn from each should have.

    Those are in deviations from the pictures' mean, in units of the pictures' spread. `like` are maps of any picture.
    """

    mean: Tensor
    spread: Tensor
    slopes: Tensor
    covariance: Tensor
    rest: Tensor
    z: Tensor
    wanted: Tensor
    asked_at: Tensor

    def __init__(self, z_dim: int, like: list[Tensor]):
        super().__init__()
        self.sizes = [part.shape[1] for part in parts_of(like)]  # of each part of a row
        self.pooled = sum(m.shape[1] for m in like)  # of those the first, all parts of whole pictures
        n, codes = sum(self.sizes), z_dim - 1
        shapes = {"mean": (n,), "spread": (n,), "slopes": (codes, n), "rest": (n,)}
        shapes["covariance"] = (self.pooled, self.pooled)
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
        """From rows of all pictures [n, C] and their codes [n, z_dim - 1].

        `noise` is the variance of the noise by which a random code lies off a picture's.
        """
        self.mean.copy_(pictures.mean(0))
        self.spread.copy_(pictures.std(0).clamp_min(LEAST_SPREAD))
        known, theirs = centred(codes), centred(self._standard(pictures))
        self.slopes.copy_(slopes(known, theirs, noise))
        self.covariance.copy_(theirs[:, : self.pooled].T.cov())
        self.rest.copy_(size_of(theirs - known @ slopes(known, theirs)))

    @torch.no_grad()
    def ask(self, z: Tensor, drawn: Tensor, stored: Tensor, at: int, beyond: Beyond = AS_MISSING) -> dict[str, float]:
        """From what is drawn of z, codes lengthened [DRAWN, z_dim]; `at` is the pictures that were drawn by then.

        Of it are the rows [DRAWN, C] as it is drawn and as the codec stores it, the same where there is none.
        Returns how far "off" it is, as `forward` does, and in each part of the way, however far `beyond` asks.
        """
        self.z.copy_(z)
        seen = self._standard(stored)
        known, ours = centred(z[:, :-1]), centred(seen)
        heard, told = known @ slopes(known, ours), known @ self.slopes.double()
        rest, n = ours - heard, self.pooled
        noise = NOISE * torch.eye(n, dtype=torch.float64, device=self.mean.device)
        way = transport(rest[:, :n].T.cov() + noise, self.covariance - told[:, :n].T.cov() + noise)
        wider = (self.rest[n:] / size_of(rest[:, n:]).clamp_min(LEAST_SPREAD)).clamp(1 / WIDEST, WIDEST)
        to_mean, to_told = -seen.mean(0), told - heard
        to_rest = torch.cat([rest[:, :n] @ way, rest[:, n:] * wider], 1) - rest
        asked = beyond.mean * to_mean + beyond.told * to_told + beyond.rest * to_rest
        self.wanted.copy_(self._standard(drawn) + asked)
        self.asked_at.fill_(at)
        ways = {"off": to_mean + to_told + to_rest, "off_mean": to_mean[None], "off_told": to_told, "off_rest": to_rest}
        return {name: float(self._distance(way)) for name, way in ways.items()}

    def forward(self, maps: list[Tensor], index: Tensor) -> Tensor:
        """How far drawings of `z[index]` are off, of maps [n, C_i, h_i, w_i]: squared, each part's mean, summed."""
        return self._distance(self._standard(row_of(maps)) - self.wanted[index])

    def _distance(self, off: Tensor) -> Tensor:
        return torch.stack([part.square().mean() for part in off.split(self.sizes, 1)]).sum()

    def _standard(self, rows: Tensor) -> Tensor:
        return (rows - self.mean) / self.spread


def centred(rows: Tensor) -> Tensor:
    return (rows - rows.mean(0)).double()


def size_of(rows: Tensor) -> Tensor:
    """The root mean square of each column."""
    return rows.square().mean(0).sqrt()


def slopes(codes: Tensor, rows: Tensor, noise: float = 0.0) -> Tensor:
    """Of centred rows [n, C] by centred codes [n, k] with noise of that variance besides: [k, C], least squares."""
    seen = codes.T @ codes / len(codes) + noise * torch.eye(codes.shape[1]).to(codes)
    return torch.linalg.pinv(seen, hermitian=True) @ (codes.T @ rows) / len(codes)


def row_of(maps: list[Tensor]) -> Tensor:
    """Maps [n, C_i, h_i, w_i] -> a row of features for each picture [n, C]."""
    return torch.cat(parts_of(maps), 1)


def parts_of(maps: list[Tensor]) -> list[Tensor]:
    """Each map's mean [n, C_i], then of those two and four times as coarse as the finest the means of GRID^2 places."""
    middle = [m for m in maps if maps[0].shape[-1] // m.shape[-1] in (2, 4)]
    return [m.float().mean((2, 3)) for m in maps] + [F.adaptive_avg_pool2d(m.float(), GRID).flatten(1) for m in middle]
