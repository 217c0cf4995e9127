"""Points in feature maps: where they look, what they see, and where what they saw went (DragGAN, section 3.2).

Points are (x, y) in pixels of the *image*, pixel centres at integers. Features are windows of a map [C, f, f] that
covers the same square whatever its f, and are read between its cells, so they are never resized to the image.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from weights import Windows


def sample(features: Windows, points: Tensor, size: int) -> Tensor:
    """Bilinear features [N, K, C] at points [N, K, 2] of a size x size image; clamped at its rim."""
    values, side = features.values, features.values.shape[-1]
    first, last = features.margin, features.cells - 1 - features.margin
    x, y = cells_of(points, size, features.cells).unbind(-1)
    cells = torch.stack([x.clamp(first, last), y.clamp(0, features.cells - 1)], dim=-1)  # [N, K, 2]
    cells = cells - features.corners[:, None].to(cells.device)
    # In grid_sample's coordinates the outer edges are -1 and 1, and cell c has its centre at (2c + 1) / side - 1.
    grid = ((2 * cells + 1) / side - 1).to(values.dtype).reshape(len(values), 1, -1, 2)
    seen = F.grid_sample(values, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return seen[:, :, 0].transpose(1, 2).reshape(*points.shape[:2], -1)


def cells_of(points: Tensor, size: int, cells: int) -> Tensor:
    """The same points of a size x size image in a map of cells x cells."""
    return (points + 0.5) * (cells / size) - 0.5


def disc(radius: float, spacing: float, device: torch.device | str = "cpu") -> Tensor:
    """The offsets [K, 2] of a grid of that spacing that lie closer to the middle than `radius`."""
    offsets = square(radius, spacing, device)
    return offsets[offsets.norm(dim=1) < radius - 1e-6]


def square(radius: float, spacing: float, device: torch.device | str = "cpu") -> Tensor:
    """The offsets [K, 2] of a grid of that spacing with |x|, |y| <= radius."""
    steps = int(radius / spacing + 1e-6)
    line = torch.arange(-steps, steps + 1, device=device, dtype=torch.float32) * spacing
    y, x = torch.meshgrid(line, line, indexing="ij")
    return torch.stack([x, y], dim=-1).reshape(-1, 2)


def track(
    features: Windows, points: Tensor, references: Tensor, radius: float, spacing: float, size: int
) -> tuple[Tensor, Tensor]:
    """Where the points [N, 2] are now, and how far [N] what is seen there is from their references [N, 1, C].

    Of a square of `radius` around each point, on a grid of `spacing`, the place whose features are nearest (L2, as
    the official code; equation 2 has L1). Then between the grid's points: the squared distance of what is read
    bilinearly is a parabola along each axis, and the point goes to its bottom.
    """
    window = square(radius, spacing, points.device)  # [K, 2]
    side = math.isqrt(len(window))
    candidates = (points[:, None] + window).clamp(-0.5, size - 0.5)  # [N, K, 2]
    distance = (sample(features, candidates, size) - references).square().mean(-1)  # [N, K]
    nearest, best = distance.min(1)
    each, row, column = torch.arange(len(points), device=points.device), best // side, best % side
    distance = distance.view(-1, side, side)
    past = torch.stack([bottom(distance[each, row], column), bottom(distance[each, :, column], row)], dim=1)
    return (candidates[each, best] + past * spacing).clamp(-0.5, size - 0.5), nearest.sqrt()


def bottom(values: Tensor, lowest: Tensor) -> Tensor:
    """How far [N] from index `lowest` [N] the parabola through its value and its neighbours' in `values` [N, K] has
    its bottom: at most half a step, and 0 at the rim.
    """
    left, here, right = (
        values.gather(1, (lowest + by).clamp(0, values.shape[1] - 1)[:, None])[:, 0] for by in (-1, 0, 1)
    )
    bend = (left - 2 * here + right).clamp(min=1e-12)
    return torch.where((left > here) & (right > here), (left - right) / (2 * bend), 0).clamp(-0.5, 0.5)
