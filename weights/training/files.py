"""The checkpoint of a training: one safetensors file, tensors under "part/name", counts in the metadata."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import safetensors
from safetensors.torch import save_file
from torch import Tensor

from weights.stylegan2 import StyleGAN2, StyleGAN2Config


class BadCheckpoint(ValueError):
    """A file is not what training can start from; the message says what to do."""


def write_safetensors(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    """All or nothing: a stop in the middle leaves the old file."""
    partial = path.with_name(path.name + ".part")
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, partial, metadata)
    partial.replace(path)


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


def load_network(path: Path) -> StyleGAN2:
    """The generator of an exported file, or the average one of a checkpoint."""
    tensors, metadata = read_safetensors(path)
    try:
        if "training" in metadata:
            tensors = under("average", tensors)
        network = StyleGAN2(StyleGAN2Config.from_metadata(metadata))
        network.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    except (RuntimeError, TypeError, ValueError) as error:
        raise BadCheckpoint(f"{path} is no generator to start from ({str(error).splitlines()[0]})") from error
    return network
