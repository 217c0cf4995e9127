"""Measures how steep the pivot's loss is, along which ways of a latent (see weights.curvature).

A gradient a little way from a drawing's own latent is the second derivatives times that way. So the products of many
such gradients, at random ways, come in the mean to the second derivatives' square.
"""

from __future__ import annotations

import torch
from torch import Tensor
from tqdm import tqdm

from weights.curvature import Curvature
from weights.generator import Generator
from weights.perceptual import Perceptual
from weights.precision import fast_copy, fast_products

PICTURES = 600  # of twice as many the pivots are as near
WAYS = 128  # with four times as many one photo of four came 8 % nearer; the encoder's file would be 2.8 MB larger
LEAST = 0.01  # of the last way's: as how steep numbers count at least, of which no gradient told anything
BATCH = 4
BESIDE = 0.3  # spreads of W that latents lie beside mapped ones, as photos' do
AWAY = 0.4  # spreads of W from a drawing's latent to where the gradient is taken, for each number of it


def measure_curvature(
    generator: Generator, perceptual: Perceptual, pixel_weight: float, pictures: int = PICTURES
) -> Curvature:
    """Of the perceptual distance and the mean squared pixel difference of that weight, in the mean over drawings."""
    perceptual, synthesis = perceptual.fast(), fast_copy(generator.network.synthesis, generator.device)
    rng = torch.Generator().manual_seed(0)
    gradients = []

    def noise(like: Tensor, amount: float) -> Tensor:
        return amount * generator.spread * torch.randn(like.shape, generator=rng).to(like)

    for seed in tqdm(range(pictures // BATCH), "how steep latents are", unit_scale=BATCH, unit="pic"):
        ws = generator.sample(BATCH, seed)
        ws = ws + noise(ws, BESIDE)
        away = (ws + noise(ws, AWAY)).requires_grad_(True)
        with fast_products(generator.device):
            with torch.no_grad():
                target = synthesis(ws).float()
            drawn = synthesis(away).float()
        distance = perceptual(drawn, target).sum() + pixel_weight * (drawn - target).square().mean((1, 2, 3)).sum()
        gradients.append(torch.autograd.grad(distance, away)[0].flatten(1))
    return fitted(torch.cat(gradients), AWAY * generator.spread, generator.spread)


def fitted(gradients: Tensor, away: float, spread: float) -> Curvature:
    """From gradients [m, n], each at a random way from where they are zero whose numbers are `away` large."""
    gradients = gradients.double() / away * spread**2
    _, lengths, ways = torch.linalg.svd(gradients, full_matrices=False)
    k = min(WAYS, len(lengths))
    curvature = Curvature(k, gradients.shape[1])
    curvature.ways.copy_(ways[:k])
    curvature.values.copy_(lengths[:k] / len(gradients) ** 0.5)
    beside = gradients - gradients @ ways[:k].T @ ways[:k]
    curvature.rest.copy_(beside.square().mean(0).sqrt().clamp_min(LEAST * curvature.values[-1]))
    return curvature.to(gradients.device)
