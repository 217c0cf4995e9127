"""The encoder: a first W+ latent of a picture in one pass.

It names the picture's z, which the generator's own mapping network takes to W, and adds an offset for each row.
So its latents are mapped ones to begin with, where edits work, and what leaves them is small: the same end as the
e4e encoder's (Tov et al. 2021, arXiv 2102.02766), which starts from the mean latent instead.
"""

from __future__ import annotations

from pathlib import Path

import safetensors
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from weights.curvature import Curvature
from weights.hub import WeightsCorrupt, write_tensors
from weights.stylegan2 import StyleGAN2Config
from weights.trunk import MOBILENET_V2, Trunk

SIZE = 128  # px: pictures are brought to this
HIDDEN = 384


class Encoder(nn.Module):
    """Images [n, 3, H, W] in [-1, 1] -> z [n, z_dim], and offsets [n, num_ws, w_dim] in units of the spread of W."""

    def __init__(self, config: StyleGAN2Config):
        super().__init__()
        self.rows = (config.num_ws, config.w_dim)
        self.trunk = Trunk(MOBILENET_V2)
        self.fine, self.coarse = nn.Conv2d(96, 32, 1), nn.Conv2d(320, 64, 1)  # at strides 16 and 32
        self.hidden = nn.Linear(32 * (SIZE // 16) ** 2 + 64 * (SIZE // 32) ** 2, HIDDEN)
        self.z = nn.Linear(HIDDEN, config.z_dim)
        self.offsets = nn.Linear(HIDDEN, config.num_ws * config.w_dim)
        nn.init.zeros_(self.offsets.weight)
        nn.init.zeros_(self.offsets.bias)
        self.curvature: Curvature | None = None  # where the search from its latents is steep, where that is known

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        mode = "area" if images.shape[-1] > SIZE else "bilinear"
        if images.shape[-1] != SIZE:
            images = F.interpolate(images, size=(SIZE, SIZE), mode=mode)
        *_, fine, coarse = self.trunk(images)
        x = torch.cat([self.fine(fine).flatten(1), self.coarse(coarse).flatten(1)], 1)
        x = F.leaky_relu(self.hidden(x), 0.2)
        return self.z(x), self.offsets(x).unflatten(1, self.rows)


def encoder_path(generator: Path) -> Path:
    """Where the encoder of a generator's file lies: beside it."""
    return generator.with_name(f"{generator.stem}-encoder.safetensors")


def save_encoder(encoder: Encoder, path: Path, generator_sha256: str) -> None:
    """All or nothing, in half precision; the sha256 is that of the generator it was trained for."""
    tensors = {name: tensor.half() for name, tensor in encoder.state_dict().items()}
    write_tensors(tensors, path, {"generator_sha256": generator_sha256})


@torch.inference_mode(False)
def load_encoder(path: Path, config: StyleGAN2Config, generator_sha256: str) -> Encoder:
    """The encoder of a generator. Raises WeightsCorrupt where the file is damaged or another generator's."""
    try:
        with safetensors.safe_open(path, "pt") as file:
            trained_for = (file.metadata() or {}).get("generator_sha256")
            tensors = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
        if trained_for != generator_sha256:
            raise WeightsCorrupt(
                f"{path} is the encoder of another generator than the one beside it: remove it, or train it anew"
            )
        encoder = Encoder(config)
        if "curvature.values" in tensors:
            values = tensors["curvature.values"]
            encoder.curvature = Curvature(len(values), config.num_ws * config.w_dim)
            # Files of before say nothing of the rest, which counted as the last way that is known.
            tensors.setdefault("curvature.rest", values[-1].expand_as(encoder.curvature.rest))
        encoder.load_state_dict(tensors)
    except (safetensors.SafetensorError, RuntimeError) as error:
        raise WeightsCorrupt(f"{path} is no encoder ({str(error).splitlines()[0]}): remove or replace it") from error
    return encoder.eval().requires_grad_(False)
