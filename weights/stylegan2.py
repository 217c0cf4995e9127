"""StyleGAN2 (Karras et al. 2020, arXiv 1912.04958) in plain PyTorch operations, for any resolution.

Parameters and buffers carry the names of NVIDIA's stylegan2-ada-pytorch (`synthesis.b8.conv0.affine.weight`,
...), and the arithmetic is the same, so its checkpoints load as they are. It differs in two ways. The noise is
constant unless it is given: a latent always gives the same picture. And a modulated convolution scales its input
and its output instead of the weight: the same product with one shared weight, so no grouped convolution.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LRELU_GAIN = math.sqrt(2)  # keeps the variance through a leaky ReLU
FIR = (1.0, 3.0, 3.0, 1.0)
Noise = Sequence[Tensor]  # of each convolution, in order, for each of n pictures: [n, R, R], normal numbers


@dataclass(frozen=True)
class StyleGAN2Config:
    """What distinguishes one StyleGAN2 from another; kept in the metadata of our safetensors files."""

    img_resolution: int
    z_dim: int = 512
    w_dim: int = 512
    mapping_layers: int = 8
    channel_base: int = 32768
    channel_max: int = 512
    conv_clamp: int = 0
    """Every layer's output is kept within so much of zero, as in networks made for half precision; 0: it is not."""
    img_width: int = 0
    """Of the pictures, where they are narrower than high, as StyleGAN-Human's; 0: they are square."""

    def channels(self, resolution: int) -> int:
        return min(self.channel_base // resolution, self.channel_max)

    def width(self, resolution: int) -> int:
        """Of the feature maps that are `resolution` high."""
        return resolution * (self.img_width or self.img_resolution) // self.img_resolution

    @property
    def resolutions(self) -> list[int]:
        return [2**i for i in range(2, int(math.log2(self.img_resolution)) + 1)]

    @property
    def num_ws(self) -> int:
        """Rows of a W+ latent: two for each resolution."""
        return 2 * len(self.resolutions)

    def to_metadata(self) -> dict[str, str]:
        return {key: str(value) for key, value in asdict(self).items()}

    @classmethod
    def from_metadata(cls, metadata: dict[str, str]) -> StyleGAN2Config:
        return cls(**{key: int(metadata[key]) for key in cls.__dataclass_fields__ if key in metadata})


class FullyConnected(nn.Module):
    """A linear layer whose weight is kept at unit scale and multiplied when used (equalised learning rate)."""

    def __init__(self, n_in: int, n_out: int, *, lrelu: bool = False, bias: float = 0.0, lr: float = 1.0):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n_out, n_in) / lr)
        self.bias = nn.Parameter(torch.full((n_out,), bias / lr))
        self.weight_gain, self.bias_gain, self.lrelu = lr / math.sqrt(n_in), lr, lrelu

    def forward(self, x: Tensor) -> Tensor:
        x = F.linear(x, self.weight * self.weight_gain, self.bias * self.bias_gain)
        return F.leaky_relu(x, 0.2) * LRELU_GAIN if self.lrelu else x


class Mapping(nn.Module):
    """z [n, z_dim] -> W+ latents [n, num_ws, w_dim]."""

    w_avg: Tensor

    def __init__(self, config: StyleGAN2Config):
        super().__init__()
        self.num_ws, self.layers = config.num_ws, config.mapping_layers
        for i in range(config.mapping_layers):
            n_in = config.z_dim if i == 0 else config.w_dim
            self.add_module(f"fc{i}", FullyConnected(n_in, config.w_dim, lrelu=True, lr=0.01))
        self.register_buffer("w_avg", torch.zeros(config.w_dim))

    def forward(self, z: Tensor, psi: float = 1.0) -> Tensor:
        w = z * (z.square().mean(1, keepdim=True) + 1e-8).rsqrt()
        for i in range(self.layers):
            w = self.get_submodule(f"fc{i}")(w)
        return self.w_avg.lerp(w, psi).unsqueeze(1).repeat(1, self.num_ws, 1)


class ModulatedConv(nn.Module):
    """What SynthesisLayer and ToRGB share: a style made from one latent row, and a convolution it scales."""

    def __init__(self, n_in: int, n_out: int, config: StyleGAN2Config, kernel: int):
        super().__init__()
        self.clamp = config.conv_clamp or math.inf
        self.affine = FullyConnected(config.w_dim, n_in, bias=1.0)
        self.weight = nn.Parameter(torch.randn(n_out, n_in, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(n_out))


class SynthesisLayer(ModulatedConv):
    """Modulated 3x3 convolution, upsampling or not; noise, constant unless given; bias; leaky ReLU."""

    resample_filter: Tensor
    noise_const: Tensor

    def __init__(self, n_in: int, n_out: int, config: StyleGAN2Config, resolution: int, up: bool):
        super().__init__(n_in, n_out, config, kernel=3)
        self.up = up
        self.register_buffer("resample_filter", fir_filter())
        self.register_buffer("noise_const", torch.randn(resolution, config.width(resolution)))
        self.noise_strength = nn.Parameter(torch.zeros([]))

    def forward(self, x: Tensor, w: Tensor, noise: Tensor | None = None) -> Tensor:
        style = self.affine(w)  # [n, I]
        demodulate = (style.square() @ self.weight.square().sum([2, 3]).T + 1e-8).rsqrt()  # [n, O]
        x = x * style[:, :, None, None]
        if self.up:
            x = F.conv_transpose2d(x, self.weight.transpose(0, 1), stride=2)  # [n, O, 2H + 1, 2W + 1]
            x = fir(x, self.resample_filter * 4, pad=(1, 1))
        else:
            x = F.conv2d(x, self.weight, padding=1)
        # The gain goes through a leaky ReLU. With bfloat16, x stays as narrow as it came.
        scale, added = (demodulate * LRELU_GAIN).to(x.dtype)[:, :, None, None], self.added(noise).to(x.dtype)
        # One pass over x; of bfloat16 two, for there addcmul takes five times as long where channels are few.
        x = torch.addcmul(added, x, scale) if x.dtype == torch.float32 else x * scale + added
        return clamped(F.leaky_relu(x, 0.2), self.clamp)

    def added(self, noise: Tensor | None = None) -> Tensor:
        """Noise [H, W], or of each picture [n, H, W], and bias, with the gain: [(n,) O, H, W].

        Laid channels last: so they add fastest.
        """
        noise = (self.noise_const if noise is None else noise) * (self.noise_strength * LRELU_GAIN)
        return (noise[..., None] + self.bias * LRELU_GAIN).movedim(-1, -3)


class ToRGB(ModulatedConv):
    """Modulated 1x1 convolution to colour, neither demodulated nor activated."""

    def __init__(self, n_in: int, config: StyleGAN2Config):
        super().__init__(n_in, 3, config, kernel=1)
        self.gain = 1 / math.sqrt(n_in)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        style = self.affine(w) * self.gain
        return clamped(F.conv2d(x * style[:, :, None, None], self.weight) + self.bias[:, None, None], self.clamp)


class SynthesisBlock(nn.Module):
    """All that happens at one resolution: one or two convolutions, and a contribution to the picture."""

    resample_filter: Tensor

    def __init__(self, config: StyleGAN2Config, resolution: int):
        super().__init__()
        n_out = config.channels(resolution)
        self.register_buffer("resample_filter", fir_filter())
        self.first = resolution == 4
        if self.first:
            self.const = nn.Parameter(torch.randn(n_out, 4, config.width(4)))
        else:
            n_in = config.channels(resolution // 2)
            self.conv0 = SynthesisLayer(n_in, n_out, config, resolution, up=True)
        self.conv1 = SynthesisLayer(n_out, n_out, config, resolution, up=False)
        self.torgb = ToRGB(n_out, config)

    def features(self, x: Tensor | None, ws: Tensor, noise: Noise | None = None) -> Tensor:
        """The block's output x [n, C, R, R], from the last block's and the rows of the block's convolutions."""
        of_first, *of_second = noise or (None, None)
        if x is None:
            x = self.const.expand(len(ws), -1, -1, -1)
            return self.conv1(x, ws[:, 0], of_first)
        return self.conv1(self.conv0(x, ws[:, 0], of_first), ws[:, 1], *of_second)

    def draw(self, image: Tensor | None, x: Tensor, w: Tensor) -> Tensor:
        """The picture [n, 3, R, R] from what was drawn before this block, at half the size, and the block's output x.

        In single precision whatever the mode: what bfloat16 rounds off a picture, up to a level of 255, nobody sees,
        but frozen features do, and a generator learns to make up for what nobody else who draws with it rounds.
        """
        with torch.autocast(x.device.type, enabled=False):
            rgb = self.torgb(x.to(self.torgb.weight.dtype), w.to(self.torgb.weight.dtype))
            return rgb if image is None else upsample(image, self.resample_filter) + rgb


class Synthesis(nn.Module):
    """W+ latents [n, num_ws, w_dim] -> images [n, 3, H, W], roughly in [-1, 1]."""

    def __init__(self, config: StyleGAN2Config):
        super().__init__()
        self.resolutions = config.resolutions
        for resolution in self.resolutions:
            self.add_module(f"b{resolution}", SynthesisBlock(config, resolution))

    def forward(self, ws: Tensor, noise: Noise | None = None) -> Tensor:
        *_, image = self.images(ws, noise)
        return image

    def images(self, ws: Tensor, noise: Noise | None = None) -> Iterator[Tensor]:
        """What is drawn up to each block, coarse to fine, [n, 3, R, R]; the last is the picture."""
        x: Tensor | None = None
        image: Tensor | None = None
        for block, rows, own in self._blocks(ws, noise):
            x = block.features(x, rows, own)
            image = block.draw(image, x, rows[:, -1])
            yield squared(image)

    def stages(self, ws: Tensor, noise: Noise | None = None) -> tuple[Tensor, ...]:
        """All of `images`."""
        return tuple(self.images(ws, noise))

    def noise(self, seeds: Iterable[int]) -> list[Tensor]:
        """Noise of its own for each of as many pictures, the same for a seed on every device."""
        layers = self.layers(self.resolutions[-1])
        rngs = [torch.Generator().manual_seed(seed) for seed in seeds]
        return [
            torch.stack([torch.randn(layer.noise_const.shape, generator=rng) for rng in rngs]).to(layer.noise_const)
            for layer in layers
        ]

    def features(self, ws: Tensor, resolution: int) -> Tensor:
        """The output [n, C, R, R] of block `resolution`; nothing behind it and no picture is computed."""
        x: Tensor | None = None
        for block, rows, _ in self._blocks(ws):
            x = block.features(x, rows)
            if x.shape[-2] == resolution:
                return squared(x)
        raise ValueError(f"no block of resolution {resolution}, there are {self.resolutions}")

    def layers(self, resolution: int) -> list[SynthesisLayer]:
        """The convolutions up to block `resolution` in order: number i takes row i of a latent."""
        modules = [self.get_submodule(f"b{r}").named_children() for r in self.resolutions if r <= resolution]
        return [layer for block in modules for _, layer in block if isinstance(layer, SynthesisLayer)]

    def _blocks(self, ws: Tensor, noise: Noise | None = None) -> list[tuple[SynthesisBlock, Tensor, Noise | None]]:
        """Each block with its rows and noise; a block's RGB row is the next block's first row."""
        blocks, row = [], 0
        for resolution in self.resolutions:
            block = self.get_submodule(f"b{resolution}")
            assert isinstance(block, SynthesisBlock)
            convs = 1 if block.first else 2
            own = noise[row : row + convs] if noise is not None else None
            blocks.append((block, ws[:, row : row + convs + 1], own))  # [n, convs + 1, w_dim]
            row += convs
        return blocks


class StyleGAN2(nn.Module):
    """The two networks under NVIDIA's names: `mapping` and `synthesis`."""

    def __init__(self, config: StyleGAN2Config):
        super().__init__()
        self.config = config
        self.mapping = Mapping(config)
        self.synthesis = Synthesis(config)


def squared(x: Tensor) -> Tensor:
    """x [n, C, H, W <= H], as wide as high: its outer columns go on, so that all else may count on squares."""
    missing = x.shape[-2] - x.shape[-1]
    return F.pad(x, (missing // 2, missing - missing // 2, 0, 0), mode="replicate") if missing else x


def clamped(x: Tensor, limit: float) -> Tensor:
    return x if limit == math.inf else x.clamp(-limit, limit)


def fir_filter() -> Tensor:
    """The separable low-pass filter [4, 4] that goes with each change of resolution, of sum 1."""
    f = torch.tensor(FIR)
    return torch.outer(f, f) / f.sum().square()


def fir(x: Tensor, kernel: Tensor, pad: tuple[int, int]) -> Tensor:
    """x [n, C, H, W] filtered channel by channel; `pad` is (before, after) on both axes. The kernel is symmetric."""
    channels = x.shape[1]
    x = F.pad(x, (*pad, *pad))
    return F.conv2d(x, kernel.to(x.dtype).expand(channels, 1, -1, -1), groups=channels)


def upsample(image: Tensor, kernel: Tensor) -> Tensor:
    """Twice the size: zeros between the pixels, then the low-pass filter."""
    n, c, h, w = image.shape
    spread = image.new_zeros(n, c, h, 2, w, 2)
    spread[:, :, :, 0, :, 0] = image
    return fir(spread.reshape(n, c, 2 * h, 2 * w), kernel * 4, pad=(2, 1))
