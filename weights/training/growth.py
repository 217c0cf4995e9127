"""A network made larger without changing what it draws: more resolutions, or more channels.

A new block starts with its RGB weights at zero, so it adds nothing to the upsampled picture (growing as in
Karras et al. 2018, arXiv 1710.10196, without the fade). New channels start with their outgoing weights at
zero. Those zeros take gradients at once, and so bring the rest to life.
"""

from __future__ import annotations

import torch
from torch import Tensor

from weights.stylegan2 import StyleGAN2, StyleGAN2Config


@torch.no_grad()
def grown(old: StyleGAN2, config: StyleGAN2Config) -> StyleGAN2:
    """A network of `config` that draws what `old` draws. Raises ValueError where `config` is not larger throughout."""
    was = old.config
    if (was.z_dim, was.w_dim, was.mapping_layers) != (config.z_dim, config.w_dim, config.mapping_layers):
        raise ValueError(f"the mapping network stays as it is: {was} cannot become {config}")
    if was.num_ws > config.num_ws or any(was.channels(r) > config.channels(r) for r in was.resolutions):
        raise ValueError(f"networks only grow: {was} is larger than {config}")
    new = StyleGAN2(config)
    state, known = new.state_dict(), old.state_dict()
    for name, tensor in state.items():
        if name in known:
            tensor.copy_(enlarged(known[name], tensor, name))
        elif ".torgb." in name and "affine" not in name:
            tensor.zero_()
    return new


def enlarged(old: Tensor, fresh: Tensor, name: str) -> Tensor:
    """`old` in the corner of `fresh`; what new channels send on is zero, what they receive is random."""
    if old.shape == fresh.shape:
        return old
    out = fresh.clone()
    if name.endswith("weight") and old.ndim == 4:
        out[: old.shape[0], old.shape[1] :] = 0
    if ".torgb.affine." in name:
        # ToRGB divides its style by the root of its channels' number, which has just changed.
        old = old * (len(fresh) / len(old)) ** 0.5
    out[tuple(slice(n) for n in old.shape)] = old
    return out
