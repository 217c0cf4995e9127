"""A network made larger without changing what it draws: more resolutions, more channels, or longer codes.

A new block starts with its RGB weights at zero, so it adds nothing to the upsampled picture (growing as in
Karras et al. 2018, arXiv 1710.10196, without the fade). New channels start with their outgoing weights at
zero. Those zeros take gradients at once, and so bring the rest to life.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from weights.prior import Prior
from weights.stylegan2 import MAPPING_LR, StyleGAN2, StyleGAN2Config


@torch.no_grad()
def grown(old: StyleGAN2, config: StyleGAN2Config) -> StyleGAN2:
    """A network of `config` that draws what `old` draws. Raises ValueError where `config` is not larger throughout."""
    was = old.config
    more, wider = config.z_dim - was.z_dim, config.w_dim - was.w_dim
    if was.mapping_layers != config.mapping_layers or wider != 2 * more:
        raise ValueError(f"w_dim grows by twice as much as z_dim: {was} cannot become {config}")
    narrower = any(was.channels(r) > config.channels(r) for r in was.resolutions)
    if narrower or more < 0 or was.num_ws > config.num_ws:
        raise ValueError(f"networks only grow: {was} is larger than {config}")
    new = StyleGAN2(config)
    state, known = new.state_dict(), old.state_dict()
    for name, tensor in state.items():
        if name == "mapping.fc0.weight":
            tensor.copy_(told_more(known[name], tensor))
        elif name.startswith("mapping.") and name.endswith("weight"):
            tensor.copy_(passed_on(known[name], tensor))
        elif name in known:
            tensor.copy_(enlarged(heard(known[name], tensor, name), tensor, name))
        elif ".torgb." in name and "affine" not in name:
            tensor.zero_()
    return new


@torch.no_grad()
def grown_prior(old: Prior, z_dim: int, noise: float) -> Prior:
    """A prior of longer codes: the new numbers are white and have noise of that standard deviation, as `old`'s have."""
    more = Prior(z_dim - old.z_dim + 1, len(old.layers) - 1)
    last = more.layers[-1].get_parameter("weight")
    last.mul_((1 + noise**2) ** 0.5)
    new = Prior(z_dim, len(old.layers) - 1)
    for layer, one, other in zip(new.layers, old.layers, more.layers, strict=True):
        for name, join in ("weight", torch.block_diag), ("bias", lambda *parts: torch.cat(parts)):
            layer.get_parameter(name).copy_(join(one.get_parameter(name), other.get_parameter(name)))
    return new.requires_grad_(False)


def told_more(old: Tensor, fresh: Tensor) -> Tensor:
    """The first weights [O, z_dim] of a mapping whose codes became longer, before the constant in the end.

    What there was does not see the new numbers. Each has two new channels of its own: one of it as it is, and one of
    its negative, for all that it says is in what leaky ReLUs leave of both.
    """
    (rows, n), more = old.shape, fresh.shape[1] - old.shape[1]
    old = old * (fresh.shape[1] / n) ** 0.5  # by which root the layer divides them
    constant = old[:, -1:] * ((n - 1) / (n - 1 + more)) ** 0.5  # which is larger beside longer codes
    one = torch.eye(more).to(old) * (5 * fresh.shape[1]) ** 0.5 / MAPPING_LR  # 5: the mean square of lengthened codes
    return torch.cat(
        [torch.cat([old[:, :-1], old.new_zeros(rows, more), constant], 1), F.pad(torch.cat([one, -one]), (n - 1, 1))]
    )


def passed_on(old: Tensor, fresh: Tensor) -> Tensor:
    """The other weights [O, I] of a mapping that became wider: new channels go through as they are."""
    wider = len(fresh) - len(old)
    one = torch.eye(wider).to(old) * (len(fresh) / 2) ** 0.5 / MAPPING_LR
    return torch.block_diag(old * (len(fresh) / len(old)) ** 0.5, one)


def heard(old: Tensor, fresh: Tensor, name: str) -> Tensor:
    """Weights [O, w_dim] of styles, which hear nothing yet of new channels of W."""
    if not name.endswith("affine.weight"):
        return old
    return F.pad(old * (fresh.shape[1] / old.shape[1]) ** 0.5, (0, fresh.shape[1] - old.shape[1]))


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
