"""Pivotal tuning: bend the generator until the pivot draws the face (Roich et al. 2021, arXiv 2106.05744, eq. 3-6).

The pivot stays; the weights move, and with them the faces around the pivot, so edits of the pivot are edits of
this person. Optional locality regularisation (section 3.3) holds the generator as it was a little away from the
pivot. PTI's official code tunes the mapping network too, which gets no gradient: here only the synthesis moves. And
the face counts more than what is around it, since it is the face that must be this person's; and the coarse
convolutions move less than the fine ones, since edits live on what they know.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from weights import Generator, Perceptual, fast_copy, fast_products

STEPS = 220
COARSE = 32  # px
FACE = (0.5, 0.525), (0.21, 0.25)
"""Where a face aligned as FFHQ lies, in shares of the side: the middle (x, y) of a bell, and how far out it is 1/e."""


@dataclass(frozen=True)
class TuneConfig:
    """How the generator is tuned."""

    steps: int | None = None
    """By default 220, and twice as many where the drawing is not `near` in time, as of curls. PTI: 350."""
    near: float = 27.0
    """Peak signal-to-noise ratio of all the picture, in dB."""
    learning_rate: float = 3e-3
    """Adam's. PTI takes 3e-4 for 512 channels; a small network moves less for the same step. Much more than this
    fits as fast, but spoils what drags need: that the face moves as a face."""
    coarse_rate: float = 0.3
    """Share of that rate for the convolutions up to 32 px, which hold how a face moves. 1: all alike, as in PTI."""
    pixel_weight: float = 10.0
    """Weight of the mean squared pixel difference, beside the perceptual distance. PTI: 1, with LPIPS."""
    ramp_down: float = 0.15
    """Share of the steps, at the end, in which the rate falls to 0: without, the last step may be off by half a dB."""
    view: float = 0.75
    """Share of the picture's side, in its middle, that the perceptual distance looks at: the face of a picture
    aligned as FFHQ, seen larger. 1: all of it, as in PTI."""
    face_weight: float = 4.0
    """How much more a pixel in the middle of the face counts in the pixel difference than one far from it, whose
    weight is 1 before all are scaled to a mean of 1. 0: all alike, as in PTI."""
    enough: float = 0.003
    """Perceptual distance at which tuning ends, if the drawing is `near` too or `steps` are given. PTI: 0.06, with
    LPIPS."""
    locality_weight: float = 0.0
    """Weight of the locality regularisation; 0 leaves it out, PTI uses 0.1 when it is on."""
    locality_distance: float = 30.0
    """How far from the pivot it looks, as the length of the difference over all rows."""
    seed: int = 0
    """Of the latents that the regularisation draws."""

    @property
    def planned(self) -> int:
        """How many steps are meant at first."""
        return STEPS if self.steps is None else self.steps


@dataclass(frozen=True)
class TuneStep:
    """The weights after `index` updates, and the score they had: the perceptual distance."""

    index: int
    limit: int
    score: float
    weights: dict[str, Tensor]  # the synthesis network's parameters, a copy
    arrived: bool


@torch.inference_mode(False)
def tune(
    generator: Generator,
    latent: Tensor,
    target: Tensor,
    perceptual: Perceptual,
    config: TuneConfig = TuneConfig(),
) -> Iterator[TuneStep]:
    """Tunes a copy of the generator to draw `target` [1, 3, H, W] at `latent` [num_ws, w_dim]."""
    latent, target = latent.detach().clone(), target.detach().clone()  # leaves a caller's inference mode
    perceptual = perceptual.fast()
    described, weight = perceptual.describe(_middle(target, config.view)), _pixel_weight(target, config.face_weight)
    synthesis = fast_copy(generator.network.synthesis, generator.device).requires_grad_(True)
    parameters = dict(synthesis.named_parameters())
    # A memory of a hundred steps: of a thousand, Adam's own, the large steps of the start would slow all of them.
    optimizer = torch.optim.Adam(
        [{"params": [values], "lr": _rate(name, config)} for name, values in parameters.items()], betas=(0.9, 0.99)
    )
    limit = config.planned
    judged = round(limit * (1 - config.ramp_down))
    rates = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda index: falling(index / max(limit, 1), config.ramp_down))

    for index in itertools.count():
        with torch.enable_grad():
            with fast_products(generator.device):
                image = synthesis(latent[None]).float()
            distance = perceptual.distance(_middle(image, config.view), described).sum()
            loss = distance + config.pixel_weight * ((image - target).square() * weight).mean()
            if config.locality_weight:
                loss = loss + config.locality_weight * _locality(
                    generator, synthesis, latent, perceptual, config, index
                )
        psnr = math.inf if config.steps is not None else _psnr(image, target)  # who asks for steps gets those
        arrived = distance.item() <= config.enough and psnr >= config.near
        if index == judged and psnr < config.near:
            limit = 2 * config.planned
        # A copy, so that a step stays what it was: 11 MB embedded, 113 MB at 1024 px, under a hundredth of a step.
        weights = {
            name: parameter.detach().clone(memory_format=torch.contiguous_format)
            for name, parameter in parameters.items()
        }
        yield TuneStep(index, limit, distance.item(), weights, arrived)
        if arrived or index >= limit:
            return
        for parameter, gradient in zip(
            parameters.values(), torch.autograd.grad(loss, list(parameters.values())), strict=True
        ):
            parameter.grad = gradient
        optimizer.step()
        rates.step()


def _rate(name: str, config: TuneConfig) -> float:
    """The learning rate of the synthesis network's parameter of that name."""
    block, layer, *_ = name.split(".")  # as b32.conv0.weight
    moves = int(block.removeprefix("b")) <= COARSE and layer != "torgb"
    return config.learning_rate * (config.coarse_rate if moves else 1.0)


def _psnr(image: Tensor, target: Tensor) -> float:
    """Of images in [-1, 1], in dB."""
    return -10 * math.log10(F.mse_loss(image.detach(), target).item() / 4 + 1e-12)


def _middle(images: Tensor, share: float) -> Tensor:
    """The middle of images [1, 3, R, R]: that share of their sides."""
    rim = round(images.shape[-1] * (1 - share) / 2)
    return images[..., rim : images.shape[-2] - rim, rim : images.shape[-1] - rim]


def _pixel_weight(target: Tensor, face_weight: float) -> Tensor:
    """How much each pixel of a face [1, 3, R, R] aligned as FFHQ counts, [R, R] with a mean of 1."""
    y, x = (torch.arange(n, device=target.device) / n for n in target.shape[-2:])
    (middle_x, middle_y), (wide, high) = FACE
    face = torch.exp(-((x[None] - middle_x) / wide).square() - ((y[:, None] - middle_y) / high).square())
    weight = 1 + face_weight * face
    return weight / weight.mean()


def _locality(
    generator: Generator,
    tuned: nn.Module,
    latent: Tensor,
    perceptual: Perceptual,
    config: TuneConfig,
    index: int,
) -> Tensor:
    """How much the tuned network departs from the old one at a random latent near the pivot (PTI, eq. 5)."""
    away = generator.sample(1, seed=config.seed + index, psi=0.5)[0] - latent
    near = latent + away * (config.locality_distance / away.norm())
    with fast_products(generator.device):
        before = generator.render(near[None]).float().detach()
        after = tuned(near[None]).float()
    return perceptual(after, before).sum() + F.mse_loss(after, before)


def falling(t: float, share: float) -> float:
    """A learning rate's factor at time t in [0, 1]: 1, and in the last share of the time down to 0 in a cosine."""
    down = min(1.0, (1.0 - t) / share) if share else 1.0
    return 0.5 - 0.5 * math.cos(math.pi * down)
