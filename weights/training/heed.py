"""`python -m weights.training.heed DATA --landmarks FILE --generator G --out FOLDER`: codes that also say the look.

A generator whose codes become longer (`weights.training.look`) hears nothing of the new numbers: the mapping's weights
of them are zero, and its rate, which suits what is learned already, would take days to make them count. So they learn
first, at a rate of their own and with all else held, what the generator can make of them.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

import torch
import tyro
from tqdm import tqdm

from weights.precision import channels_last
from weights.prior import Prior, lengthened
from weights.stylegan2 import FullyConnected, StyleGAN2
from weights.training.command import chosen_device, load_subject, run_command, set_up, told
from weights.training.faces import LOOKED_AT, Faces
from weights.training.features import Features, load_features
from weights.training.files import (
    BadCheckpoint,
    codes_path,
    export,
    heads_path,
    load_codes,
    load_network,
    save_codes,
)
from weights.training.growth import grown
from weights.training.look import Look
from weights.training.train import BETAS, COARSE_SIZES, averaged_distance, draw_stages, resized
from weights.training.variety import pooled


@dataclass(frozen=True)
class HeedConfig:
    """How the mapping learns to heed new numbers of z."""

    pictures: int = 4000
    batch: int = 16
    lr: float = 0.02  # Adam's, in standard deviations of the layer's weights, falling to zero in the second half
    coarse_weight: float = 40.0  # of the L1 distance: without it, what is coarse goes wrong so that features come right
    bfloat16: bool = False  # twice as fast where the hardware has it
    compiled: bool = False  # faster, a minute later, where there is a C++ compiler
    seed: int = 0


def heeding(network: StyleGAN2, faces: Faces, features: Features, config: HeedConfig) -> Iterator[dict[str, float]]:
    """Trains the weights of the look in place, yielding each step's losses.

    `look`: how far the look of what is drawn from a picture's code is from the picture's, in variances; `slope`: how
    much of a look comes.
    """
    look, first = faces.codes.look, network.mapping.fc0
    assert look is not None and isinstance(first, FullyConnected)
    k = look.down.shape[1]
    new = torch.zeros_like(first.weight)
    new[:, -1 - k : -1] = 1
    network.requires_grad_(False)
    first.weight.requires_grad_(True)
    first.weight.register_hook(new.mul)
    adam = torch.optim.Adam([first.weight], betas=BETAS)
    rate = config.lr * float(first.weight[:, : -1 - k].std().detach())
    look = replace(look, **{name: tensor.to(new) for name, tensor in vars(look).items()})
    steps = config.pictures // config.batch
    for index in range(steps):
        rng = torch.Generator().manual_seed(config.seed * 1_000_003 + index)
        images, codes = faces.natural(torch.randint(len(faces.pictures), (config.batch,), generator=rng))
        codes = codes.to(images)
        adam.param_groups[0]["lr"] = rate * min(1.0, 2 * (1 - index / steps))
        with torch.enable_grad():
            ws = network.mapping(lengthened(codes))
            with torch.autocast(images.device.type, torch.bfloat16, enabled=config.bfloat16):
                *_, drawn = draw_stages(network.synthesis, ws, config.compiled)
                maps = features(resized(drawn, LOOKED_AT))
            shown = look.encode(pooled([m.float() for m in maps]), codes[:, :-k])
            asked = codes[:, -k:]
            coarse = [averaged_distance(drawn.float(), images, size) for size in COARSE_SIZES]
            losses = {"look": (shown - asked).square().mean(), "coarse": torch.stack(coarse).mean()}
            adam.zero_grad()
            (losses["look"] + config.coarse_weight * losses["coarse"]).backward()
            adam.step()
        losses["slope"] = (shown * asked).mean() / asked.square().mean()
        yield {name: float(value.detach()) for name, value in losses.items()}


@dataclass(frozen=True)
class Arguments:
    """Give a generator of faces codes that also say the look, and teach its mapping to heed it.

    Minutes on two cores. The training goes on from what this writes, with --init OUT/generator.safetensors and the
    longer --z-dim that is named in the end; its prior is of shorter codes, and must be made anew
    (python -m weights.training.prior).
    """

    data: tyro.conf.Positional[Path]  # the training pictures
    landmarks: Path  # of them, as python -m weights.training.landmarks found them
    generator: Path  # a .safetensors file of python -m weights.training, with its codes beside it
    out: Path = Path("heed-out")  # a folder; the generator, codes and discriminator go there
    look: int = 48  # numbers
    device: str = "auto"  # auto: the GPU where there is one
    threads: int = 0  # of the CPU; 0: as many as there are cores
    config: Annotated[HeedConfig, tyro.conf.arg(name="")] = field(default_factory=HeedConfig)


def main() -> None:
    run_command(Arguments, run)


def run(arguments: Arguments) -> None:
    set_up(arguments.threads, arguments.config.compiled)
    device, source = chosen_device(arguments.device), arguments.generator
    old = load_network(source)
    if not codes_path(source).exists():
        raise BadCheckpoint(f"{codes_path(source)} is not there: take a generator that python -m weights.training made")
    codes = load_codes(codes_path(source))
    if Look.of_tensors(codes):
        raise BadCheckpoint(f"the codes of {source} say the look already: go on with python -m weights.training")
    features, longer = load_features().to(device), replace(old.config, z_dim=old.config.z_dim + arguments.look)
    subject = load_subject(
        arguments.data,
        arguments.landmarks,
        longer.img_resolution,
        longer.z_dim,
        codes,
        device,
        features,
        arguments.look,
    )
    assert isinstance(subject, Faces)
    network = channels_last(grown(old, longer)).to(device)
    arguments.out.mkdir(parents=True, exist_ok=True)
    steps = heeding(network, subject, features, arguments.config)
    log, config = arguments.out / "heed-log.jsonl", arguments.config
    try:
        for _ in told(steps, log, "pictures", "pic", config.pictures, config.batch):
            pass
    except KeyboardInterrupt:
        tqdm.write("stopped early; what was learned so far is kept")
    path = arguments.out / "generator.safetensors"
    export(network, path, Prior(longer.z_dim), subject.moving)
    save_codes(subject, codes_path(path))
    if heads_path(source).exists():
        shutil.copyfile(heads_path(source), heads_path(path))
    tqdm.write(f"go on with python -m weights.training --init {path} --z-dim {longer.z_dim}")


if __name__ == "__main__":
    main()
