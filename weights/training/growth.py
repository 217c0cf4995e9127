"""A network made larger without changing what it draws: more resolutions, more channels, or longer codes.

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
    """A network of `config` that draws what `old` draws. Raises ValueError where `config` is not larger throughout.

    Of a longer z, the new numbers come before its last, the constant (`weights.prior.lengthened`).
    """
    was = old.config
    if was.z_dim > config.z_dim or (was.w_dim, was.mapping_layers) != (config.w_dim, config.mapping_layers):
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
    if name == "mapping.fc0.weight":
        return told_more(old, fresh.shape[1])
    out = fresh.clone()
    if name.endswith("weight") and old.ndim == 4:
        out[: old.shape[0], old.shape[1] :] = 0
    if ".torgb.affine." in name:
        # ToRGB divides its style by the root of its channels' number, which has just changed.
        old = old * (len(fresh) / len(old)) ** 0.5
    out[tuple(slice(n) for n in old.shape)] = old
    return out


def told_more(old: Tensor, z_dim: int) -> Tensor:
    """The first layer's weight [w, k + 1] for longer codes, of whose new numbers nothing is known yet: [w, z_dim].

    z comes to it at unit length, and codes, which are white, are as long as the root of their number: each number is
    the smaller the more there are. The constant grows with them.
    """
    k = old.shape[1] - 1
    return lengthened_by(torch.cat([old[:, :k] * ((z_dim - 1) / k) ** 0.5, old[:, k:]], 1), z_dim, 1)


def lengthened_by(old: Tensor, z_dim: int, dim: int) -> Tensor:
    """With zeros for z's new numbers, which come before its last."""
    codes, constant = old.split([old.shape[dim] - 1, 1], dim)
    shape = list(old.shape)
    shape[dim] = z_dim - shape[dim]
    return torch.cat([codes, old.new_zeros(shape), constant], dim)
