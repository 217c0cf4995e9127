"""`python -m weights.training.morph DATA LANDMARKS --out FOLDER`: a generator whose W moves faces, by regression.

The generator learns to draw a picture from what it is made of: z = [shape code | appearance code], where the
picture has been warped to a new shape. So shape is a direction of its own in W, over a wider range than the
pictures have, and every random z draws a soft, well-placed face. The same command goes on where the last one
stopped.
"""

from __future__ import annotations

import copy
import json
import math
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import torch.nn.functional as F
import tyro
from PIL import Image
from torch import Tensor

from weights.generator import save_generator
from weights.stylegan2 import StyleGAN2, StyleGAN2Config
from weights.training.data import BadPictures, load_pictures, to_bytes, to_float
from weights.training.features import Features, FeaturesMissing, load_features
from weights.training.files import BadCheckpoint, flat, load_network, read_safetensors, under, unflat, write_safetensors
from weights.training.growth import grown
from weights.training.shapes import (
    FaceCodes,
    Shapes,
    fit_basis,
    fit_shapes,
    grid,
    shapeless,
    warped,
)

BETAS = (0.9, 0.99)  # Adam's; momentum, unlike StyleGAN2's: regression has no opponent that moves
COARSE = 6  # rows of W+ that hold the shape: up to the first convolution at 32 px


class BadLandmarks(ValueError):
    """The landmarks do not belong to the pictures; the message says what to do."""


@dataclass(frozen=True)
class MorphConfig:
    """How to train. Spans are counted in pictures drawn."""

    batch: int = 16  # pictures a step
    lr: float = 2e-3  # Adam's
    mapping_gain: float = 25.0  # of the mapping's rate, which the equalised weights slow down by 100
    lr_half_life: float = 60_000  # pictures in which it halves
    warp_share: float = 0.85  # of the pictures, which get a new shape; the others are as they are
    mixing: float = 0.5  # share whose fine rows come from another shape, so shape stays in the coarse ones
    jitter: float = 0.05  # standard deviation of the noise on codes, which have one themselves
    coarse_weight: float = 1.0  # of the L1 distance at 32 px
    feature_weight: float = 0.5  # of the distance in frozen features
    face_weight: float = 4.0  # how much more a pixel between brows and chin counts than one of the background
    ema: float = 2_000  # pictures in which the average generator forgets half
    w_avg_decay: float = 0.998  # a step, of the mean latent
    feature_size: int = 128  # px at which features compare; smaller pictures are enlarged to this
    seed: int = 0


@dataclass(frozen=True)
class Faces:
    """Training pictures with what is known of them; the mirror image of face i is face i + n."""

    pictures: Tensor  # uint8 [n, 3, R, R]
    shapes: Shapes  # of 2n
    codes: FaceCodes
    appearance: Tensor  # codes [2n, k]
    weight: Tensor  # of each pixel, [R, R], 1 in the mean

    def images(self, index: Tensor) -> Tensor:
        """Pictures number `index`, in [-1, 1]."""
        n = len(self.pictures)
        images = to_float(self.pictures[index % n])
        return torch.where((index >= n)[:, None, None, None], images.flip(3), images)


@dataclass
class Morph:
    """All that changes while training, and what a checkpoint keeps."""

    generator: StyleGAN2
    average: StyleGAN2  # the exponential moving average: what is exported
    adam: torch.optim.Adam
    step: int = 0
    drawn: int = 0  # pictures


def prepare(
    pictures: Tensor,
    points: Tensor,
    z_dim: int,
    shape_dim: int,
    face_weight: float,
    codes: FaceCodes | None = None,
) -> Faces:
    """Codes for all pictures uint8 [n, 3, R, R] with points [n, 68, 2], of the kind of `codes` or newly fitted."""
    shapes = fit_shapes(points)
    rng = torch.Generator().manual_seed(0)
    # White over what training sees, not over nature: the moves must have codes of their own.
    drawn = torch.cat([shapes.redrawn(shapes.points, rng) for _ in range(4)] + [shapes.points])
    shape = codes.shape if codes else fit_basis(drawn, shape_dim)
    mean = shape.mean.view(68, 2)
    images = to_float(pictures)
    both = zip(torch.cat([images, images.flip(3)]).split(64), shapes.points.split(64), strict=True)
    small = torch.cat([shapeless(part, at, mean) for part, at in both])
    appearance = codes.appearance if codes else fit_basis(small, z_dim - shape_dim)
    weight = face_map(mean, pictures.shape[-1], face_weight)
    return Faces(pictures, shapes, FaceCodes(shape, appearance), appearance.encode(small), weight)


def face_map(mean: Tensor, size: int, face_weight: float) -> Tensor:
    """How much pixels count, [size, size]: more around the points of brows, eyes, nose and mouth."""
    distance = (grid(size).view(-1, 1, 2) - mean[17:]).square().sum(-1).min(1).values.view(size, size)
    weight = 1 + face_weight * torch.exp(-distance / (2 * 0.04**2))
    return weight / weight.mean()


def begin(generator: StyleGAN2, config: MorphConfig) -> Morph:
    for parameter in generator.train().requires_grad_(True).parameters():
        if parameter.ndim == 4:  # a fifth faster on CPUs
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    average = copy.deepcopy(generator).eval().requires_grad_(False)
    groups = [{"params": list(part.parameters())} for part in (generator.mapping, generator.synthesis)]
    return Morph(generator, average, torch.optim.Adam(groups, config.lr, BETAS))


def train(
    morph: Morph, faces: Faces, features: Features, config: MorphConfig, until: int
) -> Iterator[dict[str, float]]:
    """Trains until `until` pictures are drawn, yielding each step's losses; changes `morph` in place.

    Every step draws its randomness from (seed, step), so a run stopped and resumed equals one that was not.
    """
    while morph.drawn < until:
        rng = torch.Generator().manual_seed(config.seed * 1_000_003 + morph.step)
        rate = config.lr * 0.5 ** (morph.drawn / config.lr_half_life)
        for group, gain in zip(morph.adam.param_groups, (config.mapping_gain, 1.0), strict=True):
            group["lr"] = rate * gain
        targets, z, other = draw_batch(faces, config, rng)
        images = morph.generator.synthesis(latents(morph.generator, z, other, config, rng))
        losses = distances(images, targets, faces.weight, features, config)
        loss = losses["full"] + config.coarse_weight * losses["coarse"] + config.feature_weight * losses["features"]
        morph.adam.zero_grad()
        loss.backward()
        morph.adam.step()
        half_life = min(config.ema, 0.1 * (morph.drawn + config.batch))  # at first, forget the noise sooner
        follow(morph.average, morph.generator, 0.5 ** (config.batch / half_life))
        morph.step += 1
        morph.drawn += config.batch
        if not math.isfinite(float(loss.detach())):
            raise FloatingPointError(f"the loss is not finite at step {morph.step}")
        yield {name: float(value.detach()) for name, value in losses.items()}


def draw_batch(faces: Faces, config: MorphConfig, rng: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Pictures [n, 3, R, R], most with a new shape; their codes [n, z_dim]; the codes with yet another shape."""
    n = config.batch
    index = torch.randint(len(faces.shapes.points), (n,), generator=rng)
    images, points = faces.images(index), faces.shapes.points[index]
    k = round(n * config.warp_share)
    new = torch.cat([faces.shapes.redrawn(points[:k], rng), points[k:]])
    targets = torch.cat([warped(images[:k], points[:k], new[:k]), images[k:]])
    shape, appearance = faces.codes.shape.encode(new), faces.appearance[index]
    z = torch.cat([shape, appearance], 1)
    other = torch.cat([shape.roll(1, 0), appearance], 1)
    return targets, z + config.jitter * torch.randn(z.shape, generator=rng), other


def latents(generator: StyleGAN2, z: Tensor, other: Tensor, config: MorphConfig, rng: torch.Generator) -> Tensor:
    """W+ [n, num_ws, w_dim] of z, the fine rows of some from `other`."""
    mapping = generator.mapping
    ws, others = mapping(torch.cat([z, other])).chunk(2)
    with torch.no_grad():
        mapping.w_avg.lerp_(ws[:, 0].mean(0), 1 - config.w_avg_decay)
    mixed = torch.rand(len(z), 1, 1, generator=rng) < config.mixing
    fine = torch.arange(mapping.num_ws)[:, None] >= COARSE  # [num_ws, 1]
    return torch.where(mixed & fine, others, ws)


def distances(
    images: Tensor, targets: Tensor, weight: Tensor, features: Features, config: MorphConfig
) -> dict[str, Tensor]:
    full = ((images - targets).abs() * weight).mean()
    coarse = F.l1_loss(resized(images, 32), resized(targets, 32))
    with torch.no_grad():
        theirs = features(resized(targets, config.feature_size))
    ours = features(resized(images, config.feature_size))
    feature = torch.stack([map_distance(a, b) for a, b in zip(ours[:3], theirs[:3], strict=True)]).sum()
    return {"full": full, "coarse": coarse, "features": feature}


def resized(images: Tensor, size: int) -> Tensor:
    if images.shape[-1] == size:
        return images
    if images.shape[-1] > size:
        return F.interpolate(images, size=(size, size), mode="area")
    return F.interpolate(images, size=(size, size), mode="bilinear", align_corners=False)


def map_distance(ours: Tensor, theirs: Tensor) -> Tensor:
    """Between the directions of two maps' channel vectors [n, C, h, w]."""
    return (F.normalize(ours) - F.normalize(theirs)).square().sum(1).mean()


@torch.no_grad()
def follow(average: StyleGAN2, generator: StyleGAN2, decay: float) -> None:
    for mean, now in zip(average.parameters(), generator.parameters(), strict=True):
        mean.lerp_(now, 1 - decay)


@torch.no_grad()
def export(average: StyleGAN2, path: Path) -> None:
    """The generator for `load_generator`; its mean latent is that of z ~ N(0, I)."""
    z = torch.randn(10_000, average.config.z_dim, generator=torch.Generator().manual_seed(0))
    average.mapping.w_avg.copy_(average.mapping(z)[:, 0].mean(0))
    partial = path.with_name(path.name + ".part")
    save_generator(average, partial)
    partial.replace(path)


def parts(morph: Morph) -> dict[str, Any]:
    """What knows `state_dict`, by the name it has in a checkpoint."""
    return {"generator": morph.generator, "average": morph.average, "adam": morph.adam}


def save_checkpoint(morph: Morph, codes: FaceCodes, path: Path) -> None:
    """The codes too: fitted anew, an axis could have the other sign."""
    tensors = codes.tensors() | {
        f"{part}/{name}": tensor for part, thing in parts(morph).items() for name, tensor in flat(thing.state_dict())
    }
    counts = json.dumps({"step": morph.step, "drawn": morph.drawn})
    write_safetensors(tensors, path, morph.generator.config.to_metadata() | {"training": counts})


def load_codes(path: Path) -> FaceCodes:
    return FaceCodes.of_tensors(read_safetensors(path)[0])


def load_checkpoint(path: Path, network: StyleGAN2Config, config: MorphConfig) -> Morph:
    """The training that `path` left off, grown where `network` is larger."""
    tensors, metadata = read_safetensors(path)
    old = StyleGAN2Config.from_metadata(metadata)
    morph = begin(StyleGAN2(old), config)
    for part, thing in parts(morph).items():
        thing.load_state_dict(unflat(under(part, tensors), thing.state_dict()))
    if old != network:
        larger = []
        for smaller in (morph.generator, morph.average):
            torch.manual_seed(config.seed)  # what is new is the same in both
            larger.append(grown(smaller, network))
        morph = begin(larger[0], config)
        morph.average.load_state_dict(larger[1].state_dict())
    counts = json.loads(metadata["training"])
    morph.step, morph.drawn = counts["step"], counts["drawn"]
    return morph


@dataclass(frozen=True)
class Arguments:
    """Train a StyleGAN2 whose latents move the faces that it draws."""

    data: tyro.conf.Positional[Path]  # a zip or folder of square, aligned pictures
    landmarks: tyro.conf.Positional[Path]  # what `python -m weights.training.landmarks` made of them
    out: Path = Path("training-out")  # checkpoint, export, grids and log go here
    resolution: int = 64  # px; a checkpoint of fewer grows
    init: Path | None = None  # a generator of the same settings to start from
    until: int = 1_000_000  # pictures drawn, all runs together
    z_dim: int = 128
    shape_dim: int = 40  # of those
    w_dim: int = 256
    mapping_layers: int = 2
    channel_base: int = 4096
    channel_max: int = 192
    threads: int = 2
    save_every: float = 300  # seconds, between checkpoints, exports and grids
    config: Annotated[MorphConfig, tyro.conf.arg(name="")] = field(default_factory=MorphConfig)


def main() -> None:
    arguments = tyro.cli(Arguments)
    try:
        run(arguments)
    except (BadCheckpoint, BadPictures, BadLandmarks, FeaturesMissing) as error:
        sys.exit(f"{type(error).__name__}: {error}")


def run(arguments: Arguments) -> None:
    # A shell's background jobs ignore Ctrl-C; here it is how to stop.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.config.seed)
    arguments.out.mkdir(parents=True, exist_ok=True)
    checkpoint = arguments.out / "checkpoint.safetensors"
    faces = load_faces(arguments, load_codes(checkpoint) if checkpoint.exists() else None)
    features = load_features()
    network = StyleGAN2Config(
        arguments.resolution,
        arguments.z_dim,
        arguments.w_dim,
        arguments.mapping_layers,
        arguments.channel_base,
        arguments.channel_max,
    )
    if checkpoint.exists():
        morph = load_checkpoint(checkpoint, network, arguments.config)
    else:
        start = load_network(arguments.init) if arguments.init else StyleGAN2(network)
        morph = begin(grown(start, network), arguments.config)
    try:
        follow_steps(morph, faces, features, arguments)
    except KeyboardInterrupt:
        pass  # a normal end: the same command goes on
    finally:
        save(morph, faces, arguments.out)


def load_faces(arguments: Arguments, codes: FaceCodes | None = None) -> Faces:
    pictures = load_pictures(arguments.data, arguments.resolution)
    points = torch.from_numpy(np.load(arguments.landmarks)["points"])
    if points.shape != (len(pictures), 68, 2):
        raise BadLandmarks(
            f"{arguments.landmarks} holds {tuple(points.shape)} for {len(pictures)} pictures: "
            "make it anew with python -m weights.training.landmarks"
        )
    return prepare(pictures, points, arguments.z_dim, arguments.shape_dim, arguments.config.face_weight, codes)


def follow_steps(morph: Morph, faces: Faces, features: Features, arguments: Arguments) -> None:
    """Writes the log (means over 50 steps), and saves now and then."""
    saved = start = time.monotonic()
    recent: list[dict[str, float]] = []
    with (arguments.out / "log.jsonl").open("a") as log:
        for losses in train(morph, faces, features, arguments.config, arguments.until):
            recent.append(losses)
            if len(recent) == 50:
                now = time.monotonic()
                means = {name: round(sum(r[name] for r in recent) / 50, 4) for name in losses}
                rate = 50 * arguments.config.batch / (now - start)
                log.write(json.dumps({"pictures": morph.drawn, "rate": round(rate, 2), **means}) + "\n")
                log.flush()
                recent, start = [], now
            if time.monotonic() - saved > arguments.save_every:
                save(morph, faces, arguments.out)
                saved = time.monotonic()


def save(morph: Morph, faces: Faces, out: Path) -> None:
    save_checkpoint(morph, faces.codes, out / "checkpoint.safetensors")
    export(morph.average, out / "generator.safetensors")
    for name, picture in sheets(morph.average, faces).items():
        Image.fromarray(tiled(picture)).save(out / f"{name}.png")
    Image.fromarray(tiled(samples(morph.average))).save(out / f"samples-{morph.drawn:07d}.png")


def sheets(average: StyleGAN2, faces: Faces) -> dict[str, Tensor]:
    """What to judge by eye, each float [rows, columns, 3, R, R]."""
    with torch.no_grad():
        return {
            "codes": codes_sheet(average, faces),
            "moves": moves_sheet(average, faces),
            "swap": swap_sheet(average, faces),
        }


def codes_sheet(average: StyleGAN2, faces: Faces) -> Tensor:
    """Real pictures and what is drawn from their codes."""
    index = torch.arange(8) * (len(faces.pictures) // 8)
    z = torch.cat([faces.codes.shape.encode(faces.shapes.points[index]), faces.appearance[index]], 1)
    return torch.stack([faces.images(index), average.synthesis(average.mapping(z))])


def moves_sheet(average: StyleGAN2, faces: Faces) -> Tensor:
    """One appearance, shape components 1..8 at -2, 0, 2."""
    z = torch.zeros(3, 8, average.config.z_dim)
    k = faces.codes.shape.down.shape[1]
    z[..., k:] = faces.appearance[len(faces.pictures) // 8]
    for component in range(8):
        z[:, component, component] = torch.tensor([-2.0, 0.0, 2.0])
    return average.synthesis(average.mapping(z.flatten(0, 1))).unflatten(0, (3, 8))


def swap_sheet(average: StyleGAN2, faces: Faces) -> Tensor:
    """Faces, faces of other shapes, and the first with the coarse rows of the second."""
    index = torch.arange(8) * (len(faces.pictures) // 8)
    points = faces.shapes.points[index]
    new = faces.shapes.redrawn(points, torch.Generator().manual_seed(1))
    own = torch.cat([faces.codes.shape.encode(points), faces.appearance[index]], 1)
    other = torch.cat([faces.codes.shape.encode(new), faces.appearance[index]], 1)
    ws, others = average.mapping(own), average.mapping(other)
    mixed = torch.cat([others[:, :COARSE], ws[:, COARSE:]], 1)
    return average.synthesis(torch.cat([ws, others, mixed])).unflatten(0, (3, 8))


@torch.no_grad()
def samples(average: StyleGAN2, psi: float = 0.8) -> Tensor:
    z = torch.randn(32, average.config.z_dim, generator=torch.Generator().manual_seed(0))
    return average.synthesis(average.mapping(z, psi)).unflatten(0, (4, 8))


def tiled(images: Tensor) -> np.ndarray:
    """Images [rows, columns, 3, R, R] -> one picture uint8 [rows * R, columns * R, 3]."""
    rows, columns, _, size, _ = images.shape
    return to_bytes(images).permute(0, 3, 1, 4, 2).reshape(rows * size, columns * size, 3).numpy()


if __name__ == "__main__":
    main()
