"""Perceptual distances: LPIPS (Zhang et al. 2018, arXiv 1801.03924) and its shift-tolerant form ST-LPIPS
(Ghildyal and Liu 2022, arXiv 2207.13686).

Both compare, at several depths of a trained classifier, feature vectors of unit length, and weigh the squared
differences channel by channel. Images are [n, 3, H, W] in [-1, 1]. The two are different measures: an ST-LPIPS
figure is never called LPIPS.
"""

from __future__ import annotations

import copy
import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from weights.hub import WeightsMissing, fetch
from weights.precision import channels_last, product_type
from weights.registry import LPIPS_TRUNKS

log = logging.getLogger(__name__)

PerceptualName = Literal["auto", "lpips-alex", "lpips-vgg", "lpips-squeeze", "st-lpips-vgg", "st-lpips-alex"]


@dataclass(frozen=True)
class Perceptual:
    """One perceptual distance: the trunk's feature maps, and one weight per channel for each."""

    name: str
    taps: Callable[[Tensor], list[Tensor]]  # images -> feature maps [n, C_k, H_k, W_k]
    heads: list[Tensor]  # [1, C_k, 1, 1]
    size: int = 256  # larger images are averaged down to this many pixels a side: the cost goes with its square
    dtype: torch.dtype = torch.float32  # in which the trunk multiplies

    def describe(self, images: Tensor) -> list[Tensor]:
        """The unit feature vectors of images; those of a target are computed once and kept."""
        if images.shape[-1] > self.size:
            images = F.interpolate(images, size=(self.size, self.size), mode="area")
        maps = (x.float() for x in self.taps(images.to(self.dtype)))
        return [x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10) for x in maps]

    def distance(self, images: Tensor, target: list[Tensor]) -> Tensor:
        """The distance [n] of images to a described target."""
        pairs = zip(self.describe(images), target, self.heads, strict=True)
        return torch.stack([((x - t).square() * head).sum(1).mean([1, 2]) for x, t, head in pairs]).sum(0)

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        return self.distance(a, self.describe(b))

    def fast(self) -> Perceptual:
        """For loops: the same in bfloat16, good to two digits, where that is faster."""
        dtype = product_type(self.heads[0].device)
        if dtype == self.dtype or not isinstance(self.taps, nn.Module):
            return self
        taps = channels_last(copy.deepcopy(self.taps).to(dtype))
        return replace(self, taps=taps, dtype=dtype)


def perceptual_size(resolution: int) -> int:
    """The size at which pictures of that many pixels compare: a quarter, PTI's 256 for 1024, but 64 to 256 pixels.

    Half of 256 pixels takes twice as long, and in as many steps both pixels and identity come less near.
    """
    return min(resolution, 256, max(64, resolution // 4))


@torch.inference_mode(False)
def load_perceptual(
    name: PerceptualName, device: torch.device | str = "cpu", *, size: int = 256, offline: bool = False
) -> Perceptual:
    """The distance of that name, looking at images of at most `size` pixels a side.

    "auto" is LPIPS (Alex) where its trunk can be had, else ST-LPIPS (VGG), and the log says which.
    Raises WeightsMissing or WeightsCorrupt.
    """
    if name == "auto":
        try:
            return load_perceptual("lpips-alex", device, size=size, offline=offline)
        except WeightsMissing as missing:
            log.info("LPIPS is not at hand (%s): ST-LPIPS is used instead", missing)
            return load_perceptual("st-lpips-vgg", device, size=size)
    kind, _, net = name.rpartition("-")
    loaded = _lpips(net, offline) if kind == "lpips" else _st_lpips(net)
    log.info("perceptual distance: %s, at %d px", loaded.name, size)
    assert isinstance(loaded.taps, nn.Module)
    return Perceptual(loaded.name, loaded.taps.to(device), [head.to(device) for head in loaded.heads], size)


# --- LPIPS, from the lpips package ---------------------------------------------------------------------------


class LpipsTaps(nn.Module):
    """The trunk of an `lpips.LPIPS`, with its input scaling."""

    def __init__(self, model: Any):
        super().__init__()
        self.scaling, self.trunk = model.scaling_layer, model.net

    def forward(self, images: Tensor) -> list[Tensor]:
        return list(self.trunk(self.scaling(images)))


def _lpips(net: str, offline: bool) -> Perceptual:
    trunk_file = fetch(LPIPS_TRUNKS[net], also_in=(Path(torch.hub.get_dir()) / "checkpoints",), offline=offline)
    model = _lpips_package().LPIPS(net=net, pnet_rand=True, verbose=False)
    trunk = torch.load(trunk_file, map_location="cpu", weights_only=True)
    for key, parameter in model.net.named_parameters():  # "slice2.3.weight" is torchvision's "features.3.weight"
        parameter.data.copy_(trunk["features." + key.split(".", 1)[1]])
    return from_lpips(model, f"LPIPS ({net})")


def from_lpips(model: Any, name: str) -> Perceptual:
    """An `lpips.LPIPS` as a Perceptual: the same figure, with the target's features computed only once."""
    heads = [lin.model[-1].weight.detach() for lin in model.lins]
    return Perceptual(name, LpipsTaps(model).eval().requires_grad_(False), heads)


@cache
def _lpips_package() -> Any:
    """The lpips package. It imports torchvision, whose CUDA build cannot start on a CPU-only torch: its import
    describes two operators that only its own binary defines. Declaring them is enough; nothing here calls them.
    """
    library = None
    if "torchvision" not in sys.modules:
        library = torch.library.Library("torchvision", "FRAGMENT")
        try:
            library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        except RuntimeError:  # a torchvision that fits this torch has defined them itself
            log.debug("torchvision's operators are defined already")
    import lpips

    lpips.declared_operators = library  # a Library undoes its declarations when it is collected
    return lpips


# --- ST-LPIPS, from the weight files in the stlpips_pytorch wheel ----------------------------------------------


class BlurPool(nn.Module):
    """A 3x3 low-pass filter, then every second pixel: what makes the trunk tolerate shifts."""

    filt: Tensor

    def __init__(self, channels: int):
        super().__init__()
        self.register_buffer("filt", torch.empty(channels, 1, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        # In single precision: the way back through a strided depthwise convolution is slow in bfloat16.
        wide = F.pad(x.float(), (2, 2, 2, 2), mode="reflect")
        return F.conv2d(wide, self.filt.float(), stride=2, groups=x.shape[1]).to(x.dtype)


def _vgg_slices() -> list[list[nn.Module]]:
    """VGG16 up to relu5_3, a tap after each slice; positions are the wheel's, so its keys fit."""
    slices: list[list[nn.Module]] = []
    n_in = 3
    for channels, convs in [(64, 2), (128, 2), (256, 3), (512, 3), (512, 3)]:
        layers: list[nn.Module] = [nn.MaxPool2d(2, stride=1), BlurPool(n_in)] if slices else []
        for _ in range(convs):
            layers += [nn.Conv2d(n_in, channels, 3, padding=1), nn.ReLU()]
            n_in = channels
        slices.append(layers)
    return slices


def _alex_slices() -> list[list[nn.Module]]:
    """AlexNet whose first convolution has stride 1, a tap after each ReLU; positions are the wheel's."""
    return [
        [nn.Conv2d(3, 64, 11, padding=2), BlurPool(64), nn.ReLU()],
        [nn.MaxPool2d(3, stride=1), BlurPool(64), nn.Conv2d(64, 192, 5, padding=2), nn.ReLU()],
        [nn.MaxPool2d(3, stride=1), BlurPool(192), nn.Conv2d(192, 384, 3, padding=1), nn.ReLU()],
        [nn.Conv2d(384, 256, 3, padding=1), nn.ReLU()],
        [nn.Conv2d(256, 256, 3, padding=1), nn.ReLU()],
    ]


class StLpipsTaps(nn.Module):
    """The shift-tolerant trunk, with its input scaling."""

    shift: Tensor
    scale: Tensor

    def __init__(self, net: str, weights: dict[str, Tensor]):
        super().__init__()
        self.register_buffer("shift", weights["scaling_layer.shift"])
        self.register_buffer("scale", weights["scaling_layer.scale"])
        self.slices = nn.ModuleList()
        position = 0
        for number, layers in enumerate(_vgg_slices() if net == "vgg" else _alex_slices(), start=1):
            part = nn.Sequential(*layers)
            prefix = f"net.slice{number}."
            mine = {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
            part.load_state_dict({_shifted(key, position): value for key, value in mine.items()})
            self.slices.append(part)
            position += len(layers)

    def forward(self, images: Tensor) -> list[Tensor]:
        x, taps = (images - self.shift) / self.scale, []
        for part in self.slices:
            x = part(x)
            taps.append(x)
        return taps


def _shifted(key: str, position: int) -> str:
    """The wheel counts layers through all slices ("8.filt"), a Sequential from its own start."""
    number, _, rest = key.partition(".")
    return f"{int(number) - position}.{rest}"


def _st_lpips(net: str) -> Perceptual:
    weights = torch.load(_st_lpips_file(net), map_location="cpu", weights_only=True)
    taps = StLpipsTaps(net, weights).eval().requires_grad_(False)
    heads = [weights[f"lin{k}.model.1.weight"] for k in range(len(taps.slices))]
    return Perceptual(f"ST-LPIPS ({net})", taps, heads)


def _st_lpips_file(net: str) -> Path:
    """The .pth in the wheel. The package itself is never imported: its imports need more than it declares."""
    name = f"{net}_shift_tolerant.pth"
    try:
        found = [file for file in files("stlpips_pytorch") or [] if file.name == name]
    except PackageNotFoundError:
        found = []
    if not found:
        raise WeightsMissing(f"{name} is missing: `pip install stlpips_pytorch==0.0.2` brings it")
    return Path(str(found[0].locate()))
