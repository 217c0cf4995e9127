"""`python -m weights.training.mean OUT EARLIER LATER ...`: a generator of the mean weights of several.

One training left them at different times, and what each has of the noise of its last steps goes (Izmailov et al. 2018,
arXiv 1803.05407).
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro

from weights.prior import Prior
from weights.stylegan2 import StyleGAN2
from weights.training.command import run_command
from weights.training.files import BadCheckpoint, codes_path, export, heads_path, load_network, load_prior, moving_in


@dataclass(frozen=True)
class Arguments:
    """Make a generator of the mean weights of several, as one training left them at different times.

    A training overwrites its generator.safetensors: copy it now and then. Train the encoder afterwards.
    """

    out: tyro.conf.Positional[Path]  # the file to write, which may be one of these
    generators: tyro.conf.Positional[tuple[Path, ...]]  # two at least; what lies beside the last goes with the mean


def main() -> None:
    run_command(Arguments, run)


def run(arguments: Arguments) -> None:
    if len(arguments.generators) < 2:
        raise BadCheckpoint("a mean is of two generators at least: name another")
    last, out = arguments.generators[-1], arguments.out
    network = mean_of([load_network(path) for path in arguments.generators])
    prior = load_prior(last) or Prior(network.config.z_dim)
    export(network, out, prior, moving_in(last))
    for beside in (codes_path, heads_path):
        if beside(last).exists() and beside(last) != beside(out):
            shutil.copyfile(beside(last), beside(out))


@torch.no_grad()
def mean_of(networks: list[StyleGAN2]) -> StyleGAN2:
    """The first of the networks, with the mean weights of all. Raises BadCheckpoint where they are not alike."""
    first = networks[0]
    if any(network.config != first.config for network in networks):
        raise BadCheckpoint("the generators are of different sizes: take several of one training")
    states = [network.state_dict() for network in networks]
    first.load_state_dict({name: torch.stack([state[name] for state in states]).mean(0) for name in states[0]})
    return first


if __name__ == "__main__":
    main()
