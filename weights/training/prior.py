"""`python -m weights.training.prior DATA --run FOLDER`: teaches normal z to be like the codes of pictures.

A small generative adversarial network whose pictures are codes: minutes on one core. The discriminator sees samples
two by two (Lin et al. 2018, arXiv 1712.04086), or whole kinds of codes are left out.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import torch
import torch.nn.functional as F
import tyro
from torch import Tensor, nn
from tqdm import tqdm

from weights.prior import Prior
from weights.training.command import (
    checkpoint_in,
    chosen_device,
    load_subject,
    run_command,
    set_up,
    told,
)
from weights.training.files import export, load_codes, load_network, prior_path, save_prior
from weights.training.gaussians import root
from weights.training.train import follow

Draw = Callable[[int, torch.Generator], Tensor]  # so many codes [n, k]


@dataclass(frozen=True)
class PriorConfig:
    """How the prior is trained."""

    steps: int = 9000
    batch: int = 1024  # codes a step
    layers: int = 3  # before the last, linear one
    noise: float = 0.5  # standard deviation of the noise on codes, which have one: between pictures lie others
    lr: float = 2e-4  # Adam's, falling to zero in the second half
    heads_lr: float = 4e-4  # of the discriminator
    penalty: float = 0.2  # weight of the squared gradient at codes (R1; Mescheder et al. 2018, arXiv 1801.04406)
    every: int = 8  # steps between two of those
    ema: float = 0.998  # a step, of the average prior
    seed: int = 0


class Critic(nn.Module):
    """Codes [n, k] -> logits [n / 2], one for each pair; residual layers."""

    def __init__(self, k: int, width: int = 512):
        super().__init__()
        self.first, self.last = nn.Linear(2 * k, width), nn.Linear(width, 1)
        self.middle = nn.ModuleList(nn.Linear(width, width) for _ in range(2))

    def forward(self, codes: Tensor) -> Tensor:
        x = F.leaky_relu(self.first(codes.reshape(len(codes) // 2, -1)), 0.2)
        for layer in self.middle:
            x = x + F.leaky_relu(layer(x), 0.2)
        out: Tensor = self.last(x)[:, 0]
        return out


def train_prior(average: Prior, draw: Draw, config: PriorConfig) -> Iterator[dict[str, float]]:
    """Trains a new prior in place on codes, yielding each step's losses."""
    rng = torch.Generator().manual_seed(config.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        critic = Critic(average.z_dim - 1)
    for parameter in average.requires_grad_(False).parameters():
        parameter.data += 0.01 * torch.randn(parameter.shape, generator=rng)  # twins would stay twins
    prior = copy.deepcopy(average).requires_grad_(True)
    adams = [
        torch.optim.Adam(network.parameters(), lr, (0.0, 0.99))
        for network, lr in ((prior, config.lr), (critic, config.heads_lr))
    ]
    for index in range(config.steps):
        for adam, lr in zip(adams, (config.lr, config.heads_lr), strict=True):
            adam.param_groups[0]["lr"] = lr * min(1.0, 2 * (1 - index / config.steps))
        with torch.enable_grad():
            real = draw(config.batch, rng)
            real = real + config.noise * torch.randn(real.shape, generator=rng)
            drawn = prior.codes(torch.randn(real.shape, generator=rng))
            losses = {"critic": critic_step(critic, adams[1], real, drawn.detach(), config, index)}
            loss = F.softplus(-critic(drawn)).mean()
            adams[0].zero_grad()
            loss.backward(inputs=list(prior.parameters()))
            adams[0].step()
            losses["prior"] = float(loss.detach())
            follow(average, prior, config.ema)
        yield losses


@torch.no_grad()
def calibrate(prior: Prior, draw: Draw, noise: float, n: int = 20_000) -> None:
    """Gives the prior's codes, by its last layer, the mean and covariance of real ones with noise.

    What an adversary has taught varies less than what it was to be like.
    """
    rng = torch.Generator().manual_seed(0)
    real = draw(n, rng)
    real = real + noise * torch.randn(real.shape, generator=rng)
    drawn = prior.codes(torch.randn(real.shape, generator=rng))
    across = root(torch.cov(real.T), 0.5) @ root(torch.cov(drawn.T), -0.5)
    recode(prior, across, drawn.mean(0), real.mean(0))


@torch.no_grad()
def recode(prior: Prior, across: Tensor, before: Tensor, after: Tensor) -> None:
    """Takes the prior's codes, less their mean `before` [k], across by [k, k] to the mean `after`: its last layer."""
    last = prior.layers[-1]
    assert isinstance(last, nn.Linear)
    last.bias.copy_(across @ (last.bias - before) + after)
    last.weight.copy_(across @ last.weight)


def critic_step(
    critic: Critic, adam: torch.optim.Adam, real: Tensor, drawn: Tensor, config: PriorConfig, index: int
) -> float:
    penalised = index % config.every == 0
    scores = critic(real.requires_grad_(penalised))
    loss = F.softplus(-scores).mean() + F.softplus(critic(drawn)).mean()
    total = loss
    if penalised:
        (gradient,) = torch.autograd.grad(scores.sum(), real, create_graph=True)
        total = loss + config.penalty / 2 * config.every * gradient.square().sum(1).mean()
    adam.zero_grad()
    total.backward()
    adam.step()
    return float(loss.detach())


@dataclass(frozen=True)
class Arguments:
    """Train the prior of a generator that python -m weights.training made, on the codes of its pictures.

    Random samples then look like the pictures; latents, and what is inverted and dragged, stay as they are. Run it
    before weights.training.encoder, for it writes the generator's file anew.
    """

    data: tyro.conf.Positional[Path]  # the same pictures
    run: Path = Path("training-out")  # what that command got as --out; the prior is written there
    landmarks: Path | None = None  # the same file, if there was one
    threads: int = 0  # of the CPU; 0: as many as there are cores
    config: Annotated[PriorConfig, tyro.conf.arg(name="")] = field(default_factory=PriorConfig)


def main() -> None:
    run_command(Arguments, run)


def run(arguments: Arguments) -> None:
    set_up(arguments.threads)
    checkpoint = checkpoint_in(arguments.run)
    average, codes = load_network(checkpoint), load_codes(checkpoint)
    z_dim = average.config.z_dim
    size, device = average.config.img_resolution, chosen_device("cpu")
    subject = load_subject(arguments.data, arguments.landmarks, size, z_dim, codes, device)
    prior, config = Prior(z_dim, arguments.config.layers), arguments.config
    steps = train_prior(prior, subject.draw_codes, config)
    try:
        for _ in told(steps, arguments.run / "prior-log.jsonl", "step", "step", config.steps):
            pass
    except KeyboardInterrupt:
        tqdm.write("stopped early; what was learned so far is kept")
    calibrate(prior, subject.draw_codes, config.noise)
    save_prior(prior, prior_path(arguments.run))
    export(average, arguments.run / "generator.safetensors", prior, subject.moving)


if __name__ == "__main__":
    main()
