"""What new numbers of codes do to drawings, before anything is learned of them.

New channels of W that styles do not hear yet would be learned of slowly: a step sees a few pictures, and each tells of
all new codes at once. But how features of drawings change with styles is known, by differentiation. Its mean over many
drawings says which change of the styles gives each feature code the effect it should have, and styles that vary much
anyway should change most.
"""

from __future__ import annotations

import torch
from torch import Tensor
from tqdm import tqdm

from weights.stylegan2 import LRELU_GAIN, LRELU_SLOPE, FullyConnected, StyleGAN2
from weights.training.features import Features
from weights.training.shapes import Basis

AT_ONCE = 4  # drawings
PROBES = 12  # directions in the features, for each of them
RIDGE = 0.3  # of the mean square of an effect: a mean over few drawings knows the weak ones badly


@torch.inference_mode(False)
def begin_effects(network: StyleGAN2, ws: Tensor, features: Features, basis: Basis) -> None:
    """Gives the last channels of W, two for each feature code of `basis`, an effect on what is drawn at `ws`.

    Those are latents [n, num_ws, w_dim]; the means of the maps of `features` come first in the rows of the basis. It is
    a part of the effect that they should have, for one that is all of it leaves nothing of faces. Changes `network`.
    """
    jacobian, spread = mean_effects(network, ws, features, basis)
    heard = affines_of(network)
    changes = least_changes(jacobian, spread).split([len(affine.weight) for affine in heard])
    told = LRELU_GAIN * (1 + LRELU_SLOPE**network.mapping.layers)  # of a code by its channels, one less the other
    for affine, change in zip(heard, changes, strict=True):
        columns = change.to(affine.weight) / (affine.weight_gain * told)
        with torch.no_grad():
            affine.weight[:, -2 * len(jacobian) :] += torch.cat([columns, -columns], 1)


def mean_effects(network: StyleGAN2, ws: Tensor, features: Features, basis: Basis) -> tuple[Tensor, Tensor]:
    """d feature codes / d styles [k, D], the mean over drawings, and how much those styles vary [D].

    Each drawing is asked along some random directions in the codes, and all drawings together along all.
    """
    rng, k, heard = torch.Generator().manual_seed(0), basis.down.shape[1], affines_of(network)
    asked, said, styles_seen = [], [], []
    now: dict[FullyConnected, Tensor] = {}
    hooks = [affine.register_forward_hook(lambda module, _, out: now.update({module: out})) for affine in heard]
    for some in tqdm(ws.split(AT_ONCE), "effects of codes", leave=False):
        maps = features(network.synthesis(some.clone().requires_grad_()))
        row = torch.cat([m.float().mean((2, 3)) for m in maps], 1)
        codes, styles = row @ basis.down[: row.shape[1]].to(row), [now[affine] for affine in heard]
        styles_seen.append(torch.cat([style.detach().float() for style in styles], 1))
        # Orthogonal to each other, and as long as makes the mean of their squares the identity.
        probes = torch.linalg.qr(torch.randn(len(some), k, k, generator=rng)).Q.to(row) * k**0.5
        for probe in probes[:, :PROBES].unbind(1):
            asked.append(probe)
            said.append(torch.cat(torch.autograd.grad(codes, styles, probe, retain_graph=True), 1).float())
    for hook in hooks:
        hook.remove()
    along = torch.cat(asked)
    return along.T @ torch.cat(said) / len(along), torch.cat(styles_seen).std(0)


def least_changes(jacobian: Tensor, spread: Tensor) -> Tensor:
    """The changes of the styles [D, k], least in units of their spread, that change each code and no other by a part.

    The part is larger where styles have much effect: a mean over few drawings knows the weak effects badly.
    """
    scaled = (jacobian * spread).double()
    seen = scaled @ scaled.T
    ridge = RIDGE * seen.diagonal().mean() * torch.eye(len(seen)).to(seen)
    return torch.linalg.solve(seen + ridge, scaled * spread).T.float()


def affines_of(network: StyleGAN2) -> list[FullyConnected]:
    """The layers that make styles of W."""
    return [layer for name, layer in network.synthesis.named_modules() if name.endswith("affine")]
