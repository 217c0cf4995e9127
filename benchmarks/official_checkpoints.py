"""Our reading of other programs' checkpoints against what those programs draw: random networks, the largest difference.

Their code is fetched by whoever runs this, and none of it is kept here:

    git clone https://github.com/NVlabs/stylegan2-ada-pytorch    (the TensorFlow layout is read by its legacy.py)
    git clone https://github.com/NVlabs/stylegan3
    git clone https://github.com/rosinality/stylegan2-pytorch
    python -m benchmarks.official_checkpoints ada stylegan2-ada-pytorch --resolutions 64 256 1024

Each family is a run of its own, since their modules have the same names. On a CPU their operations need no compiler.
NVIDIA's need `pip install requests click`.
"""

from __future__ import annotations

import argparse
import pickle
import sys
import tempfile
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.layouts import dump, tensorflow
from weights import StyleGAN2, StyleGAN2Config, read_checkpoint

CHANNELS = 32768, 512  # channel_base and channel_max of the published networks
Made = tuple[Tensor, Tensor]  # W+ latents [1, num_ws, 512] and their picture


def shaken(network: torch.nn.Module) -> Any:
    """With biases, noise strengths and a mean that are none of them zero."""
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith(("noise_strength", "noise.weight")):
                parameter.copy_(0.3 * torch.randn_like(parameter))
            elif name.endswith("bias"):
                parameter.add_(0.3 * torch.randn_like(parameter) * (10 if "fc" in name or "style" in name else 1))
        if hasattr(network, "mapping"):
            network.mapping.w_avg.copy_(0.5 * torch.randn(512))
    return network.eval().requires_grad_(False)


def drawn(generator: Any, z: Tensor) -> Made:
    latents = generator.mapping(z, None, truncation_psi=0.7)
    return latents, generator.synthesis(latents, noise_mode="const", force_fp32=True)


def ada(resolution: int, z: Tensor, path: Path) -> Made:
    from training.networks import Generator

    settings = {"channel_base": CHANNELS[0], "channel_max": CHANNELS[1], "num_fp16_res": 4, "conv_clamp": 256}
    generator = shaken(Generator(512, 0, 512, resolution, 3, synthesis_kwargs=settings))
    path.write_bytes(pickle.dumps({"G": None, "D": None, "G_ema": generator}))
    return drawn(generator, z)


def stylegan3(resolution: int, z: Tensor, path: Path) -> Made:
    from training.networks_stylegan2 import Generator

    settings = {"channel_base": CHANNELS[0], "channel_max": CHANNELS[1], "mapping_kwargs": {"num_layers": 2}}
    generator = shaken(Generator(512, 0, 512, resolution, 3, **settings))
    path.write_bytes(pickle.dumps({"G": None, "D": None, "G_ema": generator}))
    return drawn(generator, z)


def tf(resolution: int, z: Tensor, path: Path) -> Made:
    """Assembled from the documented layout; the official converter reads it beside us."""
    import legacy

    stub = tensorflow(shaken(StyleGAN2(StyleGAN2Config(resolution))))
    dump((stub, stub, stub), path)
    return drawn(legacy.convert_tf_generator(_by_attribute(stub.state)), z)


def _by_attribute(state: dict[str, Any]) -> types.SimpleNamespace:
    components = {name: _by_attribute(part.state) for name, part in state["components"].items()}
    return types.SimpleNamespace(**state | {"components": components})


def rosinality(resolution: int, z: Tensor, path: Path) -> Made:
    import torch.utils.cpp_extension

    torch.utils.cpp_extension.load = lambda *_, **__: types.SimpleNamespace()  # its CPU branches need no extension
    from model import Generator

    generator, mean = shaken(Generator(resolution, 512, 8)), 0.5 * torch.randn(512)
    torch.save({"g_ema": generator.state_dict(), "latent_avg": mean}, path)
    latents = (mean + 0.7 * (generator.style(z) - mean))[:, None].repeat(1, generator.n_latent, 1)
    return latents, generator([latents], input_is_latent=True, randomize_noise=False)[0]


FAMILIES: dict[str, Callable[[int, Tensor, Path], Made]] = {
    "ada": ada, "stylegan3": stylegan3, "tf": tf, "rosinality": rosinality,
}  # fmt: skip


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("family", choices=FAMILIES)
    parser.add_argument("code", type=Path, help="the folder of the program's code")
    parser.add_argument("--resolutions", type=int, nargs="+", default=[64, 256, 1024])
    arguments = parser.parse_args()
    sys.path.insert(0, str(arguments.code.resolve()))
    print("| layout | px | largest difference of W | of the picture, in [-1, 1] | the picture's own range |")
    print("|---|---|---|---|---|")
    for resolution in arguments.resolutions:
        torch.manual_seed(resolution)
        z = torch.randn(1, 512)
        with tempfile.TemporaryDirectory() as folder:
            latents, picture = FAMILIES[arguments.family](resolution, z, Path(folder) / "network")
            network = read_checkpoint(Path(folder) / "network").network
        w = (network.mapping(z, 0.7) - latents).abs().max()
        off = (network.synthesis(latents) - picture).abs().max()
        print(
            f"| {arguments.family} | {resolution} | {w:.1e} | {off:.1e} | {picture.min():.1f} .. {picture.max():.1f} |"
        )


if __name__ == "__main__":
    main()
