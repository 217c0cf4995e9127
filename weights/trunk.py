"""Chains of inverted residual blocks (Sandler et al. 2018, arXiv 1801.04381), their batch normalisations folded in.

MobileNetV2 and EfficientNet-Lite0, 1 and 2 are four of them. Training compares pictures in their frozen features, and
the encoder grows out of the first.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STEM = 32  # channels of the first convolution, of stride 2


@dataclass(frozen=True)
class Layout:
    """What distinguishes one chain from another."""

    blocks: tuple[tuple[int, int, int, int, int], ...]  # expansion, channels, repeats, stride of the first, kernel
    taps: tuple[int, ...]  # blocks after which features are taken, at strides 4, 8, 16 and 32
    mean: tuple[float, float, float]  # of the pictures it learned from, black 0 and white 1
    std: tuple[float, float, float]
    same: bool  # TensorFlow's padding


MOBILENET_V2 = Layout(
    blocks=(
        (1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 32, 3, 2, 3), (6, 64, 4, 2, 3), (6, 96, 3, 1, 3), (6, 160, 3, 2, 3),
        (6, 320, 1, 1, 3),
    ),
    taps=(2, 5, 12, 16),  # 24, 32, 96, 320 channels
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    same=False,
)  # fmt: skip


def lite(
    depths: tuple[int, int, int, int, int], widths: tuple[int, int, int, int, int, int], taps: tuple[int, ...]
) -> Layout:
    """An EfficientNet-Lite, with so many blocks of each kind but the first and the last, and their channels."""
    a, b, c, d, e = depths
    u, v, w, x, y, z = widths
    return Layout(
        blocks=(
            (1, 16, 1, 1, 3), (6, u, a, 2, 3), (6, v, b, 2, 5), (6, w, c, 2, 3), (6, x, d, 1, 5), (6, y, e, 2, 5),
            (6, z, 1, 1, 3),
        ),
        taps=taps,
        # The packages say nothing; the TensorFlow original takes (byte - 127) / 128, and with the other network's
        # numbers the activations leave the range that the batch normalisations know.
        mean=(127 / 255,) * 3,
        std=(128 / 255,) * 3,
        same=True,
    )  # fmt: skip


NARROW, WIDE = (24, 40, 80, 112, 192, 320), (24, 48, 88, 120, 208, 352)
EFFICIENTNET_LITE0 = lite((2, 2, 3, 3, 4), NARROW, taps=(2, 4, 10, 15))
EFFICIENTNET_LITE1 = lite((3, 3, 4, 4, 5), NARROW, taps=(3, 6, 14, 20))
EFFICIENTNET_LITE2 = lite((3, 3, 4, 4, 5), WIDE, taps=(3, 6, 14, 20))


class Conv(nn.Module):
    """A convolution; then ReLU6, except where a block ends."""

    def __init__(
        self, n_in: int, n_out: int, kernel: int, *, relu: bool, stride: int = 1, groups: int = 1, same: bool = False
    ):
        super().__init__()
        self.weight = nn.Parameter(nn.init.kaiming_normal_(torch.empty(n_out, n_in // groups, kernel, kernel)))
        self.bias = nn.Parameter(torch.zeros(n_out))
        self.relu, self.stride, self.groups = relu, stride, groups
        self.uneven = same and stride > 1
        self.padding = 0 if self.uneven else kernel // 2

    @torch.no_grad()
    def fold(self, weight: Tensor, norm: list[Tensor], eps: float) -> None:
        """Takes a convolution's weight and the batch normalisation behind it: gamma, beta, mean, variance."""
        gamma, beta, mean, variance = norm
        scale = gamma * (variance + eps).rsqrt()
        self.weight.copy_(weight * scale[:, None, None, None])
        self.weight.data = self.weight.data.contiguous(memory_format=torch.channels_last)
        self.bias.copy_(beta - mean * scale)

    def forward(self, x: Tensor) -> Tensor:
        if self.uneven:
            x = padded(x, self.weight.shape[-1], self.stride)
        # Back through a strided depthwise convolution, the CPU needs 7 to 70 times longer in bfloat16 than in float32.
        single = self.groups > 1 and self.stride > 1 and x.device.type == "cpu"
        with torch.autocast("cpu", enabled=False) if single else nullcontext():
            x = x.float() if single else x
            x = F.conv2d(x, self.weight, self.bias, self.stride, self.padding, groups=self.groups)
        return F.relu6(x) if self.relu else x


def padded(x: Tensor, kernel: int, stride: int) -> Tensor:
    """TensorFlow's "same" padding with zeros: where the sum is odd, behind gets one more than before."""
    sides: list[int] = []
    for size in (x.shape[3], x.shape[2]):
        total = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
        sides += [total // 2, total - total // 2]
    return F.pad(x, sides)


class Trunk(nn.Module):
    """Images [n, 3, H, W] in [-1, 1] -> the four feature maps of a layout."""

    mean: Tensor
    std: Tensor

    def __init__(self, layout: Layout):
        super().__init__()
        self.taps = layout.taps
        self.register_buffer("mean", torch.tensor(layout.mean)[:, None, None] * 2 - 1, persistent=False)
        self.register_buffer("std", torch.tensor(layout.std)[:, None, None] * 2, persistent=False)
        self.stem = Conv(3, STEM, 3, relu=True, stride=2, same=layout.same)
        self.blocks = nn.ModuleList()
        n_in = STEM
        for expansion, channels, repeats, first, kernel in layout.blocks:
            for i in range(repeats):
                wide, stride = n_in * expansion, first if i == 0 else 1
                expand = [] if expansion == 1 else [Conv(n_in, wide, 1, relu=True)]
                depthwise = Conv(wide, wide, kernel, relu=True, stride=stride, groups=wide, same=layout.same)
                self.blocks.append(nn.Sequential(*expand, depthwise, Conv(wide, channels, 1, relu=False)))
                n_in = channels

    def convolutions(self) -> Iterator[Conv]:
        """In the order in which pictures pass them."""
        return (module for module in self.modules() if isinstance(module, Conv))

    def forward(self, images: Tensor) -> list[Tensor]:
        x = self.stem((images - self.mean) / self.std)
        maps = []
        for i, block in enumerate(self.blocks):
            y = block(x)
            x = x + y if y.shape == x.shape else y
            if i in self.taps:
                maps.append(x)
        return maps
