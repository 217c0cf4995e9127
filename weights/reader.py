"""Features near points: a StyleGAN2 run only where it is looked at, giving what the whole network would give there.

A drag moves the latent's first rows. The layers that they style make a small map, the *shape*, which is computed
whole. The styles of the layers behind it never change, so they are multiplied into the weights once, and since a cell
depends on its neighbours alone, those layers run only in square windows around the points. In a 1024-pixel network a
window costs a thirtieth of the whole.

Cells are counted (x, y) from the upper left. A window may reach over the map's rim, where the network pads with
zeros: so its cells out there are set to zero after each layer. The maps of a network whose pictures are narrower than
high lie in the middle of a square, and points beside them read their outer columns, as in its `features`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from weights.stylegan2 import LRELU_GAIN, Synthesis, SynthesisLayer, clamped, squared


@dataclass(frozen=True)
class Windows:
    """Square cut-outs of a feature map of cells x cells: one for each point, or one for all of them."""

    values: Tensor  # [N or 1, C, n, n]
    corners: Tensor  # int64 [N or 1, 2] (x, y): the map's cell that is the first of each
    cells: int
    margin: int = 0  # columns to the left and to the right that the network does not draw

    @classmethod
    def whole(cls, features: Tensor) -> Windows:
        """All of a map [1, C, f, f]."""
        return cls(features, torch.zeros(1, 2, dtype=torch.int64), features.shape[-1])

    def detach(self) -> Windows:
        return replace(self, values=self.values.detach())


class Reader:
    """The output of block `block`, for latents that differ from `latent` [num_ws, w_dim] in their first `rows` only."""

    def __init__(self, synthesis: Synthesis, latent: Tensor, rows: int, block: int):
        with torch.no_grad():
            layers = synthesis.layers(block)
            self.const = synthesis.get_parameter("b4.const")[None]  # [1, C, 4, 4]
            self.free = [FreeLayer(layer) for layer in layers[:rows]]
            self.fixed = [FixedLayer(layer, row) for layer, row in zip(layers[rows:], latent[rows:], strict=False)]
        self.block, self.margin = block, (block - layers[-1].noise_const.shape[-1]) // 2

    def shape(self, rows: Tensor) -> Tensor:
        """The map [1, C, r, r] that the free rows [rows, w_dim] make; everything behind it follows from it.

        As wide as the network has it, so perhaps narrower than high.
        """
        x = self.const
        for layer, row in zip(self.free, rows, strict=False):
            x = layer(x, row)
        return x

    def near(self, shape: Tensor, points: Tensor, reach: float) -> Windows:
        """The block's features around points [N, 2], in cells of the block, at least `reach` cells to every side.

        One window for each point, or where that is cheaper a single one that holds all of them.
        """
        if not self.fixed:
            return Windows.whole(squared(shape))
        margin = torch.tensor([self.margin, 0])
        points = (points.detach().cpu() - margin).clamp(torch.zeros(2), self.block - 1.0 - 2 * margin)
        first = (points - reach).floor().long()
        low = self._seen_by(first, upper=False)
        high = self._seen_by(first + int(2 * reach) + 2, upper=True)
        side, together = int((high - low).max()) + 1, int((high.amax(0) - low.amin(0)).max()) + 1
        if together**2 <= len(points) * side**2:
            low, side = low.amin(0, keepdim=True), together
        x = cut(shape, low, side)
        for layer in self.fixed:
            x, low = layer(x, low)
        return Windows(x, low + margin, self.block, self.margin)

    def _seen_by(self, cells: Tensor, *, upper: bool) -> Tensor:
        """The farthest cells of the shape, to the upper or the lower side, that these of the block depend on."""
        for layer in reversed(self.fixed):
            if layer.up and upper:
                cells = (cells + 2).div(2, rounding_mode="floor")
            elif layer.up:
                cells = (cells - 2).div(2, rounding_mode="floor")
            else:
                cells = cells + 1 if upper else cells - 1
        return cells


class FreeLayer:
    """A layer whose latent row moves, with all that does not depend on the row made once."""

    def __init__(self, layer: SynthesisLayer):
        affine, self.clamp = layer.affine, layer.clamp
        self.affine = affine.weight * affine.weight_gain, affine.bias * affine.bias_gain
        self.squares = layer.weight.square().sum([2, 3])  # [O, I]
        self.convolve = Convolution(layer, layer.weight, padding=1)
        self.added = layer.added().contiguous()  # [O, R, R]

    def __call__(self, x: Tensor, row: Tensor) -> Tensor:
        """The layer's output [1, O, R, R] for x [1, I, H, W] and its row [w_dim]."""
        style = F.linear(row, *self.affine)  # [I]
        demodulate = (self.squares @ style.square() + 1e-8).rsqrt() * LRELU_GAIN  # [O]
        x = self.convolve(x * style[:, None, None])
        x = F.leaky_relu(torch.addcmul(self.added, x, demodulate[:, None, None]), 0.2)
        return clamped(x, self.clamp)


class FixedLayer:
    """A layer whose latent row stays: its style and the gain are in its weights, and it takes and gives windows."""

    def __init__(self, layer: SynthesisLayer, row: Tensor):
        style = layer.affine(row)  # [I]
        demodulate = (layer.weight.square().sum([2, 3]) @ style.square() + 1e-8).rsqrt() * LRELU_GAIN  # [O]
        self.up, self.clamp = layer.up, layer.clamp
        self.convolve = Convolution(layer, layer.weight * style[:, None, None] * demodulate[:, None, None, None])
        self.bias = layer.bias[:, None, None] * LRELU_GAIN
        self.noise = (layer.noise_const * layer.noise_strength)[None, None] * LRELU_GAIN  # [1, 1, R, R]
        self.inside = torch.ones_like(self.noise)

    def __call__(self, x: Tensor, corners: Tensor) -> tuple[Tensor, Tensor]:
        """Windows [N, O, n', n'] of the layer's output that windows x [N, I, n, n] at `corners` [N, 2] hold all of."""
        corners = 2 * corners + 2 if self.up else corners + 1
        x = self.convolve(x)
        x = clamped(F.leaky_relu(x + (cut(self.noise, corners, x.shape[-1]) + self.bias), 0.2), self.clamp)
        if beyond(corners, x.shape[-1], self.noise):
            x = x * cut(self.inside, corners, x.shape[-1])
        return x, corners


class Convolution:
    """A layer's convolution alone, upsampling or not: of a whole map with padding 1, of a window with 0."""

    def __init__(self, layer: SynthesisLayer, weight: Tensor, padding: int = 0):
        self.up, self.padding = layer.up, padding
        # A transposed convolution whose weight lies as it is read takes two thirds of the time on a small map.
        self.weight = weight.transpose(0, 1).contiguous() if layer.up else weight
        self.kernel = (layer.resample_filter * 4).expand(weight.shape[0], 1, -1, -1).contiguous()

    def __call__(self, x: Tensor) -> Tensor:
        if not self.up:
            return F.conv2d(x, self.weight, padding=self.padding)
        # A window's first and last rows lack what lies beyond it.
        x = F.conv_transpose2d(x, self.weight, stride=2, padding=1 - self.padding)
        return F.conv2d(x, self.kernel, padding=self.padding, groups=len(self.kernel))


def cut(values: Tensor, corners: Tensor, side: int) -> Tensor:
    """Windows [N, C, side, side] of a map [1, C, H, W] whose first cells are `corners` [N, 2]; zero beyond the rim."""
    over = beyond(corners, side, values)
    if over:
        values = F.pad(values, (over,) * 4)
    return torch.cat([values[:, :, y : y + side, x : x + side] for x, y in (corners + over).tolist()])


def beyond(corners: Tensor, side: int, values: Tensor) -> int:
    """How many cells windows reach over the rim of a map [1, C, H, W]."""
    return max(0, -int(corners.min()), int((corners + side - torch.tensor(values.shape[:1:-1])).max()))
