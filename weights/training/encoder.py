"""`python -m weights.training.encoder DATA --run FOLDER`: trains the encoder of the generator that a training made.

Half of what it sees are training pictures, whose codes are known, half the generator's own samples, whose latents
are. It learns to lower what the search of the pivot lowers, which begins at its latents: the distance of what they
draw to the picture, and the latents' own to the mean. The picture is seen in another light and before another ground,
as photos are. With it comes how steep that is, along which ways of a latent.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import torch
import torch.nn.functional as F
import tyro
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from weights.encoder import Encoder, encoder_path, save_encoder
from weights.generator import Generator
from weights.hub import sha256_of
from weights.perceptual import Perceptual, PerceptualName, load_perceptual, perceptual_size
from weights.precision import channels_last, fast_products
from weights.training.command import (
    checkpoint_in,
    chosen_device,
    load_subject,
    run_command,
    set_up,
    told,
)
from weights.training.curvature import measure_curvature
from weights.training.features import load_features
from weights.training.files import BadCheckpoint, load_codes, load_network, load_prior, read_safetensors, tiled
from weights.training.growth import enlarged
from weights.training.photographed import before_another_ground, recoloured, shaded
from weights.training.train import Subject, draw_stages

AT_ONCE = 4  # pictures drawn at once by a CPU: half of a training's, for here the way back is to latents alone


@dataclass(frozen=True)
class EncoderConfig:
    """How to train it. Spans are counted in pictures."""

    batch: int = 16  # pictures a step, half of them samples
    lr: float = 5e-4  # Adam's, at its peak
    trunk_gain: float = 0.3  # of the trunk's rate, which knows pictures already
    pictures: int = 30_000  # in all; the rate falls to zero on the way
    latent_weight: float = 0.1  # of the distance to the known latent, in units of the spread
    pixel_weight: float = 3.0  # of the mean squared pixel difference, beside the perceptual distance: the pivot's
    mean_weight: float = 0.1  # of the mean squared distance to the mean latent, in units of the spread: the pivot's
    offset_weight: float = 0.01  # of the mean squared offset: keeps latents near the mapped ones
    colour: float = 0.5  # how far light is changed at most
    shade: float = 0.7  # how unevenly it falls at most: standard deviation of its logarithm
    ground: float = 0.5  # share of the pictures beside whose middle parts are of another picture
    noise: float = 0.03  # standard deviation of the noise on what the encoder sees
    mixing: float = 0.5  # share of the samples that are made of two
    beside: float = 0.7  # share of the way to another latent that rows of samples go at most, as those of photos lie
    compiled: bool = False  # the generator draws twice as fast, a minute later, where there is a C++ compiler
    seed: int = 0


@dataclass(frozen=True)
class Known:
    """Pictures, and the latents that they are known to have."""

    images: Tensor  # [n, 3, R, R]
    ws: Tensor  # [n, num_ws, w_dim]


def train_encoder(
    encoder: Encoder, generator: Generator, subject: Subject, perceptual: Perceptual, config: EncoderConfig
) -> Iterator[dict[str, float]]:
    """Trains `encoder` in place, yielding each step's losses."""
    perceptual = perceptual.fast()
    trunk = list(encoder.trunk.parameters())
    heads = [p for name, p in encoder.named_parameters() if not name.startswith("trunk.")]
    adam = torch.optim.Adam([{"params": trunk}, {"params": heads}], betas=(0.9, 0.99))
    steps = config.pictures // config.batch
    for step in range(steps):
        rng = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
        rate = config.lr * min(1.0, step / (0.02 * steps + 1)) * (0.5 + 0.5 * math.cos(math.pi * step / steps))
        for group, gain in zip(adam.param_groups, (config.trunk_gain, 1.0), strict=True):
            group["lr"] = rate * gain
        known = draw_known(generator, subject, config, rng)
        images = photographed(known.images, config, rng)
        losses = encoder_losses(encoder, generator, Known(images, known.ws), perceptual, config, rng)
        loss = (
            losses["perceptual"]
            + config.pixel_weight * losses["pixels"]
            + config.mean_weight * losses["mean"]
            + config.latent_weight * losses["latent"]
            + config.offset_weight * losses["offsets"]
        )
        adam.zero_grad()
        loss.backward()
        adam.step()
        yield {name: float(value.detach()) for name, value in losses.items()}


@torch.no_grad()
def draw_known(generator: Generator, subject: Subject, config: EncoderConfig, rng: torch.Generator) -> Known:
    """Training pictures first, then samples, some of which are made of two latents; drawn from beside those.

    There each row has gone its own way, towards another latent: what a photo needs, and no z has. The photos' pivots
    lie half a spread or more from their mapped latents, rows nearly as far from each other, all nearer to the mean.
    """
    half = config.batch // 2
    targets = subject.draw(config.batch - half, rng)
    mapping, n_rows = generator.network.mapping, generator.num_ws

    def random_ws(n: int) -> Tensor:
        z = torch.randn(n, targets.z.shape[1], generator=rng).to(targets.images)
        mapped: Tensor = mapping(generator.prior(z) if generator.prior else z)
        return mapped

    one, other = random_ws(2 * half).chunk(2)
    cut = torch.randint(1, n_rows, (half, 1, 1), generator=rng)
    cut[torch.rand(half, generator=rng) >= config.mixing] = n_rows
    ws = torch.where((torch.arange(n_rows)[:, None] < cut).to(one.device), one, other)
    ways = random_ws(half * n_rows)[:, 0].unflatten(0, (half, n_rows))
    far = config.beside * torch.rand(half, 1, 1, generator=rng).to(ws)
    drawn = painted(generator, ws.lerp(ways, far), config).clamp(-1, 1)
    ws = ws.lerp(generator.mean_latent.expand_as(ws), far)  # what the rows still share
    return Known(torch.cat([targets.images, drawn]), torch.cat([mapping(targets.z), ws]))


def painted(generator: Generator, ws: Tensor, config: EncoderConfig) -> Tensor:
    """Pictures [n, 3, R, R] of latents [n, num_ws, w_dim]."""
    with fast_products(generator.device):
        *_, images = draw_stages(generator.network.synthesis, ws, compiled=config.compiled, at_once=AT_ONCE)
    return images.float()


def photographed(images: Tensor, config: EncoderConfig, rng: torch.Generator) -> Tensor:
    """As photos of the same might be."""
    images = before_another_ground(images, config.ground, rng)
    return shaded(recoloured(images, config.colour, rng), config.shade, rng)


def encoder_losses(
    encoder: Encoder,
    generator: Generator,
    known: Known,
    perceptual: Perceptual,
    config: EncoderConfig,
    rng: torch.Generator,
) -> dict[str, Tensor]:
    """Of a batch."""
    images, spread = known.images, generator.spread
    seen = images + config.noise * torch.randn(images.shape, generator=rng).to(images)
    with fast_products(generator.device):
        z, offsets = (x.float() for x in encoder(seen))
    mapped = generator.network.mapping(z)
    found = mapped + offsets * spread
    some = torch.randperm(len(images), generator=rng)[: len(images) // 2].to(images.device)
    found, images = found[some], images[some]  # drawing costs most, and every second will do
    drawn = painted(generator, found, config)
    return {
        "perceptual": perceptual(drawn, images).mean(),
        "pixels": F.mse_loss(drawn, images),
        "mean": (found - generator.mean_latent).square().mean() / spread**2,
        # Of the mapped latent alone: the offsets are there for what it cannot say, as the light of a photo.
        "latent": F.mse_loss(mapped, known.ws) / spread**2,
        "offsets": offsets.square().mean(),
    }


@dataclass(frozen=True)
class Arguments:
    """Train the encoder of the generator that `python -m weights.training` has made."""

    data: tyro.conf.Positional[Path]  # the same pictures
    run: Path = Path("training-out")  # what that command got as --out; the encoder is written there
    landmarks: Path | None = None  # the same file, if there was one
    device: str = "auto"  # auto: the GPU where there is one
    init: Path | None = None  # an encoder to start from: that of an earlier or smaller generator with the same codes
    perceptual: PerceptualName = "auto"  # the distance that inversions will use
    threads: int = 0  # of the CPU; 0: as many as there are cores
    save_every: float = 120  # seconds
    config: Annotated[EncoderConfig, tyro.conf.arg(name="")] = field(default_factory=EncoderConfig)


def main() -> None:
    run_command(Arguments, run)


def run(arguments: Arguments) -> None:
    set_up(arguments.threads, arguments.config.compiled)
    device = chosen_device(arguments.device)
    checkpoint = checkpoint_in(arguments.run)
    path = arguments.run / "generator.safetensors"
    # Without the encoder beside it, which may be an earlier generator's.
    network, prior = load_network(path).to(device).eval().requires_grad_(False), load_prior(path)
    generator = Generator(network, str(path), sha256_of(path), prior=prior.to(device) if prior else None)
    perceptual = load_perceptual(arguments.perceptual, device, size=perceptual_size(generator.resolution))
    subject = load_subject(
        arguments.data,
        arguments.landmarks,
        generator.resolution,
        generator.network.config.z_dim,
        load_codes(checkpoint),
        device,
    )
    encoder = begun(arguments, generator)
    channels_last(encoder)
    channels_last(generator.network)
    encoder.curvature = measure_curvature(generator, perceptual, arguments.config.pixel_weight)
    follow(encoder.to(device), generator, subject, perceptual, arguments)


def begun(arguments: Arguments, generator: Generator) -> Encoder:
    """The encoder to train: an earlier one, or one that knows pictures but no faces.

    Raises BadCheckpoint, or FeaturesMissing.
    """
    torch.manual_seed(arguments.config.seed)
    encoder = Encoder(generator.network.config)
    if arguments.init is None:
        encoder.trunk.load_state_dict(load_features().state_dict())
        return encoder
    earlier = {  # without its curvature, which is the generator's and is measured anew
        name: tensor
        for name, tensor in read_safetensors(arguments.init)[0].items()
        if not name.startswith("curvature.")
    }
    try:
        # Of a generator grown since: new rows come last and begin with no offset.
        for name, fresh in encoder.offsets.named_parameters(prefix="offsets"):
            if name in earlier:
                earlier[name] = enlarged(earlier[name], fresh.detach(), name)
        encoder.load_state_dict(earlier)
    except RuntimeError as error:
        raise BadCheckpoint(f"{arguments.init} is no encoder for this generator: leave --init out") from error
    return encoder


def follow(
    encoder: Encoder, generator: Generator, subject: Subject, perceptual: Perceptual, arguments: Arguments
) -> None:
    """Draws the bar, writes the log, and saves now and then; a run that is stopped leaves what it had."""
    config, saved = arguments.config, time.monotonic()
    path = encoder_path(arguments.run / "generator.safetensors")
    steps = train_encoder(encoder, generator, subject, perceptual, config)
    log = arguments.run / "encoder-log.jsonl"
    try:
        for _ in told(steps, log, "pictures", "pic", config.pictures, config.batch):
            if time.monotonic() - saved > arguments.save_every:
                save_encoder(encoder, path, generator.sha256)
                saved = time.monotonic()
    except KeyboardInterrupt:
        tqdm.write("stopped early; what was learned so far is kept")
    save_encoder(encoder, path, generator.sha256)
    Image.fromarray(tiled(encoder_sheet(encoder, generator, subject))).save(arguments.run / "encoder.png")


@torch.no_grad()
def encoder_sheet(encoder: Encoder, generator: Generator, subject: Subject) -> Tensor:
    """Training pictures in new shapes, what the mapped latent draws, and what the latent with offsets does."""
    images = subject.draw(8, torch.Generator().manual_seed(0)).images
    z, offsets = encoder(images)
    mapped = generator.network.mapping(z)
    return torch.stack([images, generator.render(mapped), generator.render(mapped + offsets * generator.spread)])


if __name__ == "__main__":
    main()
