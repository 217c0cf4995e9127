"""`python -m weights.training DATA --out FOLDER`: makes a generator from a zip or folder of square pictures.

The same command goes on where the last one stopped, be it at its end, at Ctrl-C or at a power cut.
"""

from __future__ import annotations

import math
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro
from torch import Tensor
from tqdm import tqdm

from weights.prior import Prior
from weights.stylegan2 import StyleGAN2, StyleGAN2Config
from weights.training.codec import codec_of
from weights.training.command import (
    checkpoint_of,
    chosen_device,
    load_subject,
    run_command,
    set_up,
    told,
)
from weights.training.features import SOURCES, Features, joined, load_features
from weights.training.files import (
    codes_path,
    export,
    grown_alike,
    heads_path,
    load_checkpoint,
    load_codes,
    load_heads,
    load_network,
    load_prior,
    prior_path,
    save_checkpoint,
    save_codes,
    save_heads,
    save_prior,
    save_sheets,
)
from weights.training.train import Subject, TrainConfig, Training, begin, train


@dataclass(frozen=True)
class Arguments:
    """Train a StyleGAN2 on the pictures of a zip or a folder.

    On faces, find their landmarks first (python -m weights.training.landmarks DATA LANDMARKS.npz): with them the
    generator learns to move faces. On two CPU cores take --resolution 128 --channel-base 3072 --channel-max 192, for
    some 15 pictures a second; on a GPU what you want, and --bfloat16. A larger --resolution later grows the network.
    """

    data: tyro.conf.Positional[Path]  # a zip or folder of square pictures, all cropped alike
    out: Path = Path("training-out")  # checkpoint, export, grids and log go here
    landmarks: Path | None = None  # of faces, as python -m weights.training.landmarks found them
    resolution: int = 128  # px, a power of two; a checkpoint of fewer grows
    init: Path | None = None
    """A generator to start from, with its codes and discriminator beside it; it may be smaller than this one."""
    until: int = 1_000_000  # pictures drawn, all runs together
    features: Literal["mobilenet-v2", "efficientnet-lite1", "efficientnet-lite2"] = "mobilenet-v2"
    """What the discriminator looks through and pictures are compared in. One of other features is begun anew."""
    z_dim: int = 129  # the numbers of a picture's code, and a constant
    w_dim: int = 256
    mapping_layers: int = 2
    channel_base: int = 8192  # channels at resolution r are at most this / r
    channel_max: int = 256  # and never more than this
    device: str = "auto"  # auto: the GPU where there is one
    threads: int = 0  # of the CPU; 0: as many as there are cores
    save_every: float = 300  # seconds, between checkpoints, exports and grids
    config: Annotated[TrainConfig, tyro.conf.arg(name="")] = field(default_factory=TrainConfig)

    @property
    def network(self) -> StyleGAN2Config:
        return StyleGAN2Config(
            self.resolution, self.z_dim, self.w_dim, self.mapping_layers, self.channel_base, self.channel_max
        )


def main() -> None:
    run_command(Arguments, run)


def run(arguments: Arguments) -> None:
    set_up(arguments.threads, arguments.config.compiled)
    check(arguments.config)
    device = chosen_device(arguments.device)
    arguments.out.mkdir(parents=True, exist_ok=True)
    # Moments are of all: another network sees what the discriminator's would let pass.
    names = list(SOURCES) if arguments.config.moments else [arguments.features]
    networks = {name: load_features(SOURCES[name]).to(device) for name in names}
    features = networks[arguments.features]
    training = prepared(arguments, features, device, joined(list(networks.values())))
    prior = load_prior(prior_path(arguments.out))
    codes = known_codes(arguments)
    subject = load_subject(arguments.data, arguments.landmarks, arguments.resolution, arguments.z_dim, codes, device)
    try:
        follow_steps(training, subject, features, prior and prior.to(device), arguments)
    except KeyboardInterrupt:
        tqdm.write("stopped; the same command goes on from here")
    # After a loss that is no number nothing is saved: the last checkpoint is the one to go on from.
    save(training, subject, arguments.out, arguments.features)


def check(config: TrainConfig) -> None:
    """Options that cannot be, told before anything is made. Raises BadPictures, SystemExit."""
    if config.codec:
        codec_of(config.codec)
    if config.moments and config.random == 0:
        sys.exit("--moments asks something of random pictures, and there are none: take a larger --random-share")
    for part, times in asdict(config.moments_beyond).items():
        if not 0 <= times < math.inf:
            sys.exit(f"--moments-beyond.{part} {times:g} is no number of times a way can be asked: take 0, or more")


def prepared(arguments: Arguments, features: Features, device: torch.device, whole: Features | None = None) -> Training:
    """The training to go on with: the checkpoint in `out`, else one begun from `init`, else from noise."""
    checkpoint = checkpoint_of(arguments.out)
    if checkpoint.exists():
        return load_checkpoint(checkpoint, arguments.network, features, arguments.config, device, whole)
    torch.manual_seed(arguments.config.seed)
    if arguments.init:
        prior = load_prior(arguments.init) if codes_path(arguments.init).exists() else None
        if prior and prior.z_dim == arguments.z_dim:
            save_prior(prior, prior_path(arguments.out))  # which stays true of the same codes
        generator = grown_alike(load_network(arguments.init), arguments.network, arguments.config)
    else:
        generator = StyleGAN2(arguments.network)
    training = begin(generator.to(device), features, arguments.config, whole)
    known = heads_path(arguments.init) if arguments.init else None
    if known and known.exists() and not load_heads(training.heads, known, arguments.features):
        tqdm.write(f"{known} looks through other features: a new discriminator begins")
    return training


def known_codes(arguments: Arguments) -> dict[str, Tensor] | None:
    """What z means to the network that the training goes on with. Fitted anew, axes could have the other sign."""
    checkpoint = checkpoint_of(arguments.out)
    places = [checkpoint] if checkpoint.exists() else [codes_path(arguments.init)] if arguments.init else []
    return next((load_codes(place) for place in places if place.exists()), None)


def follow_steps(
    training: Training, subject: Subject, features: Features, prior: Prior | None, arguments: Arguments
) -> None:
    """Draws the bar, writes the log, and saves now and then."""
    config, saved = arguments.config, time.monotonic()
    steps = train(training, subject, features, config, arguments.until, prior)
    log = arguments.out / "log.jsonl"
    for _ in told(steps, log, "pictures", "pic", arguments.until, config.batch, training.drawn):
        if time.monotonic() - saved > arguments.save_every:
            save(training, subject, arguments.out, arguments.features)
            saved = time.monotonic()


def save(training: Training, subject: Subject, out: Path, features: str) -> None:
    prior = load_prior(prior_path(out)) or Prior(training.average.config.z_dim)  # as it begins: the identity
    export(training.average, out / "generator.safetensors", prior, subject.moving)  # first: it sets the mean latent
    save_codes(subject, codes_path(out / "generator.safetensors"))
    save_heads(training.heads, heads_path(out / "generator.safetensors"), features)
    save_checkpoint(training, subject, checkpoint_of(out))
    save_sheets(training.average, prior, subject, out, training.drawn)


if __name__ == "__main__":
    main()
