"""Where pictures cross from numpy, [H, W, 3] RGB of 0..255, to the networks, [1, 3, H, W] in [-1, 1], and back."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def to_image(pixels: np.ndarray, device: torch.device | str = "cpu") -> Tensor:
    """Pixels [H, W, 3] of 0..255, uint8 or float -> an image float32 [1, 3, H, W] in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(pixels)).to(device).float().permute(2, 0, 1)[None] / 127.5 - 1


def to_pixels(image: Tensor) -> np.ndarray:
    """An image [1, 3, H, W] in [-1, 1] -> float32 [H, W, 3] of 0..255, clipped but not rounded: a paste enlarges it."""
    return ((image.detach()[0].clamp(-1, 1) + 1) * 127.5).permute(1, 2, 0).float().cpu().numpy()
