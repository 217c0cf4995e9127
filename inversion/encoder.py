"""A first latent in one pass, where the generator has an encoder."""

from __future__ import annotations

import torch
from torch import Tensor

from weights import Generator


@torch.inference_mode(False)
def first_latent(generator: Generator, target: Tensor) -> Tensor | None:
    """The W+ latent [num_ws, w_dim] from which to search the pivot of `target` [1, 3, H, W]; None without encoder."""
    if generator.encoder is None:
        return None
    with torch.no_grad():
        z, offsets = generator.encoder(target)
        return (generator.network.mapping(z) + offsets * generator.spread)[0]
