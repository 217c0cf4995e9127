"""Other people's checkpoints as our StyleGAN2: the family is read from what is inside, never from the file's name.

NVIDIA's stylegan2-ada-pytorch and stylegan3 pickles (and PTI's, self-distilled's and StyleGAN-Human's, which are made
with the same code), their state dicts, the older TensorFlow pickles, and rosinality's stylegan2-pytorch all hold the
same network; each is renamed to NVIDIA's names, which are ours, and then checked against the shapes that follow.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from weights.hub import WeightsCorrupt
from weights.stylegan2 import StyleGAN2, StyleGAN2Config, fir_filter
from weights.unpickle import Module, TFNetwork, read_checkpoint_file

LR = 0.01  # of the mapping network: how our network, and all that are published, scale its weights
SUPPORTED = (
    "StyleGAN2 pickles of NVIDIA's stylegan2-ada-pytorch, stylegan3 and TensorFlow programs, and of PTI; "
    "rosinality's .pt; photodrag's .safetensors"
)


class Unsupported(WeightsCorrupt):
    """A checkpoint was read and understood, and is not of a network that we draw."""


@dataclass(frozen=True)
class Checkpoint:
    """A network as it was published, and what it came as."""

    network: StyleGAN2
    family: str


@dataclass(frozen=True)
class _Found:
    """A checkpoint's parameters under NVIDIA's names, and what it says of itself."""

    family: str
    tensors: dict[str, Tensor]
    resolution: int | None = None
    conv_clamp: int = 0


def read_checkpoint(path: Path) -> Checkpoint:
    """Reads a StyleGAN2 generator from a .pkl or .pt. Runs nothing of it.

    Raises WeightsMissing; WeightsCorrupt where it is damaged or asks for more than data, Unsupported where it holds
    another network. Each says why.
    """
    try:
        found = _find(read_checkpoint_file(path))
        return Checkpoint(_assemble(found, path.stat().st_size), found.family)
    except Unsupported as error:
        raise Unsupported(f"{path}: {error}") from error
    except (KeyError, AttributeError, TypeError, IndexError, RecursionError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsCorrupt(f"{path} begins like a checkpoint, but is not whole ({reason}): get it again") from error


# --- which family -----------------------------------------------------------------------------------------------


def _find(content: Any) -> _Found:
    """The generator in what a file held: of several, the one with averaged weights."""
    if isinstance(content, Module):
        return _from_module(content)
    if isinstance(content, TFNetwork):
        return _from_tensorflow(content)
    if isinstance(content, list | tuple) and content and all(isinstance(part, TFNetwork) for part in content):
        return _from_tensorflow(content[-1])  # G, D, Gs
    if isinstance(content, Mapping):
        return _from_dict(content)
    raise Unsupported(f"it holds no network but a {type(content).__name__}. Known are {SUPPORTED}")


def _from_dict(content: Mapping[str, Any]) -> _Found:
    for name in ("G_ema", "g_ema", "G", "g", "state_dict", "generator"):
        inner = content.get(name)
        if isinstance(inner, Module):
            return _from_module(inner)
        if isinstance(inner, Mapping) and inner:
            return _from_state(inner, content.get("latent_avg"))
    if any(isinstance(value, Tensor) for value in content.values()):
        return _from_state(content, content.get("latent_avg"))
    if any(name in content for name in ("D", "d", "discriminator")):
        raise Unsupported("it holds a discriminator only: the generator (G_ema, g_ema) is needed to draw")
    raise Unsupported(f"it holds no generator, but {', '.join(map(str, list(content)[:8]))}. Known are {SUPPORTED}")


def _from_state(state: Mapping[str, Any], latent_avg: Any = None) -> _Found:
    """A state dict. One of an encoder (e4e, pSp) has its generator under "decoder."."""
    tensors = {str(name): value for name, value in state.items() if isinstance(value, Tensor)}
    if any(name.startswith("decoder.") for name in tensors):
        tensors = {name[8:]: tensor for name, tensor in tensors.items() if name.startswith("decoder.")}
    tensors = {name.removeprefix("module."): tensor for name, tensor in tensors.items()}  # of DataParallel
    if "synthesis.b4.const" in tensors:
        return _Found("NVIDIA state dict", tensors)
    if "conv1.conv.weight" in tensors and "style.1.weight" in tensors:
        return _from_rosinality(tensors, latent_avg)
    _refuse_others(tensors)
    raise Unsupported(f"its parameters are no StyleGAN2's ({', '.join(list(tensors)[:3])}, ...). Known are {SUPPORTED}")


def _refuse_others(tensors: Mapping[str, Tensor]) -> None:
    if any(name.startswith("synthesis.input.") or re.match(r"synthesis\.L\d+_", name) for name in tensors):
        raise Unsupported(f"it is a StyleGAN3 (config t or r), which is not supported. Known are {SUPPORTED}")
    if any("fromrgb" in name or name.startswith(("final_linear", "b4.out")) for name in tensors):
        raise Unsupported("it holds a discriminator only: the generator (G_ema, g_ema) is needed to draw")


# --- NVIDIA, PyTorch --------------------------------------------------------------------------------------------


def _from_module(module: Module) -> _Found:
    tensors = _state_dict(module)
    _refuse_others(tensors)
    if "synthesis.b4.const" not in tensors:
        raise Unsupported(f'its network is a "{module.name}", no generator of StyleGAN2. Known are {SUPPORTED}')
    parts = {name: part.state for name, part in _parts(module, "")}
    _check_settings(module.state, parts)
    clamps = {state["conv_clamp"] for state in parts.values() if "noise_strength" in state.get("_parameters", {})}
    clamp = clamps.pop() or 0 if len(clamps) == 1 else 0
    for name, state in parts.items():
        if re.fullmatch(r"mapping\.fc\d+", name):
            _at_our_rate(tensors, name, float(state["weight_gain"]), float(state["bias_gain"]))
    return _Found("NVIDIA pickle", tensors, module.state.get("img_resolution"), int(clamp))


def _parts(module: Module, prefix: str) -> list[tuple[str, Module]]:
    parts = [(prefix.removesuffix("."), module)]
    for name, child in module.state.get("_modules", {}).items():
        if isinstance(child, Module):
            parts += _parts(child, f"{prefix}{name}.")
    return parts


def _state_dict(module: Module) -> dict[str, Tensor]:
    tensors = {}
    for prefix, part in _parts(module, ""):
        for kind in ("_parameters", "_buffers"):
            for name, tensor in part.state.get(kind, {}).items():
                if isinstance(tensor, Tensor):
                    tensors[f"{prefix}.{name}" if prefix else name] = tensor
    return tensors


def _check_settings(state: Mapping[str, Any], parts: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuses what changes the picture and is not in the shapes."""
    if state.get("c_dim"):
        raise Unsupported("it is conditional (its pictures have labels), which is not supported")
    for name, part in parts.items():
        if part.get("architecture", "skip") != "skip":
            raise Unsupported(f'its architecture is "{part["architecture"]}", only "skip" is supported')
        kind = part.get("activation", "lrelu")
        if kind != ("linear" if name.endswith("affine") else "lrelu"):
            raise Unsupported(f'its layer {name} has the activation "{kind}", only "lrelu" is supported')


def _at_our_rate(tensors: dict[str, Tensor], name: str, weight_gain: float, bias_gain: float) -> None:
    """Rescales a mapping layer's weight and bias, so that our learning rate multiplier stands for theirs."""
    weight = tensors[f"{name}.weight"]
    tensors[f"{name}.weight"] = weight * (weight_gain * math.sqrt(weight.shape[1]) / LR)
    tensors[f"{name}.bias"] = tensors[f"{name}.bias"] * (bias_gain / LR)


# --- NVIDIA, TensorFlow -----------------------------------------------------------------------------------------

TF_DEFAULTS = {"resample_kernel": [1, 3, 3, 1], "nonlinearity": "lrelu", "architecture": "skip", "label_size": 0,
               "mapping_nonlinearity": "lrelu", "num_channels": 3, "use_noise": True}  # fmt: skip


def _from_tensorflow(network: TFNetwork) -> _Found:
    """Convolutions are [kh, kw, in, out] there, of which the upsampling ones are flipped; styles add one."""
    settings = network.state["static_kwargs"]
    for name, value in TF_DEFAULTS.items():
        if settings.get(name) not in (None, value):
            raise Unsupported(f"its {name} is {settings[name]}, only {value} is supported")
    values = _tf_variables(network)
    if "4x4/Const/const" not in values:
        raise Unsupported("it is a TensorFlow network, but no StyleGAN2 generator of config e or f")
    tensors = {"mapping.w_avg": values["dlatent_avg"], "synthesis.b4.const": values["4x4/Const/const"][0]}
    rate = float(settings.get("mapping_lrmul") or LR)
    for name, value in values.items():
        if match := re.fullmatch(r"Dense(\d+)/(weight|bias)", name):
            tensors[f"mapping.fc{match[1]}.{match[2]}"] = (value.T if match[2] == "weight" else value) * (rate / LR)
        elif match := re.fullmatch(r"noise(\d+)", name):
            index = int(match[1])
            layer = f"b{2 ** ((index + 5) // 2)}.conv{1 - index % 2}"
            tensors[f"synthesis.{layer}.noise_const"] = value[0, 0]
        elif match := re.fullmatch(r"(\d+)x\1/(Conv0_up|Conv1|Conv|ToRGB)/(\w+)", name):
            tensors |= _tf_layer(int(match[1]), match[2], match[3], value)
    converted = {name: torch.from_numpy(np.array(value, np.float32)) for name, value in tensors.items()}
    return _Found("NVIDIA TensorFlow pickle", converted, settings.get("resolution"))


def _tf_variables(network: TFNetwork) -> dict[str, np.ndarray]:
    """All arrays of a network and its components, by the names they have in their own."""
    values = {name: np.asarray(getattr(value, "value", value)) for name, value in network.state["variables"]}
    for component in network.state["components"].values():
        values |= _tf_variables(component)
    return values


def _tf_layer(resolution: int, layer: str, part: str, value: np.ndarray) -> dict[str, np.ndarray]:
    ours = {"Conv0_up": "conv0", "Conv1": "conv1", "Conv": "conv1", "ToRGB": "torgb"}[layer]
    prefix = f"synthesis.b{resolution}.{ours}"
    if part == "weight":
        value = value[::-1, ::-1] if layer == "Conv0_up" else value
        return {f"{prefix}.weight": value.transpose(3, 2, 0, 1)}
    if part == "mod_weight":
        return {f"{prefix}.affine.weight": value.T}
    if part == "mod_bias":
        return {f"{prefix}.affine.bias": value + 1}
    return {f"{prefix}.{part}": value}  # bias, noise_strength


# --- rosinality -------------------------------------------------------------------------------------------------


def _from_rosinality(state: Mapping[str, Tensor], latent_avg: Any) -> _Found:
    tensors: dict[str, Tensor] = {"synthesis.b4.const": state["input.input"][0]}
    for name, value in state.items():
        if match := re.fullmatch(r"style\.(\d+)\.(weight|bias)", name):
            tensors[f"mapping.fc{int(match[1]) - 1}.{match[2]}"] = value
        elif match := re.fullmatch(r"noises\.noise_(\d+)", name):
            tensors[f"synthesis.{_numbered(int(match[1]) - 1)}.noise_const"] = value[0, 0]
        elif match := re.fullmatch(r"(conv1|convs\.\d+|to_rgb1|to_rgbs\.\d+)\.(.*)", name):
            tensors |= _rosinality_layer(match[1], match[2], value)
    if isinstance(latent_avg, Tensor):  # one row, or a row for each layer, all alike
        tensors["mapping.w_avg"] = latent_avg.reshape(-1, latent_avg.shape[-1])[0]
    return _Found("rosinality", tensors)


def _numbered(index: int) -> str:
    """The block and layer of rosinality's convs.index; -1 is conv1."""
    return "b4.conv1" if index < 0 else f"b{2 ** (index // 2 + 3)}.conv{index % 2}"


def _rosinality_layer(layer: str, part: str, value: Tensor) -> dict[str, Tensor]:
    kind, _, number = layer.partition(".")
    if kind.startswith("to_rgb"):
        ours = f"b{2 ** (int(number) + 3) if number else 4}.torgb"
    else:
        ours = _numbered(int(number) if number else -1)
    if part.endswith("kernel"):
        if not torch.allclose(value.float(), fir_filter() * 4, atol=1e-4):
            raise Unsupported(f"its filter {layer}.{part} is not the usual one, [1, 3, 3, 1]")
        return {}
    renamed = {"conv.weight": "weight", "activate.bias": "bias", "bias": "bias", "noise.weight": "noise_strength"}
    name = renamed.get(part) or part.replace("conv.modulation", "affine")
    if part in ("conv.weight", "noise.weight"):
        value = value[0]
    return {f"synthesis.{ours}.{name}": value.flatten() if name == "bias" else value}


# --- the network ------------------------------------------------------------------------------------------------


def _assemble(found: _Found, size: int) -> StyleGAN2:
    """The network, once what it needs is known to be there, in the shapes that belong together."""
    config = _config(found)
    with torch.device("meta"):
        network = StyleGAN2(config)
    wanted = {name: tensor.shape for name, tensor in network.state_dict().items()}
    tensors = _completed(found.tensors, wanted)
    for name, shape in wanted.items():
        if tensors[name].shape != shape:
            raise Unsupported(f"{name} is {list(tensors[name].shape)}, and should be {list(shape)}")
    if sum(tensors[name].nbytes for name in wanted if name in found.tensors) > size:
        raise Unsupported("its parameters take more than the file holds")
    state = {name: tensors[name].detach().float().clone() for name in wanted}
    if not all(bool(tensor.isfinite().all()) for tensor in state.values()):
        raise Unsupported("some of its numbers are not finite")
    network.load_state_dict(state, assign=True)
    if "mapping.w_avg" not in found.tensors:
        network.mapping.w_avg = mean_of_w(network)
    return network.eval().requires_grad_(False)


def _config(found: _Found) -> StyleGAN2Config:
    tensors = found.tensors
    channels = {int(m[1]): tensors[name].shape[0] for name in tensors
                if (m := re.fullmatch(r"synthesis\.b(\d+)\.conv1\.weight", name))}  # fmt: skip
    largest = max(channels)
    if largest < 8 or sorted(channels) != [2**i for i in range(2, int(math.log2(largest)) + 1)]:
        raise Unsupported(f"its blocks are of {sorted(channels)} px, and should double from 4 px on")
    if found.resolution not in (None, largest):
        raise Unsupported(f"it declares pictures of {found.resolution} px, but its last block is of {largest} px")
    most, narrow = max(channels.values()), tensors["synthesis.b4.const"].shape[2]  # StyleGAN-Human begins with 4 x 2
    config = StyleGAN2Config(
        largest,
        z_dim=tensors["mapping.fc0.weight"].shape[1],
        w_dim=tensors["synthesis.b4.conv1.affine.weight"].shape[1],
        mapping_layers=sum(bool(re.fullmatch(r"mapping\.fc\d+\.weight", name)) for name in tensors),
        channel_base=max(resolution * count for resolution, count in channels.items()),
        channel_max=most,
        conv_clamp=found.conv_clamp,
        img_width=largest // 2 if narrow == 2 else 0,
    )
    if any(config.channels(resolution) != count for resolution, count in channels.items()):
        raise Unsupported(f"its channels {channels} don't follow from the resolution")
    return config


def _completed(tensors: Mapping[str, Tensor], wanted: Mapping[str, torch.Size]) -> dict[str, Tensor]:
    """With what not every family stores: the usual filter, the mean of W, and no noise where there is none."""
    complete = dict(tensors)
    for name, shape in wanted.items():
        if name in complete:
            continue
        if name.endswith("resample_filter"):
            complete[name] = fir_filter()
        elif name.endswith(("noise_const", "noise_strength", "w_avg")):
            complete[name] = torch.zeros(shape)
        else:
            raise Unsupported(f"{name} is missing")
    return complete


@torch.no_grad()
def mean_of_w(network: StyleGAN2) -> Tensor:
    """The mean of 10,000 mapped samples [w_dim], for a network that was stored without."""
    z = np.random.default_rng(0).standard_normal((10_000, network.config.z_dim), dtype=np.float32)
    return network.mapping(torch.from_numpy(z))[:, 0].mean(0)
