"""A Generator: a StyleGAN2 ready for use, of which the loops know only latents, pictures and features."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import safetensors
import torch
from safetensors import SafetensorError
from torch import Tensor

from weights.encoder import Encoder, encoder_path, load_encoder
from weights.hub import WeightsCorrupt, sha256_of, write_tensors
from weights.prior import Prior, take_prior, tensors_of
from weights.reader import Reader
from weights.stylegan2 import StyleGAN2, StyleGAN2Config

EMBEDDED = Path(__file__).parent / "embedded" / "face256.safetensors"
AXES = "axes"  # the tensor of that name in a file


@dataclass(frozen=True)
class Generator:
    """A network in evaluation mode whose parameters take no gradient. Its latents are W+: [num_ws, w_dim]."""

    network: StyleGAN2
    name: str  # as `load_generator` takes it
    sha256: str  # of the file it came from
    encoder: Encoder | None = None  # where one lies beside that file
    known_spread: float | None = None  # where that file says it
    alignment: str = ""  # how its pictures were cut, where that file says it: "face", "square", "none"
    known_axes: Tensor | None = None  # where that file holds them
    prior: Prior | None = None  # where that file holds one

    @property
    def resolution(self) -> int:
        return self.network.config.img_resolution

    @property
    def num_ws(self) -> int:
        return self.network.config.num_ws

    @property
    def w_dim(self) -> int:
        return self.network.config.w_dim

    @property
    def device(self) -> torch.device:
        return self.network.mapping.w_avg.device

    def sample(self, n: int, seed: int, psi: float = 1.0) -> Tensor:
        """n random latents [n, num_ws, w_dim], the same for a seed on every device; psi < 1 nears the mean."""
        with torch.no_grad():
            return self.network.mapping(random_z(self.network, self.prior, n, seed), psi)

    def render(self, latents: Tensor, seeds: Iterable[int] | None = None) -> Tensor:
        """Latents [n, num_ws, w_dim] -> images [n, 3, H, W], roughly in [-1, 1]. Differentiable, repeatable.

        With the network's constant noise, or with noise of its own for each, of these n seeds.
        """
        synthesis = self.network.synthesis
        return synthesis(latents, None if seeds is None else synthesis.noise(seeds))

    def features(self, latents: Tensor, block: int) -> Tensor:
        """Latents -> the output [n, C, block, block] of the block of that resolution; nothing behind it runs."""
        return self.network.synthesis.features(latents, block)

    def reader(self, latent: Tensor, rows: int, block: int) -> Reader:
        """Reads that block near points, for latents that differ from this one [num_ws, w_dim] in their first rows."""
        return Reader(self.network.synthesis, latent, rows, block)

    @property
    def mean_latent(self) -> Tensor:
        """The mean latent [num_ws, w_dim]: the generator's average face."""
        return self.network.mapping.w_avg.repeat(self.num_ws, 1)

    @cached_property
    def spread(self) -> float:
        """The spread of W: the root mean square distance, per dimension, of 10,000 mapped samples to the mean."""
        return spread_of(self.network, self.prior) if self.known_spread is None else self.known_spread

    @cached_property
    def axes(self) -> Tensor:
        """How latents move, as `axes_of` says, [w_dim, w_dim]: its file has them; for an old one those of all W."""
        if self.known_axes is None:
            return axes_of(self.network, self.prior)
        return self.known_axes

    def tuned(self, synthesis: dict[str, Tensor]) -> Generator:
        """The same generator with some of its synthesis parameters replaced (names relative to `synthesis`)."""
        network = copy.deepcopy(self.network)
        network.synthesis.load_state_dict(synthesis, strict=False)
        return replace(self, network=network.requires_grad_(False), encoder=None)


@torch.inference_mode(False)
def read_generator(path: Path, name: str, device: torch.device | str = "cpu") -> Generator:
    """A generator from a safetensors file of ours, with the settings in its metadata.

    Raises WeightsCorrupt where it holds no StyleGAN2 that we know, or the encoder beside it is another generator's.
    """
    network, axes, prior, metadata = _read_network(path)
    digest = sha256_of(path)
    encoder = load_encoder(encoder_path(path), network.config, digest) if encoder_path(path).is_file() else None
    return Generator(
        network.to(device).eval().requires_grad_(False),
        name,
        digest,
        encoder.to(device) if encoder else None,
        float(metadata["w_spread"]) if "w_spread" in metadata else None,
        metadata.get("alignment", ""),
        axes.to(device) if axes is not None else None,
        prior.to(device) if prior else None,
    )


def _read_network(path: Path) -> tuple[StyleGAN2, Tensor | None, Prior | None, dict[str, str]]:
    try:
        with safetensors.safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            network = StyleGAN2(StyleGAN2Config.from_metadata(metadata))
            tensors = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
            axes = tensors.pop(AXES, None)
            if axes is not None and axes.shape != (network.config.w_dim,) * 2:
                raise ValueError(f"its axes are {tuple(axes.shape)}, its w {network.config.w_dim}")
            prior = take_prior(tensors)
            if prior and prior.z_dim != network.config.z_dim:
                raise ValueError(f"its prior is for z of {prior.z_dim} numbers, its network for {network.config.z_dim}")
            network.load_state_dict(tensors)
    except (SafetensorError, RuntimeError, TypeError, ValueError) as error:
        raise WeightsCorrupt(
            f"{path} is not a StyleGAN2 in our safetensors layout ({str(error).splitlines()[0]}): "
            'use another file, or "embedded"'
        ) from error
    return network, axes, prior, metadata


@torch.no_grad()
def random_z(network: StyleGAN2, prior: Prior | None, n: int, seed: int) -> Tensor:
    """n random z [n, z_dim] on the network's device, the same for a seed on every device."""
    normal = np.random.default_rng(seed).standard_normal((n, network.config.z_dim), dtype=np.float32)
    z = torch.from_numpy(normal)
    if prior:  # where it is: a file's is on the CPU
        z = prior(z.to(next(prior.parameters())))
    return z.to(network.mapping.w_avg)


@torch.no_grad()
def spread_of(network: StyleGAN2, prior: Prior | None = None) -> float:
    mapping = network.mapping
    z = random_z(network, prior, 10_000, 123)
    return float((mapping(z)[:, 0] - mapping.w_avg).square().mean().sqrt())


@torch.no_grad()
def axes_of(network: StyleGAN2, prior: Prior | None = None, moving: int | None = None) -> Tensor:
    """The axes of what W does while z's first `moving` numbers vary and the others stay, or all vary: [w_dim, w_dim].

    Each row is a direction, as long as the standard deviation along it, the longest first. What moves along them by
    a few of their lengths stays where the network knows what to draw.
    """
    z = random_z(network, prior, 10_000, 321).unflatten(0, (-1, 20))
    if moving is not None:
        z[:, 1:, moving:] = z[:, :1, moving:]
    ws = network.mapping(z.flatten(0, 1))[:, 0].unflatten(0, (-1, 20))
    off = (ws - ws.mean(1, keepdim=True)).flatten(0, 1)
    covariance = (off.T @ off).cpu().double() / (len(off) - len(ws))  # in this order: not every device has doubles
    variance, directions = torch.linalg.eigh(covariance)  # the least first
    return (directions * variance.clamp_min(0).sqrt()).T.flip(0).to(ws)


def save_generator(
    network: StyleGAN2,
    path: Path,
    dtype: torch.dtype = torch.float16,
    facts: Mapping[str, str] | None = None,
    moving: int | None = None,
    prior: Prior | None = None,
) -> None:
    """Writes a network as `load_generator` reads it, all or nothing, with what it knows of its W and `facts` about it.

    Half precision halves the file and costs no visible quality. `moving` says how many of z's first numbers move
    what is drawn, where that is known: along the axes of those a drag will go, else along those of all W.
    """
    tensors = {name: t.to(dtype) for name, t in {**network.state_dict(), **tensors_of(prior)}.items()}
    tensors[AXES] = axes_of(network, prior, moving).to(dtype)
    metadata = network.config.to_metadata() | {"w_spread": str(spread_of(network, prior))} | dict(facts or {})
    write_tensors(tensors, path, metadata)
