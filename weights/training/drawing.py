"""What a training draws of latents: pictures, a few at a time, or no more of them than a crop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import torch
from torch import Tensor

from weights.stylegan2 import Synthesis

AT_ONCE = 8  # pictures drawn at once by a CPU, whose caches do not hold more
CELL = 4  # px: crops begin at multiples of it, so that they begin at pixels of the block a quarter as large
MARGIN = 3  # of those pixels: as far as what is drawn by the two blocks behind it comes from


def draw_stages(synthesis: Synthesis, ws: Tensor, compiled: bool = False) -> Iterator[Tensor]:
    """What each block draws of latents, coarse to fine."""
    draw = compiled_by_torch(synthesis.stages) if compiled else synthesis.stages
    parts = [draw(part) for part in in_parts(ws)]
    return (torch.cat(images) for images in zip(*parts, strict=True))


def draw_crops(synthesis: Synthesis, ws: Tensor, top: int, left: int, size: int, compiled: bool = False) -> Tensor:
    """What is drawn of latents [n, num_ws, w_dim] from row `top` and column `left` on: [n, 3, size, size].

    The last two blocks draw that and what it takes. Gradients reach these and the one before.
    """
    width = synthesis.resolutions[-1]
    quarter = width // CELL
    part = min(size // CELL + 2 * MARGIN, quarter)
    y, x = (min(max(place // CELL - MARGIN, 0), quarter - part) for place in (top, left))
    maps: Tensor | None = None
    image: Tensor | None = None
    for resolution, (block, rows) in zip(synthesis.resolutions, synthesis.blocks(ws), strict=True):
        draw = compiled_by_torch(block.drawn) if compiled else block.drawn
        k = resolution // quarter  # 0 before the block that is a quarter as large
        noise = (None, None) if k < 2 else [crop(c.noise_const, y * k, x * k, part * k) for c in block.convolutions]
        with torch.set_grad_enabled(torch.is_grad_enabled() and k > 0):
            maps, image = draw(maps, image, rows, noise)
        if k == 1:
            maps, image = crop(maps, y, x, part), crop(image, y, x, part)
    assert image is not None
    return crop(image, top - CELL * y, left - CELL * x, size)


def crop(maps: Tensor, top: int, left: int, size: int) -> Tensor:
    """A square of maps [..., R, R], in memory of its own."""
    part = maps[..., top : top + size, left : left + size]
    return part.contiguous(memory_format=torch.channels_last if part.ndim == 4 else torch.contiguous_format)


def in_parts(x: Tensor) -> tuple[Tensor, ...]:
    """Of as many pictures as are drawn at once."""
    return x.split(AT_ONCE) if x.device.type == "cpu" else (x,)


@cache
def compiled_by_torch(draw: Callable[..., Any]) -> Callable[..., Any]:
    return torch.compile(draw, dynamic=False)
