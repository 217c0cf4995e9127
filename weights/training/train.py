"""The training loop: a generator learns to draw pictures from their codes, then to draw them sharply.

First regression alone: every picture from its code, by pixels and by frozen features. That gives, in minutes, a
network that draws something soft and well placed from any z, and whose latents mean what the codes mean. Then a
discriminator looks at all that is drawn, and the finest pixels, of which a code knows nothing, are left to it.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import repeat
from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from weights.precision import channels_last
from weights.prior import Prior, lengthened
from weights.stylegan2 import Noise, StyleGAN2, Synthesis
from weights.training.augment import draw_augmentation
from weights.training.codec import codec_of
from weights.training.discriminator import Discriminator, drawn_loss, heads_loss
from weights.training.features import Features
from weights.training.moments import AS_MISSING, DRAWN, Beyond, Moments, row_of

BETAS = (0.9, 0.99)  # Adam's: without momentum steps of 6e-5 overshoot along colours, and gradients turn around
HEADS_BETAS = (0.0, 0.99)  # StyleGAN2's, of the discriminator
FRAME = 4  # pixels
COARSE_SIZES = 8, 16, 32  # px
FINE_SHARE = 0.1  # of the gradient of the distance at those: how much of it the finer blocks take part in
COARSE = 6  # rows of W+ that hold the shape: up to the first convolution at 32 px
NOISE_GAIN = 0.1  # of the rate, of the strengths of noise: some 0.01, of which Adam's step would be a large part
AT_ONCE = 8  # pictures drawn at once by a CPU, whose caches do not hold more


@dataclass(frozen=True)
class TrainConfig:
    """How to train. Spans are counted in pictures drawn, so they mean the same at every batch size."""

    batch: int = 16  # pictures a step
    lr: float = 2e-3  # Adam's
    lr_half_life: float = 100_000  # pictures in which it halves
    mapping_gain: float = 25.0  # of the mapping's rate, which the equalised weights slow down by 100
    coarse_gain: float = 1.0  # from `warm` on, of the rates of the mapping and the blocks up to 16 px: what holds shape
    warm: int = 100_000  # pictures of regression alone
    heads_alone: int = 0  # pictures after that, in which only the discriminator learns: for a generator that is good
    ramp: int = 4_000  # pictures after that, in which its weight rises, and after `heads_alone` the generator's rate
    adversarial: float = 0.3  # its weight from then on
    full_half_life: float = 10_000  # pictures in which the weight of full-size pixels halves, from `warm` on
    random_share: float = 0.25  # of each batch after `warm`: random latents, which no picture is asked of
    random_noise: float = 0.5  # standard deviation of the noise on the codes they are made of; the prior's too
    mixing: float = 0.5  # share of the latents made of two, so rows may be edited apart
    jitter: float = 0.05  # standard deviation of the noise on codes, which have one themselves
    coarse_weight: float = 1.0  # of the L1 distance at COARSE_SIZES
    frame_weight: float = 1.0  # of the outermost pixels' L1 distance, which stays: what zero padding does to them
    feature_weight: float = 0.5  # of the distance in frozen features
    moments: float = 0.0
    """Weight of how far random pictures are from where they would follow codes and be spread like the pictures, in all
    networks that --features names."""
    moments_for: int = 8_000  # pictures for which that is asked of the same latents, before it is found anew
    moments_beyond: Beyond = AS_MISSING  # so many times the way that is missing is asked for, of each part; 0: to stay
    codec: str | None = None  # lossy, that the pictures came out of, as webp:92; what is drawn is looked at through it
    heads_lr: float = 3e-4  # Adam's, of the discriminator
    augmentation: float = 1.0  # how much of it: less tells the discriminator more, and lets it learn pictures by heart
    noise: float = 0.0  # the largest standard deviation of noise on what the discriminator sees, of pictures in [-1, 1]
    fresh_noise: bool = (
        False  # random pictures are drawn with noise of their own each, those of codes with the constant
    )
    heads_rest: float = 1.0  # the discriminator skips steps while its loss is below this (nothing known: 10)
    ema: float = 3_000  # pictures in which the average generator forgets half
    w_avg_decay: float = 0.998  # a step, of the mean latent
    feature_size: int = 128  # px at which features compare; smaller pictures are enlarged, larger ones see `views`
    bfloat16: bool = False  # twice as fast where the hardware has it (recent GPUs), slower elsewhere
    compiled: bool = False  # the generator draws a quarter faster, a minute later, where there is a C++ compiler
    seed: int = 0

    @property
    def random(self) -> int:
        """Random pictures in a batch, after `warm`."""
        return round(self.batch * self.random_share)


@dataclass(frozen=True)
class Targets:
    """Pictures to draw, and the codes to draw them from."""

    images: Tensor  # [n, 3, R, R] in [-1, 1]
    z: Tensor  # [n, z_dim]: codes, lengthened
    fine: Tensor  # [n, z_dim]: z from which the rows after COARSE may come, and the picture be the same


class Subject(Protocol):
    """Training pictures, and what is known of them."""

    @property
    def weight(self) -> Tensor:
        """How much each pixel counts, [R, R] or [1, 1], 1 in the mean."""
        ...

    @property
    def moving(self) -> int | None:
        """How many of a code's first numbers say how a picture moves, and not what is in it; None: unknown."""
        ...

    def draw(self, n: int, rng: torch.Generator) -> Targets:
        """n targets on the device of the pictures; randomness from `rng`, which is the CPU's."""
        ...

    def batches(self) -> Iterator[Tensor]:
        """All pictures and their mirror images at the size that is trained, float [k, 3, R, R], a few at a time."""
        ...

    def own_codes(self) -> Tensor:
        """Codes [n, z_dim - 1] of those as they are, on the CPU."""
        ...

    def draw_codes(self, n: int, rng: torch.Generator) -> Tensor:
        """Codes [n, z_dim - 1] as of n targets, on the CPU."""
        ...

    def tensors(self) -> dict[str, Tensor]:
        """What codes are made with, for the checkpoint: fitted anew, an axis could have the other sign."""
        ...

    def sheets(self, average: StyleGAN2) -> dict[str, Tensor]:
        """What to judge by eye, each float [rows, columns, 3, R, R]."""
        ...


@dataclass
class Training:
    """All that changes while training, and what a checkpoint keeps."""

    generator: StyleGAN2
    average: StyleGAN2  # the exponential moving average: what is exported
    heads: Discriminator
    adam: torch.optim.Adam
    heads_adam: torch.optim.Adam
    moments: Moments | None  # where the config gives them a weight
    whole: Features  # in which those compare whole pictures
    step: int = 0
    drawn: int = 0  # pictures, all runs together

    def parts(self) -> dict[str, Any]:
        """What knows `state_dict`, by the name it has in a checkpoint."""
        parts = {
            "generator": self.generator,
            "average": self.average,
            "adam": self.adam,
            "heads": self.heads,
            "heads_adam": self.heads_adam,
        }
        return parts | {"moments": self.moments} if self.moments else parts


def begin(generator: StyleGAN2, features: Features, config: TrainConfig, whole: Features | None = None) -> Training:
    """A training at step 0 on the device of `generator`, which is not copied.

    The discriminator looks through `features`; `whole`, by default the same, are what moments are of.
    """
    device, whole = generator.mapping.w_avg.device, whole or features
    views = views_of(generator.config.img_resolution, config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        channels = [m.shape[1] for m in maps_of_nothing(features, device)]
        heads = Discriminator(channels, config.seed, views).to(device)
    for network in (generator.train().requires_grad_(True), heads):
        channels_last(network)  # a fifth faster on a CPU
    average = copy.deepcopy(generator).eval().requires_grad_(False)
    adam = torch.optim.Adam(groups(generator), config.lr, BETAS)
    heads_adam = torch.optim.Adam(heads.parameters(), config.heads_lr, HEADS_BETAS)
    moments = Moments(generator.config.z_dim, maps_of_nothing(whole, device)).to(device) if config.moments else None
    return Training(generator, average, heads, adam, heads_adam, moments, whole)


@torch.no_grad()
def maps_of_nothing(features: Features, device: torch.device) -> list[Tensor]:
    """What `features` are like: those of an even picture."""
    return features(torch.zeros(1, 3, 64, 64, device=device))


def groups(generator: StyleGAN2) -> list[dict[str, Any]]:
    """Its parameters, by the rate at which they learn: the mapping's, the coarse blocks', the others', the noise's."""
    blocks = list(generator.synthesis.children())
    coarse = sum(resolution <= 16 for resolution in generator.config.resolutions)
    parts = [generator.mapping], blocks[:coarse], blocks[coarse:]
    noise = {id(p): p for name, p in generator.named_parameters() if name.endswith("noise_strength")}
    others = [[p for module in part for p in module.parameters() if id(p) not in noise] for part in parts]
    return [{"params": params} for params in (*others, list(noise.values()))]


@torch.inference_mode(False)
def train(
    training: Training,
    subject: Subject,
    features: Features,
    config: TrainConfig,
    until: int,
    prior: Prior | None = None,
) -> Iterator[dict[str, float]]:
    """Trains until `until` pictures are drawn, yielding each step's losses; changes `training` in place.

    Random latents are the prior's, on the pictures' device; without one, of pictures' codes with noise.
    Every step draws its randomness from (seed, step), so a run stopped and resumed equals one that was not.
    Raises FloatingPointError where a loss is no longer a number.
    """
    while training.drawn < until:
        asked: dict[str, float] = {}
        if training.moments and training.drawn >= config.warm:
            asked = keep_asking(training, training.moments, subject, config, prior)
        rng = torch.Generator().manual_seed(config.seed * 1_000_003 + training.step)
        with torch.enable_grad():
            losses = step(training, subject.draw(config.batch, rng), subject.weight, features, config, rng, prior)
        training.step += 1
        training.drawn += config.batch
        if not math.isfinite(sum(losses.values())):
            raise FloatingPointError(f"a loss is not finite at step {training.step}: {losses}")
        yield losses | asked


@torch.no_grad()
def keep_asking(
    training: Training, moments: Moments, subject: Subject, config: TrainConfig, prior: Prior | None
) -> dict[str, float]:
    """Learns what pictures are like, and every so often asks anew; returns for the log how far off all is then.

    From what the average generator draws, which is what is exported: the one of the moment is soon another.
    """
    features, generator = training.whole, training.average
    if not moments.known:
        rows = [described(features, images, config) for images in tqdm(subject.batches(), "pictures", leave=False)]
        moments.learn(torch.cat(rows), subject.own_codes().to(moments.z), config.random_noise**2)
    if moments.asked(config.moments_for, training.drawn):
        return {}
    rng = torch.Generator().manual_seed(config.seed * 1_000_003 + training.step)
    codes = lengthened(subject.draw_codes(DRAWN, rng)).to(moments.z)
    z = free_z(codes, torch.randn(codes.shape, generator=rng).to(codes), config, prior)
    drawn, as_stored = [], []
    index = torch.arange(DRAWN).split(AT_ONCE)
    for ws, some in zip(tqdm(generator.mapping(z).split(AT_ONCE), "what is drawn", leave=False), index, strict=True):
        images = generator.synthesis(ws, noise_of(generator.synthesis, 0, some, training.drawn, config)).float()
        drawn.append(described(features, images, config))
        as_stored.append(described(features, stored(images, config), config) if config.codec else drawn[-1])
    return moments.ask(z, torch.cat(drawn), torch.cat(as_stored), training.drawn, config.moments_beyond)


def described(features: Features, images: Tensor, config: TrainConfig) -> Tensor:
    """A row of features for each of images, as `Moments` takes them."""
    with bfloat16(config, images.device):
        return row_of(features(images))


def step(
    training: Training,
    targets: Targets,
    weight: Tensor,
    features: Features,
    config: TrainConfig,
    rng: torch.Generator,
    prior: Prior | None = None,
) -> dict[str, float]:
    """One step of the generator, and of the discriminator once it takes part."""
    device, since = targets.images.device, training.drawn - config.warm
    heads_only = 0 <= since < config.heads_alone
    fast = bfloat16(config, device)
    coded = config.batch - (config.random if since >= 0 else 0)
    moments = training.moments if since >= 0 else None
    asked = torch.randint(DRAWN, (config.random,), generator=rng).to(device)
    ws = latents(training.generator, targets, coded, config, rng, prior, moments.z[asked] if moments else None)
    drawn_at = int(moments.asked_at) if moments else training.drawn
    noise = noise_of(training.generator.synthesis, coded, asked[: config.batch - coded], drawn_at, config)
    # Regression and discriminator see the same change of the same picture, so features are computed once.
    augmentation = draw_augmentation(config.batch, rng, device, config.augmentation, config.noise)
    changed = augmentation if since >= 0 else lambda images: images
    at = torch.rand(config.batch, 2, generator=rng)
    with fast, torch.set_grad_enabled(not heads_only):
        drawn = draw_stages(training.generator.synthesis, ws, noise, config.compiled)
        stages = {image.shape[-1]: image.float() for image in drawn}
        images = stages[targets.images.shape[-1]]
        shown = stored(images, config)
        ours = seen(features, changed(views(shown, at, config)))
        with torch.no_grad():
            theirs = seen(features, changed(views(targets.images, at, config)))
    if heads_only:
        with fast:
            return {"heads": float(heads_step(training, theirs, ours, config))}
    missed = (images - targets.images)[:coded].abs()
    small = mostly_of(stages[min(COARSE_SIZES[-1], images.shape[-1])], images)
    losses = {
        "full": (missed * weight).mean(),
        "frame": torch.cat([edge.flatten() for edge in frame(missed)]).mean(),
        "coarse": torch.stack(
            [averaged_distance(small[:coded], targets.images[:coded], size) for size in COARSE_SIZES]
        ).mean(),
        "features": torch.stack(
            [map_distance(a[:coded], b[:coded]) for a, b in zip(ours.maps, theirs.maps, strict=True)][:3]
        ).sum(),
    }
    weights = {
        "full": 0.5 ** (max(since, 0) / config.full_half_life),
        "frame": config.frame_weight,
        "coarse": config.coarse_weight,
        "features": config.feature_weight,
    }
    if since >= 0:
        with fast:
            losses["heads"] = heads_step(training, theirs, ours, config)
            losses["adversarial"] = drawn_loss(training.heads(*ours))
        own = (ws[coded:, 0] == ws[coded:, -1]).all(1)  # not made of two
        if moments and own.any():
            with fast:
                maps = training.whole(images[coded:][own])
            losses["moments"] = moments(maps, asked[own])
            weights["moments"] = config.moments
        weights["adversarial"] = config.adversarial * min(1.0, (since - config.heads_alone) / config.ramp)
    generator_step(training, torch.stack([w * losses[name] for name, w in weights.items()]).sum(), config)
    return {name: float(value.detach()) for name, value in losses.items()}


def bfloat16(config: TrainConfig, device: torch.device) -> torch.autocast:
    return torch.autocast(device.type, torch.bfloat16, enabled=config.bfloat16)


def stored(images: Tensor, config: TrainConfig) -> Tensor:
    """What is drawn as it is looked at: through the codec, if there is one."""
    return codec_of(config.codec).of_drawn(images) if config.codec else images


def noise_of(synthesis: Synthesis, coded: int, index: Tensor, since: int, config: TrainConfig) -> Noise | None:
    """The noise of `coded` pictures from codes, the constant one, and of random ones after them, which is their own.

    From a code one picture is to come, which noise cannot know. A random one has to make up what a code does not tell,
    and from constant noise all get the same strands of hair in the same places. Of latent number `index` [n] it stays
    the same while the same is asked of it, `since` so many pictures were drawn.
    """
    if not config.fresh_noise or not len(index):
        return None
    layers, fresh = synthesis.layers(synthesis.resolutions[-1]), synthesis.noise((since * DRAWN + index).tolist())
    constant = [layer.noise_const.expand(coded, -1, -1) for layer in layers]
    return [torch.cat(pair) for pair in zip(constant, fresh, strict=True)]


def draw_stages(
    synthesis: Synthesis, ws: Tensor, noise: Noise | None = None, compiled: bool = False, at_once: int | None = None
) -> Iterator[Tensor]:
    """What each block draws of latents, coarse to fine; on a CPU so many `at_once`, AT_ONCE if None."""
    draw = compiled_stages(synthesis) if compiled else synthesis.stages
    at_once = (at_once or AT_ONCE) if ws.device.type == "cpu" else len(ws)
    split = [own.split(at_once) for own in noise or []]
    noises: Iterable[Noise | None] = zip(*split, strict=True) if split else repeat(None)
    parts = [draw(part, own) for part, own in zip(ws.split(at_once), noises, strict=False)]
    return (torch.cat(images) for images in zip(*parts, strict=True))


@cache
def compiled_stages(synthesis: Synthesis) -> Callable[[Tensor, Noise | None], tuple[Tensor, ...]]:
    return torch.compile(synthesis.stages, dynamic=False)


def latents(
    generator: StyleGAN2,
    targets: Targets,
    coded: int,
    config: TrainConfig,
    rng: torch.Generator,
    prior: Prior | None = None,
    known: Tensor | None = None,
) -> Tensor:
    """W+ [n, num_ws, w_dim]: first those of the targets, then random ones, `known` [n - coded, z_dim] if given.

    Of both, some are made of two.
    """
    mapping, z, n = generator.mapping, targets.z, len(targets.z)
    noise, partners = torch.randn(2 * n, z.shape[1], generator=rng).to(z).chunk(2)
    first = torch.arange(n, device=z.device)[:, None] < coded
    free, other = free_z(z, noise, config, prior), free_z(z.roll(1, 0), partners, config, prior)
    if known is not None:
        free[coded:] = known
    ws = mapping(torch.where(first, z + config.jitter * noise, free))
    others = mapping(torch.where(first, targets.fine, other))
    with torch.no_grad():
        mapping.w_avg.lerp_(ws[:, 0].mean(0), 1 - config.w_avg_decay)
    cut = torch.randint(1, mapping.num_ws, (n, 1, 1), generator=rng)  # from this row on comes the other
    cut[:coded] = COARSE
    cut[torch.rand(n, generator=rng) >= config.mixing] = mapping.num_ws
    own = torch.arange(mapping.num_ws)[:, None] < cut  # [n, num_ws, 1]
    return torch.where(own.to(ws.device), ws, others)


def free_z(z: Tensor, noise: Tensor, config: TrainConfig, prior: Prior | None) -> Tensor:
    """Random z [n, z_dim] of normal noise, and of pictures' codes z where there is no prior."""
    return prior(noise) if prior else z + config.random_noise * noise


class Seen(NamedTuple):
    """What the discriminator is given of pictures."""

    maps: list[Tensor]  # their features
    images: Tensor  # themselves, as they were changed

    def detached(self) -> Seen:
        return Seen([m.detach() for m in self.maps], self.images.detach())


def seen(features: Features, images: Tensor) -> Seen:
    return Seen([m.float() for m in features(images)], images)


def views_of(resolution: int, config: TrainConfig) -> int:
    return 2 if resolution > config.feature_size else 1


def views(images: Tensor, at: Tensor, config: TrainConfig) -> Tensor:
    """Images [n, 3, R, R] at the size of the features: of larger ones the even are whole, the odd are cropped.

    Whole they show what is where, cropped how sharp it is, and both together cost no more than at that size. `at`
    [n, 2] in [0, 1] is where (x, y) each is cropped; centres as far out as the borders, or those are seldom seen.
    """
    size, width = config.feature_size, images.shape[-1]
    out = resized(images, size)
    if width <= size:
        return out
    corners = (at * width - size / 2).round().clamp(0, width - size).long().tolist()
    near = [image[:, y : y + size, x : x + size] for image, (x, y) in zip(images, corners, strict=True)]
    return torch.stack([near[i] if i % 2 else out[i] for i in range(len(out))])


def resized(images: Tensor, size: int) -> Tensor:
    if images.shape[-1] == size:
        return images
    if images.shape[-1] > size:
        return F.interpolate(images, size=(size, size), mode="area")
    return F.interpolate(images, size=(size, size), mode="bilinear", align_corners=False)


def mostly_of(stage: Tensor, images: Tensor) -> Tensor:
    """Images [n, 3, R, R] averaged to the size of `stage`, which the coarse blocks drew of them and which learns most.

    What is coarse is the coarse blocks' to draw. A distance that asks the fine blocks as much is three times as loud
    there as the discriminator; one that does not ask them at all lets them wander.
    """
    whole = resized(images, stage.shape[-1])
    coarse = stage + (whole - stage).detach()
    return coarse.lerp(whole, FINE_SHARE)


def averaged_distance(ours: Tensor, theirs: Tensor, size: int) -> Tensor:
    """The L1 distance of images averaged down to `size` pixels a side."""
    return F.l1_loss(resized(ours, size), resized(theirs, size))


def frame(images: Tensor) -> tuple[Tensor, ...]:
    """The outermost FRAME rows and columns of images [n, 3, R, R]; corners count twice."""
    return images[..., :FRAME, :], images[..., -FRAME:, :], images[..., :FRAME], images[..., -FRAME:]


def map_distance(ours: Tensor, theirs: Tensor) -> Tensor:
    """Between the directions of two maps' channel vectors [n, C, h, w]."""
    return (F.normalize(ours) - F.normalize(theirs)).square().sum(1).mean()


def heads_step(training: Training, real: Seen, drawn: Seen, config: TrainConfig) -> Tensor:
    """Teaches the discriminator, unless it is too far ahead of the generator to be of use to it."""
    loss = heads_loss(training.heads(*real), training.heads(*drawn.detached()))
    if float(loss.detach()) > config.heads_rest:
        training.heads_adam.zero_grad()
        loss.backward()
        training.heads_adam.step()
    return loss.detach()


def generator_step(training: Training, loss: Tensor, config: TrainConfig) -> None:
    rate = config.lr * 0.5 ** (training.drawn / config.lr_half_life)
    alone = training.drawn < config.warm
    if config.heads_alone and not alone:  # Adam, which knows nothing yet, would throw a good generator far off
        rate *= min(1.0, (training.drawn + config.batch - config.warm - config.heads_alone) / config.ramp)
    coarse = 1.0 if alone else config.coarse_gain
    gains = config.mapping_gain * coarse, coarse, 1.0, NOISE_GAIN
    for group, gain in zip(training.adam.param_groups, gains, strict=True):
        group["lr"] = rate * gain
    training.adam.zero_grad()
    loss.backward(inputs=list(training.generator.parameters()))  # the discriminator needs none of this
    training.adam.step()
    # At first, forget the noise sooner.
    half_life = min(config.ema, 0.1 * (training.drawn + config.batch))
    follow(training.average, training.generator, 0.5 ** (config.batch / half_life))


@torch.no_grad()
def follow(average: nn.Module, network: nn.Module, decay: float) -> None:
    for mean, now in zip(average.parameters(), network.parameters(), strict=True):
        mean.lerp_(now, 1 - decay)
