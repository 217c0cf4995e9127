"""Writes a StyleGAN2 in the layouts of other people's programs, for tests to read.

No code of theirs is here: stubs take the names of their classes while a pickle is written, and the source in NVIDIA's
pickles carry is a trap, a program that would leave a file if anything ran it. benchmarks/official_checkpoints.py holds
them against the programs themselves.
"""

import collections
import contextlib
import pickle
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from weights import StyleGAN2


class Persistent:
    """An object whose pickle looks like one of torch_utils.persistence."""

    def __init__(self, name: str, state: dict[str, Any], trap: str):
        self.meta = {"type": "class", "version": 6, "module_src": trap, "class_name": name, "state": state}

    def __reduce__(self) -> tuple[Any, ...]:
        return sys.modules["torch_utils.persistence"]._reconstruct_persistent_obj, (self.meta,)


class Network:
    """An object whose pickle looks like one of dnnlib.tflib."""

    def __init__(self, state: dict[str, Any]):
        self.state = state

    def __getstate__(self) -> dict[str, Any]:
        return self.state


@contextlib.contextmanager
def their_names() -> Iterator[None]:
    """While it lasts, what a pickle names in their modules can be found."""

    def _reconstruct_persistent_obj(meta: object) -> None: ...

    owners = {"torch_utils.persistence": _reconstruct_persistent_obj, "dnnlib.tflib.network": Network}
    for module, thing in owners.items():
        thing.__module__, thing.__qualname__ = module, thing.__name__
        sys.modules[module] = types.ModuleType(module)
        setattr(sys.modules[module], thing.__name__, thing)
    for package in ("torch_utils", "dnnlib", "dnnlib.tflib"):
        sys.modules[package] = types.ModuleType(package)
    try:
        yield
    finally:
        for name in ("torch_utils.persistence", "dnnlib.tflib.network", "torch_utils", "dnnlib.tflib", "dnnlib"):
            del sys.modules[name]


def dump(content: object, path: Path, protocol: int = 4) -> Path:
    with their_names(), path.open("wb") as file:
        pickle.dump(content, file, protocol)
    return path


def save(content: object, path: Path, *, old: bool = False) -> Path:
    with their_names():
        torch.save(content, path, _use_new_zipfile_serialization=not old)
    return path


def persistent(network: StyleGAN2, trap: str = "", lr: float = 0.01, **settings: Any) -> Persistent:
    """A network as NVIDIA's PyTorch programs pickle one; `lr` is its mapping network's learning rate multiplier."""
    config = network.config

    def module(name: str, net: torch.nn.Module) -> Persistent:
        parameters = {n: p.detach().clone() for n, p in net.named_parameters(recurse=False)}
        state: dict[str, Any] = {"training": False, "_non_persistent_buffers_set": set()}
        if "fc" in name:
            parameters = {n: p * (0.01 / lr) for n, p in parameters.items()}
            n_in = parameters["weight"].shape[1]
            state |= {"activation": "lrelu", "weight_gain": np.float64(lr / np.sqrt(n_in)), "bias_gain": lr}
        if name.endswith(("conv0", "conv1")):
            state |= {"activation": "lrelu", "conv_clamp": config.conv_clamp or None}
        if name.endswith("affine"):
            state |= {"activation": "linear"}
        if name.split(".")[-1].startswith("b"):
            state |= {"architecture": settings.get("architecture", "skip")}
        state |= {
            "_parameters": collections.OrderedDict((n, torch.nn.Parameter(p)) for n, p in parameters.items()),
            "_buffers": collections.OrderedDict(net.named_buffers(recurse=False)),
            "_modules": collections.OrderedDict((n, module(f"{name}.{n}", m)) for n, m in net.named_children()),
        }
        return Persistent(type(net).__name__, state, trap)

    generator = module("", network)
    generator.meta["class_name"] = "Generator"
    generator.meta["state"] |= {"img_resolution": config.img_resolution, "c_dim": 0} | settings
    return generator


def tensorflow(network: StyleGAN2, **settings: Any) -> Network:
    """A network as NVIDIA's TensorFlow programs pickle one."""
    state = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    mapping: list[tuple[str, Any]] = []
    synthesis: list[tuple[str, Any]] = [("4x4/Const/const", state["synthesis.b4.const"][None])]
    for name, value in state.items():
        part = name.split(".")
        if part[1].startswith("fc"):
            mapping.append((f"Dense{part[1][2:]}/{part[2]}", value.T))
        elif len(part) > 3 and part[-1] != "resample_filter":
            synthesis.append(_tf_variable(part[1:], value))
    kwargs = {"resolution": network.config.img_resolution, "num_channels": 3, "label_size": 0} | settings

    def named(static: dict[str, Any], components: dict[str, Network], variables: list[tuple[str, Any]]) -> Network:
        return Network(
            {"version": 4, "name": "G", "static_kwargs": static, "components": components, "variables": variables,
             "build_module_src": "raise SystemExit", "build_func_name": "G"}
        )  # fmt: skip

    parts = {"mapping": named({}, {}, mapping), "synthesis": named({}, {}, synthesis)}
    own = [("lod", np.float32(0)), ("dlatent_avg", state["mapping.w_avg"])]
    return named(kwargs, parts, own)


def _tf_variable(part: list[str], value: np.ndarray) -> tuple[str, Any]:
    resolution, layer = int(part[0][1:]), part[1]
    upsamples = layer == "conv0"
    if part[-1] == "noise_const":
        return f"noise{2 * resolution.bit_length() - 2 - 4 + (0 if resolution == 4 else -upsamples)}", value[None, None]
    theirs = {"conv0": "Conv0_up", "conv1": "Conv" if resolution == 4 else "Conv1", "torgb": "ToRGB"}[layer]
    prefix = f"{resolution}x{resolution}/{theirs}"
    if part[2] == "affine":
        return (f"{prefix}/mod_weight", value.T) if part[3] == "weight" else (f"{prefix}/mod_bias", value - 1)
    if part[2] == "weight":
        value = value.transpose(2, 3, 1, 0)
        return f"{prefix}/weight", np.ascontiguousarray(value[::-1, ::-1] if upsamples else value)
    return f"{prefix}/{part[2]}", value


def rosinality(network: StyleGAN2) -> dict[str, Tensor]:
    """A network's parameters under the names of rosinality's stylegan2-pytorch."""
    state, theirs = network.state_dict(), {}
    for name, value in state.items():
        part = name.split(".")
        if part[1].startswith("fc"):
            theirs[f"style.{int(part[1][2:]) + 1}.{part[2]}"] = value
        elif len(part) > 3:
            theirs |= _rosinality_entry(part[1:], value)
    return theirs | {"input.input": state["synthesis.b4.const"][None]}


def _rosinality_entry(part: list[str], value: Tensor) -> dict[str, Tensor]:
    level, layer = int(part[0][1:]).bit_length() - 3, part[1]  # 0 for 4 px
    if layer == "torgb":
        prefix = f"to_rgbs.{level - 1}" if level else "to_rgb1"
        if part[2] == "bias":
            value = value[None, :, None, None]
    else:
        prefix = f"convs.{2 * level - 2 + int(layer[-1])}" if level else "conv1"
    index = 2 * level - 1 + int(layer[-1]) if level and layer != "torgb" else 0
    return {
        "weight": {f"{prefix}.conv.weight": value[None]},
        "bias": {f"{prefix}.bias" if layer == "torgb" else f"{prefix}.activate.bias": value},
        "affine": {f"{prefix}.conv.modulation.{part[-1]}": value},
        "noise_strength": {f"{prefix}.noise.weight": value[None] if value.ndim == 0 else value},
        "noise_const": {f"noises.noise_{index}": value[None, None]},
        "resample_filter": {f"{prefix}.conv.blur.kernel": value * 4} if layer == "conv0" else {},
    }[part[2]]
