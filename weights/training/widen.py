"""`python -m weights.training.widen GENERATOR DATA`: random samples vary more, as much as the pictures do.

Drawings vary less than pictures, since what a code does not tell they have to make up. So a generator's prior is given
codes that vary more along what tells of features: of the directions in which the pictures' vary most, so much that
drawings would vary alike in each. That is had at the price of samples that are less like a picture, one for one; how
much of it is wanted is for the measurement to say.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import tyro
from torch import Tensor
from tqdm import tqdm

from weights.generator import random_z
from weights.stylegan2 import StyleGAN2
from weights.training.codec import Codec, codec_of
from weights.training.command import run_command, set_up
from weights.training.data import load_pictures, to_bytes, to_float
from weights.training.features import SOURCES, Features, load_features
from weights.training.files import BadCheckpoint, codes_path, export, load_network, load_prior, moving_in
from weights.training.gaussians import root
from weights.training.measure import BATCH, pooled
from weights.training.moments import LEAST_SPREAD
from weights.training.prior import recode

DIRECTIONS = 10  # of features; of more, each bit of variance costs more samples that are like a picture
WIDEST = 1.8  # times as far, along any of them, or as near


@dataclass(frozen=True)
class Arguments:
    """Let a generator's samples vary more, in the features that a training looks at; the generator stays as it is.

    Measure its samples afterwards, and train the encoder anew. A training that goes on in the same folder writes its
    own prior again.
    """

    generator: tyro.conf.Positional[Path]  # with its codes beside it, as a training exports it; it is written anew
    data: tyro.conf.Positional[Path]  # the pictures it was trained on
    share: float = 0.7  # of the way to samples that vary as the pictures do
    samples: int = 2000
    codec: Annotated[str | None, tyro.conf.arg(metavar="webp:92|jpeg:85|...")] = None
    """How the pictures were compressed: samples are looked at through the same."""
    threads: int = 0  # of the CPU; 0: as many as there are cores


def main() -> None:
    run_command(Arguments, run)


@torch.no_grad()
def run(arguments: Arguments) -> None:
    set_up(arguments.threads)
    path = arguments.generator
    network, codec = load_network(path).eval(), codec_of(arguments.codec) if arguments.codec else None
    prior = load_prior(path)
    if not prior:
        raise BadCheckpoint(f"{path} has no prior to widen: make one with python -m weights.training.prior")
    if not codes_path(path).exists():
        raise BadCheckpoint(f"{codes_path(path)} is missing: it lies beside a generator where its training wrote it")
    if arguments.samples <= prior.z_dim:
        raise BadCheckpoint(f"{arguments.samples} samples tell nothing of {prior.z_dim} numbers: take 2000")
    pictures = load_pictures(arguments.data, network.config.img_resolution)
    features, device = last_maps([load_features(source) for source in SOURCES.values()]), torch.device("cpu")
    theirs = pooled(features, map(to_float, tqdm(pictures.split(BATCH), "pictures")), device)
    z = random_z(network, prior, arguments.samples, 0)
    drawn = (stored(network, part, codec) for part in tqdm(z.split(BATCH), "samples"))
    ours = pooled(features, map(to_float, drawn), device)
    change = widening(z[:, :-1].double(), standard(ours, theirs), standard(theirs, theirs), arguments.share)
    mean = z[:, :-1].mean(0)
    recode(prior, change.float(), mean, mean)
    export(network, path, prior, moving_in(path))
    gains = torch.linalg.svdvals(change)[:5]
    sys.stdout.write(f"codes vary {', '.join(f'{gain:.2f}' for gain in gains)} ... times as far\n")


def stored(network: StyleGAN2, z: Tensor, codec: Codec | None) -> Tensor:
    """What is drawn of z, as bytes in a file."""
    images = to_bytes(network.synthesis(network.mapping(z)))
    return codec(images) if codec else images


def last_maps(networks: Sequence[Features]) -> Features:
    """The last maps of all, which are equally large, as one."""
    return lambda images: [torch.cat([network(images)[-1] for network in networks], 1)]


def standard(rows: Tensor, theirs: Tensor) -> Tensor:
    """Rows [n, C] less the pictures' mean, in units of the pictures' spread."""
    return (rows - theirs.mean(0)) / theirs.std(0).clamp_min(LEAST_SPREAD)


def widening(codes: Tensor, ours: Tensor, theirs: Tensor, share: float = 1.0) -> Tensor:
    """How to change codes, less their mean, that what is drawn of them varies as the pictures do: [k, k].

    From drawings' codes [n, k], their features and the pictures' [n, C] and [m, C]. What codes tell, by a linear map,
    is stretched; the rest stays. Only along what tells of the DIRECTIONS in which the pictures' features vary most.
    """
    centred = codes - codes.mean(0)
    white, back = root(torch.cov(codes.T), -0.5), root(torch.cov(codes.T), 0.5)
    _, _, axes = torch.linalg.svd(theirs - theirs.mean(0), full_matrices=False)
    along = axes[: min(DIRECTIONS, codes.shape[1])].T
    seen = (ours - ours.mean(0)) @ along
    known = centred @ white
    slopes = torch.linalg.lstsq(known, seen).solution  # [k, directions]
    rest = (seen - known @ slopes).T.cov()
    inside, shares = torch.linalg.qr(slopes)  # what tells of them, and how
    inverse = torch.linalg.inv(shares)
    wanted = inverse.T @ ((theirs @ along).T.cov() - rest) @ inverse  # covariance of codes, 1 now
    variance, ways = torch.linalg.eigh((wanted + wanted.T) / 2)
    gains = variance.clamp(WIDEST**-2, WIDEST**2).sqrt() - 1
    stretch = torch.eye(len(white)).to(white) + share * inside @ (ways * gains) @ ways.T @ inside.T
    return back @ stretch @ white


if __name__ == "__main__":
    main()
