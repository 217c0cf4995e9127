"""Makes a studio's pictures more like people's photos: in another light, which falls unevenly, before another ground.

For the encoder, to which a photo is otherwise like nothing that it was taught with.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

HEAD = (0.62, 0.82)  # half axes of an oval round the middle that is left as it is, of half the width
CROP = 0.45  # of the width: how much of another picture is enlarged to be a ground


def recoloured(images: Tensor, amount: float, rng: torch.Generator) -> Tensor:
    """Images [n, 3, R, R] in [-1, 1] in another light, some much.

    Contrast and brightness, of each channel half as much again, and a gamma.
    """
    strength = amount * torch.rand(len(images), 1, 1, 1, generator=rng)

    def changes(channels: int) -> Tensor:
        return ((torch.rand(len(images), channels, 1, 1, generator=rng) * 2 - 1) * strength).to(images)

    images = images * (1 + changes(3) / 2) + changes(3) / 2
    images = images * (1 + changes(1)) + changes(1) / 2
    return ((images.clamp(-1, 1) + 1) / 2).pow(changes(1).exp()) * 2 - 1


def shaded(images: Tensor, amount: float, rng: torch.Generator) -> Tensor:
    """Images [n, 3, R, R] in [-1, 1] in a light that is not the same everywhere, some much, and darker in the mean.

    The light's logarithm is a smooth field, its standard deviation `amount` at most; channels differ by a third of it.
    """
    n, size = len(images), images.shape[-1]
    strength = amount * torch.rand(n, 1, 1, 1, generator=rng)
    field = smooth_field(n, 1, 3, size, rng) + smooth_field(n, 3, 3, size, rng) / 3 - 0.5
    light = (strength * field).exp().to(images)
    return ((images + 1) / 2 * light).clamp(0, 1) * 2 - 1


def before_another_ground(images: Tensor, share: float, rng: torch.Generator) -> Tensor:
    """Images [n, 3, R, R], in a share of which patches beside the middle are of another one, enlarged, upside down."""
    n, size = len(images), images.shape[-1]
    crop = max(1, round(CROP * size))
    at = torch.randint(size - crop + 1, (n, 2), generator=rng).tolist()
    others = torch.cat(
        [
            F.interpolate(other[None, :, y : y + crop, x : x + crop].flip(2), (size, size), mode="bilinear")
            for other, (y, x) in zip(images.roll(1, 0), at, strict=True)
        ]
    )
    x, y = torch.meshgrid(*[torch.linspace(-1, 1, size)] * 2, indexing="xy")
    beside = ((x / HEAD[0]) ** 2 + (y / HEAD[1]) ** 2 - 1).mul(2).clamp(0, 1)
    patches = smooth_field(n, 1, 4, size, rng) + 1.2 * torch.randn(n, 1, 1, 1, generator=rng) + 0.3
    some = torch.rand(n, 1, 1, 1, generator=rng) < share
    return images.lerp(others, (beside * (8 * patches).sigmoid() * some).to(images))


def smooth_field(n: int, channels: int, cells: int, size: int, rng: torch.Generator) -> Tensor:
    """[n, channels, size, size], normal numbers at `cells` places each way, and smooth between."""
    cells_of = torch.randn(n, channels, cells, cells, generator=rng)
    return F.interpolate(cells_of, (size, size), mode="bicubic", align_corners=True)
