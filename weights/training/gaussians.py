"""Covariances, and the maps between them."""

from __future__ import annotations

import torch
from torch import Tensor


def root(covariance: Tensor, power: float) -> Tensor:
    """A power of a covariance [k, k]; of directions in which nothing varies, as of those that vary least."""
    variance, axes = torch.linalg.eigh(covariance.double())
    variance = variance.clamp_min(1e-6 * float(variance[-1]))
    return ((axes * variance**power) @ axes.T).to(covariance)


def transport(ours: Tensor, theirs: Tensor) -> Tensor:
    """The symmetric map [k, k] by which points of covariance `ours` get `theirs` (Knott and Smith 1984)."""
    half, back = root(ours, 0.5), root(ours, -0.5)
    return back @ root(half @ theirs @ half, 0.5) @ back
