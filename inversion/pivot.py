"""The pivot: the latent whose picture is nearest to a face, by optimisation (Karras et al. 2020, arXiv 1912.04958,
appendix D; Roich et al. 2021, PTI, arXiv 2106.05744, section 3.1).

Ours differs in four ways. The default space is W+, a row of its own for each layer; a pull towards the mean
latent takes the place of PTI's choice of W, and keeps the pivot where edits work. There is no noise to optimise,
since our networks' noise is constant, and none is added to the latent. So the loss is a smooth function, and is
searched by a quasi-Newton method, which begins with the curvature that comes with an encoder, where there is one: from
there it needs a quarter to half of Adam's steps. Images are [1, 3, H, W] in [-1, 1], latents [num_ws, w_dim].
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from inversion.quasi_newton import QuasiNewton
from weights import Generator, Perceptual, fast_copy, fast_products

STEPS, ENCODED_STEPS = 50, 25
FIRST = 0.1  # how far the latent moves at first, root mean square, in units of the generator's spread of W


@dataclass(frozen=True)
class PivotConfig:
    """How the pivot is searched."""

    space: Literal["w+", "w"] = "w+"
    """w+: one row per layer, nearer to the photo; w: one row for all, easier to edit."""
    steps: int | None = None
    """By default 50 from the mean latent, 25 from an encoder's."""
    pixel_weight: float = 3.0
    """Weight of the mean squared pixel difference, beside the perceptual distance."""
    mean_weight: float = 0.1
    """Weight of the mean squared distance to the mean latent, in units of the spread."""


@dataclass(frozen=True)
class PivotStep:
    """The best latent of `index` + 1 evaluations, and the score it had: the loss."""

    index: int
    limit: int
    score: float
    latent: Tensor  # [num_ws, w_dim]


@torch.inference_mode(False)
def pivot(
    generator: Generator,
    target: Tensor,
    perceptual: Perceptual,
    config: PivotConfig = PivotConfig(),
    start: Tensor | None = None,
) -> Iterator[PivotStep]:
    """Searches the latent that draws `target` [1, 3, H, W] from `start` [num_ws, w_dim], the mean latent if None."""
    target = target.detach().clone()  # leaves a caller's inference mode
    perceptual = perceptual.fast()
    described = perceptual.describe(target)
    synthesis = fast_copy(generator.network.synthesis, generator.device)
    mean, spread = generator.mean_latent, generator.spread
    limit = config.steps or (STEPS if start is None else ENCODED_STEPS)
    latent = (mean if start is None else start).detach().clone()
    if config.space == "w":
        latent = latent.mean(0, keepdim=True)
    known = generator.encoder.curvature if generator.encoder and config.space == "w+" else None
    search = QuasiNewton(latent.flatten(), FIRST * spread, known.inverse if known else Tensor.clone)

    for index in range(limit + 1):
        latent = search.trial.reshape(latent.shape).requires_grad_(True)  # [1 or num_ws, w_dim]
        with torch.enable_grad():
            with fast_products(generator.device):
                image = synthesis(latent.expand(generator.num_ws, -1)[None]).float()
            far = (latent - mean).square().mean() / spread**2
            loss = perceptual.distance(image, described).sum()
            loss = loss + config.pixel_weight * F.mse_loss(image, target) + config.mean_weight * far
        (gradient,) = torch.autograd.grad(loss, [latent])
        search.tell(loss.item(), gradient.flatten())
        best = search.point.reshape(latent.shape).expand(generator.num_ws, -1).clone()
        yield PivotStep(index, limit, search.value, best)
