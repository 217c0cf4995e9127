"""Points in feature maps: where they look, what they see, and where what they saw went (DragGAN, section 3.2).

Points are (x, y) in pixels of the *image*, pixel centres at integers; a feature map [1, C, f, f] covers the same
square whatever its f, and is read between its cells, so it is never resized to the image.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def sample(features: Tensor, points: Tensor, size: int) -> Tensor:
    """Bilinear features [..., C] of a map [1, C, f, f] at points [..., 2] of a size x size image; clamped."""
    # In grid_sample's coordinates the image's edges are -1 and 1, and pixel p has its centre at (2p + 1) / size - 1.
    grid = ((2 * points + 1) / size - 1).reshape(1, 1, -1, 2).to(features.dtype)
    seen = F.grid_sample(features, grid, mode="bilinear", padding_mode="border", align_corners=False)  # [1, C, 1, K]
    return seen[0, :, 0].T.reshape(*points.shape[:-1], -1)


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


def track(features: Tensor, points: Tensor, references: Tensor, window: Tensor, size: int) -> Tensor:
    """Where the points [N, 2] are now: of the offsets `window` [K, 2] around each, the one whose features are
    nearest (L1) to its reference [N, C] (equation 2).
    """
    candidates = (points[:, None] + window).clamp(-0.5, size - 0.5)  # [N, K, 2]
    distance = (sample(features, candidates, size) - references[:, None]).abs().sum(-1)  # [N, K]
    return candidates[torch.arange(len(points)), distance.argmin(1)]
