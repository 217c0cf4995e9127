"""Differentiable augmentation of what the discriminator sees (Zhao et al. 2020, arXiv 2006.10738).

Drawn and real pictures go through the same changes, so the discriminator cannot learn few pictures by heart
and the generator does not learn the changes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

SHIFT = 1 / 8  # of the width, each way
CUTOUT = 1 / 2  # of the width: the side of the square left out
CUTOUT_SHARE = 0.3  # of the pictures


@dataclass(frozen=True)
class Augmentation:
    """One change for each of n pictures; the same value changes drawn and real pictures alike."""

    brightness: Tensor  # [n, 1, 1, 1], added
    saturation: Tensor  # [n, 1, 1, 1], factor
    contrast: Tensor  # [n, 1, 1, 1], factor
    shift: Tensor  # [n, 2], (x, y) as shares of the width
    cutout: Tensor  # [n, 2], the square's (x, y) centre as shares of the width; far outside: none
    noise: Tensor  # [n, 1, 1, 1], standard deviation
    seed: int  # of the noise

    def __call__(self, images: Tensor) -> Tensor:
        """Images [n, 3, R, R], changed."""
        images = images + self.brightness
        grey = images.mean(1, keepdim=True)
        images = grey + (images - grey) * self.saturation
        mean = images.mean((1, 2, 3), keepdim=True)
        images = mean + (images - mean) * self.contrast
        images = translate(images, self.shift) * self._mask(images)
        rng = torch.Generator(images.device).manual_seed(self.seed)
        return images + self.noise * torch.randn(images.shape, generator=rng, device=images.device)

    def _mask(self, images: Tensor) -> Tensor:
        """[n, 1, R, R], 0 in the square left out."""
        size = images.shape[-1]
        at = (torch.arange(size, device=images.device) + 0.5) / size
        inside = (at - self.cutout[:, :, None]).abs() < CUTOUT / 2  # [n, 2, R]
        return 1 - (inside[:, 0, None, :] & inside[:, 1, :, None]).unsqueeze(1).to(images.dtype)


def draw_augmentation(
    n: int, rng: torch.Generator, device: torch.device | str = "cpu", strength: float = 1.0, noise: float = 0.0
) -> Augmentation:
    """n changes, the same on every device but for the noise's numbers, for a state of `rng`, which is the CPU's.

    With less `strength` colours change less and fewer squares are left out; shifts stay. Noise is at most `noise`,
    and mostly much less.
    """

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return (torch.rand(n, *shape, generator=rng) * (high - low) + low).to(device)

    def about(middle: float, most: float) -> Tensor:
        return uniform(middle - strength * most, middle + strength * most, 1, 1, 1)

    none = uniform(0, 1, 1) > CUTOUT_SHARE * strength
    return Augmentation(
        brightness=about(0.0, 0.4),
        saturation=about(1.0, 0.7),
        contrast=about(1.0, 0.4),
        shift=uniform(-SHIFT, SHIFT, 2),
        cutout=uniform(0, 1, 2) + none * 9.0,
        noise=noise * uniform(0, 1, 1, 1, 1).square(),
        seed=int(torch.randint(2**62, (), generator=rng)),
    )


def translate(images: Tensor, shift: Tensor) -> Tensor:
    """Images [n, 3, R, R] moved by whole pixels, and mirrored where nothing was.

    Whole: resampling would blur. Mirrored: beside black, a frame that a generator draws round its pictures is not seen.
    """
    size = images.shape[-1]
    margin = round(size * SHIFT)
    padded = F.pad(images, (margin,) * 4, mode="reflect")
    starts = (margin - (shift * size).round()).long().tolist()
    return torch.stack([p[:, y : y + size, x : x + size] for p, (x, y) in zip(padded, starts, strict=True)])
