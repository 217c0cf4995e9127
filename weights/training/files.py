"""What a training leaves on disk: a checkpoint to go on from, the exported generator, and sheets to judge by eye.

The checkpoint is one safetensors file: tensors under "part/name", counts in the metadata.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import torch
from PIL import Image
from torch import Tensor

from weights.generator import AXES, random_z, save_generator
from weights.hub import write_tensors
from weights.prior import Prior, take_prior, tensors_of
from weights.stylegan2 import StyleGAN2, StyleGAN2Config
from weights.training.data import to_bytes
from weights.training.discriminator import Discriminator
from weights.training.features import Features
from weights.training.growth import grown
from weights.training.train import Subject, TrainConfig, Training, begin


class BadCheckpoint(ValueError):
    """A file is not what training can start from; the message says what to do."""


def save_checkpoint(training: Training, subject: Subject, path: Path) -> None:
    tensors = subject.tensors()
    for part, thing in training.parts().items():
        tensors |= {f"{part}/{name}": tensor for name, tensor in flat(thing.state_dict())}
    counts = json.dumps({"step": training.step, "drawn": training.drawn})
    write_tensors(tensors, path, training.generator.config.to_metadata() | {"training": counts})


def load_checkpoint(
    path: Path,
    network: StyleGAN2Config,
    features: Features,
    config: TrainConfig,
    device: torch.device | str = "cpu",
    whole: Features | None = None,
) -> Training:
    """The training that `path` left off, grown where `network` is larger."""
    tensors, metadata = read_safetensors(path)
    old = StyleGAN2Config.from_metadata(metadata)
    training = begin(StyleGAN2(old).to(device), features, config, whole)
    for part, thing in training.parts().items():
        if found := under(part, tensors):
            try:
                thing.load_state_dict(unflat(found, thing.state_dict()))
                check_fit(thing)
            except (RuntimeError, ValueError) as error:
                raise BadCheckpoint(
                    f"{path} is of another version of the training, or of other --features "
                    f"({str(error).splitlines()[0]}): go on into another folder from the generator beside it "
                    f"(--init {path.with_name('generator.safetensors')} --warm 0)"
                ) from error
    if old != network:
        smaller, training = (
            training,
            begin(grown_alike(training.generator, network, config).to(device), features, config, whole),
        )
        training.average.load_state_dict(grown_alike(smaller.average, network, config).state_dict())
        if training.heads.views == smaller.heads.views:
            training.heads, training.heads_adam = smaller.heads, smaller.heads_adam
        else:
            training.heads.begin_with(smaller.heads)
        if old.img_resolution == network.img_resolution:  # the same pictures, and what is drawn is the same
            training.moments = smaller.moments
    counts = json.loads(metadata["training"])
    training.step, training.drawn = counts["step"], counts["drawn"]
    return training


def grown_alike(old: StyleGAN2, network: StyleGAN2Config, config: TrainConfig) -> StyleGAN2:
    """What is new is the same each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        try:
            return grown(old, network)
        except ValueError as error:
            raise BadCheckpoint(str(error)) from error


def load_codes(path: Path) -> dict[str, Tensor]:
    """The codes' tensors of a checkpoint or of `save_codes`, under the names that `Subject.tensors` gave them."""
    return {name: tensor.float() for name, tensor in read_safetensors(path)[0].items() if name.startswith("codes/")}


def codes_path(generator: Path) -> Path:
    """Where the codes of a generator's file lie: beside it."""
    return generator.with_name(f"{generator.stem}-codes.safetensors")


def moving_in(generator: Path) -> int | None:
    """How many of a code's first numbers say how a picture moves, by the codes beside a generator; None: unknown."""
    path = codes_path(generator)
    shape = load_codes(path).get("codes/shape/down") if path.exists() else None
    return None if shape is None else shape.shape[1]


def save_codes(subject: Subject, path: Path) -> None:
    """What z means, for who goes on from the exported generator without its checkpoint; half precision is enough."""
    write_tensors({name: tensor.half() for name, tensor in subject.tensors().items()}, path, {})


def heads_path(generator: Path) -> Path:
    """Where the discriminator of a generator's file lies: beside it."""
    return generator.with_name(f"{generator.stem}-heads.safetensors")


def save_heads(heads: Discriminator, path: Path, features: str) -> None:
    """What the discriminator has learned, for who goes on without the checkpoint; half precision is enough."""
    tensors = {name: tensor.half() for name, tensor in heads.state_dict().items()}
    write_tensors(tensors, path, {"features": features})


def load_heads(heads: Discriminator, path: Path, features: str) -> bool:
    """Gives a discriminator what another has learned, that may know fewer views. Raises BadCheckpoint.

    False where that one looks through other features: then there is nothing to give.
    """
    stored, metadata = read_safetensors(path)
    if metadata.get("features", "mobilenet-v2") != features:
        return False
    tensors = {name: tensor.float() for name, tensor in stored.items()}
    single = heads.alone()
    known = heads if tensors.keys() == heads.state_dict().keys() else single
    try:
        known.load_state_dict(tensors)
    except RuntimeError as error:
        raise BadCheckpoint(f"{path} is no discriminator of ours ({str(error).splitlines()[0]}): delete it") from error
    if known is single:
        heads.begin_with(single)
    return True


def prior_path(out: Path) -> Path:
    """Where a training's folder keeps the prior, if it has one."""
    return out / "prior.safetensors"


def load_prior(path: Path) -> Prior | None:
    """The prior in a file, if it holds one, or if there is a file."""
    try:
        return take_prior(read_safetensors(path)[0]) if path.exists() else None
    except (RuntimeError, ValueError) as error:
        raise BadCheckpoint(f"{path} holds no prior of ours ({str(error).splitlines()[0]}): make it anew") from error


def save_prior(prior: Prior, path: Path) -> None:
    write_tensors(dict(tensors_of(prior)), path, {})


@torch.no_grad()
def export(average: StyleGAN2, path: Path, prior: Prior, moving: int | None = None) -> None:
    """The generator for `load_generator`; its mean latent is that of random z, its axes of what `moving` moves."""
    mapping = average.mapping
    mapping.w_avg.copy_(mapping(random_z(average, prior, 10_000, 0))[:, 0].mean(0))
    save_generator(average, path, moving=moving, prior=prior)


def save_sheets(average: StyleGAN2, prior: Prior, subject: Subject, out: Path, drawn: int) -> None:
    sheets = subject.sheets(average) | {f"samples-{drawn:08d}": samples(average, prior)}
    for name, images in sheets.items():
        Image.fromarray(tiled(images)).save(out / f"{name}.png")


@torch.no_grad()
def samples(average: StyleGAN2, prior: Prior, rows: int = 8, psi: float = 0.8) -> Tensor:
    """rows x rows samples, float [rows, rows, 3, R, R]; the same latents each time."""
    z = random_z(average, prior, rows * rows, 0)
    return torch.stack([average.synthesis(average.mapping(row, psi)) for row in z.split(rows)])


def tiled(images: Tensor) -> np.ndarray:
    """Images [rows, columns, 3, R, R] -> one picture uint8 [rows * R, columns * R, 3]."""
    rows, columns, _, size, _ = images.shape
    return to_bytes(images).permute(0, 3, 1, 4, 2).reshape(rows * size, columns * size, 3).cpu().numpy()


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safetensors.safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (safetensors.SafetensorError, OSError) as error:
        raise BadCheckpoint(f"{path} cannot be read as safetensors ({error})") from error


def under(part: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.split("/", 1)[1]: t for name, t in tensors.items() if name.startswith(f"{part}/")}


def flat(state: dict[str, Any]) -> Iterator[tuple[str, Tensor]]:
    """The tensors of a module's or an optimiser's state dict; the latter's are named index/quantity."""
    if "param_groups" not in state:
        yield from state.items()
    else:
        for index, values in state["state"].items():
            yield from ((f"{index}/{name}", tensor) for name, tensor in values.items())


def unflat(found: dict[str, Tensor], now: dict[str, Any]) -> dict[str, Any]:
    """A state dict of the kind of `now` with the tensors `found`; an optimiser keeps its settings."""
    if "param_groups" not in now:
        return found
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in found.items():
        index, quantity = name.split("/")
        state.setdefault(int(index), {})[quantity] = tensor
    return {"state": state, "param_groups": now["param_groups"]}


def check_fit(part: Any) -> None:
    """An optimiser takes any state, if it was another order of parameters that it remembers. Raises ValueError."""
    if isinstance(part, torch.optim.Optimizer):
        for parameter, values in part.state.items():
            if any(value.shape not in ((), parameter.shape) for value in values.values()):
                raise ValueError("its optimiser has another order")


def load_network(path: Path) -> StyleGAN2:
    """The generator of an exported file, or the average one of a checkpoint."""
    tensors, metadata = read_safetensors(path)
    try:
        if "training" in metadata:
            tensors = under("average", tensors)
        tensors.pop(AXES, None)
        take_prior(tensors)
        network = StyleGAN2(StyleGAN2Config.from_metadata(metadata))
        network.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    except (RuntimeError, TypeError, ValueError) as error:
        raise BadCheckpoint(f"{path} is no generator to start from ({str(error).splitlines()[0]})") from error
    return network
