"""A projected discriminator (Sauer et al. 2021, arXiv 2111.01007): small heads on frozen features.

The features are mixed across channels and scales by random convolutions that are never trained, so a head
cannot dwell on the few channels that tell drawn from real most easily. Only the heads learn, which takes
minutes instead of days. Features are of every fourth pixel at the finest, and let dots and grids pass that a
person sees at once: so one more head looks at the pixels themselves.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

WIDTH = 64  # channels after the projection
GROUPS = 8


class Discriminator(nn.Module):
    """Feature maps, fine to coarse, and the images [n, 3, R, R] that they are of -> how real each place looks, at each
    scale and to the head of the pixels: logits [n, 1, h_i, w_i].

    Where pictures are seen in several `views`, which take turns in a batch, each view has heads of its own, and the
    logits are those of the first view's pictures, then those of the next; pixels count in the last view alone, the
    nearest.
    """

    def __init__(self, channels: list[int], seed: int = 0, views: int = 1):
        super().__init__()
        self.views = views
        rng = torch.Generator().manual_seed(seed)
        for i, n_in in enumerate(channels):
            self.register_buffer(f"project{i}", torch.randn(WIDTH, n_in, 1, 1, generator=rng) / n_in**0.5)
            self.register_buffer(f"mix{i}", torch.randn(WIDTH, WIDTH, 3, 3, generator=rng) / (9 * WIDTH) ** 0.5)
        self.heads = nn.ModuleList(head() for _ in range(views) for _ in channels)
        self.grain = grain_head()

    def forward(self, maps: list[Tensor], images: Tensor) -> list[Tensor]:
        logits = [
            torch.cat([self.heads[len(maps) * view + i](x[view :: self.views]) for view in range(self.views)])
            for i, x in enumerate(self.mixed(maps))
        ]
        return [*logits, self.grain(images[self.views - 1 :: self.views])]

    def alone(self) -> Discriminator:
        """A new one of a single view, on the same features."""
        one = copy.deepcopy(self)
        one.views, one.heads = 1, one.heads[: len(one.heads) // self.views]
        return one

    def begin_with(self, one: Discriminator) -> None:
        """The heads of `one`, which knows a single view, for each of the views, and what they look through."""
        for name, mixing in one.named_buffers(recurse=False):
            self.get_buffer(name).copy_(mixing)
        for i, own in enumerate(self.heads):
            own.load_state_dict(one.heads[i % len(one.heads)].state_dict())
        self.grain.load_state_dict(one.grain.state_dict())

    def mixed(self, maps: list[Tensor]) -> list[Tensor]:
        """Each scale's projection, with all coarser ones added before a random 3x3 convolution."""
        out: list[Tensor] = []
        above: Tensor | None = None
        for i in reversed(range(len(maps))):
            x = F.conv2d(maps[i], self.get_buffer(f"project{i}"))
            if above is not None:
                x = (x + F.interpolate(above, size=x.shape[-2:])) * 0.5**0.5
            above = F.conv2d(x, self.get_buffer(f"mix{i}"), padding=1)
            out.insert(0, above)
        return out


def head() -> nn.Sequential:
    """Of one scale's features."""
    return nn.Sequential(*layer(WIDTH, WIDTH), *layer(WIDTH, WIDTH), logit())


def grain_head() -> nn.Sequential:
    """Of pixels, in cells of two by two: each logit is of some 18 x 18 of them."""
    layers = *layer(12, WIDTH // 2), *layer(WIDTH // 2, WIDTH, stride=2), *layer(WIDTH, WIDTH)
    return nn.Sequential(nn.PixelUnshuffle(2), *layers, logit())


def layer(n_in: int, n_out: int, stride: int = 1) -> list[nn.Module]:
    """Spectral normalisation (Miyato et al. 2018, arXiv 1802.05957) bounds the gradient a head can give.

    Without group normalisation (Wu and He 2018, arXiv 1803.08494) it bounds the scores too, at the features' scale:
    in the same steps such a head tells half as much.
    """
    conv = spectral_norm(nn.Conv2d(n_in, n_out, 3, padding=1, stride=stride))
    return [conv, nn.GroupNorm(GROUPS, n_out), nn.LeakyReLU(0.2)]


def logit() -> nn.Module:
    return spectral_norm(nn.Conv2d(WIDTH, 1, 1))


def heads_loss(real: list[Tensor], drawn: list[Tensor]) -> Tensor:
    """The hinge loss, summed over scales: 0 from one that knows all pictures, 2 from one that knows none."""
    terms = [F.relu(1 - r).mean() + F.relu(1 + d).mean() for r, d in zip(real, drawn, strict=True)]
    return torch.stack(terms).sum()


def drawn_loss(drawn: list[Tensor]) -> Tensor:
    """What the generator lowers."""
    return -torch.stack([d.mean() for d in drawn]).sum()
