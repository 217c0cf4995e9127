"""PTI's own coach (danielroich/PTI) on our network and perceptual distance, from a checkout that is not ours.

`SingleIDCoach.train` runs as it is, projector and tuning, with the settings that it comes with but for its threshold,
which is one of LPIPS. What it imports beside (wandb, e4e, torchvision) is replaced by empty modules.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock, patch

import torch
from torch import Tensor, nn

from weights import Generator, Perceptual

See = Callable[[Tensor, float], None]  # is shown each picture, with its distance


def invert(
    checkout: Path, generator: Generator, target: Tensor, perceptual: Perceptual, see: See, threshold: float = 0.0
) -> None:
    """Inverts `target` [1, 3, R, R] and forgets the result: `see` has seen it."""
    if not (checkout / "training" / "coaches" / "single_id_coach.py").is_file():
        raise SystemExit(
            f"{checkout} is no checkout of danielroich/PTI: training/coaches/single_id_coach.py is missing"
        )
    with importable(checkout, Lpips(perceptual, see)), TemporaryDirectory() as folder:
        from configs import global_config, hyperparameters, paths_config  # type: ignore[import-not-found]
        from training.coaches import base_coach, single_id_coach  # type: ignore[import-not-found]
        from training.projectors import w_projector  # type: ignore[import-not-found]

        global_config.device = "cpu"
        hyperparameters.LPIPS_value_threshold = threshold
        paths_config.embedding_base_dir = paths_config.checkpoints_dir = folder
        with (
            patch.object(base_coach, "load_old_G", lambda: Network(generator).eval()),
            patch.object(w_projector.dnnlib.util, "open_url", MagicMock()),
            patch.object(torch.jit, "load", lambda _: Vgg(perceptual, see)),
            patch.object(torch, "save"),
        ):
            single_id_coach.SingleIDCoach([(["photo"], target)], use_wandb=False).train()


@contextmanager
def importable(checkout: Path, lpips: nn.Module) -> Iterator[None]:
    """Its modules can be imported, and are gone afterwards: their names are common ones."""
    stubs = {
        name: MagicMock(spec=ModuleType, __spec__=None)
        for name in (
            "wandb",
            "models",
            "models.e4e",
            "models.e4e.psp",
            "utils.log_utils",
            "torchvision",
            "lpips",
            "requests",
        )
    }
    stubs["models.e4e.psp"].pSp = stubs["torchvision"].transforms = MagicMock()
    stubs["utils.log_utils"].log_image_from_w = stubs["utils.log_utils"].log_images_from_w = None
    stubs["lpips"].LPIPS = lambda net: lpips
    with patch.dict(sys.modules, stubs), patch.object(sys, "path", [str(checkout), *sys.path]):
        yield


class Network(nn.Module):
    """Our network under the calls that it makes to NVIDIA's."""

    def __init__(self, generator: Generator):
        super().__init__()
        self.inner = copy.deepcopy(generator.network)
        self.inner.synthesis.requires_grad_(True)
        config = self.inner.config
        self.z_dim, self.img_resolution, self.img_channels, num_ws = (
            config.z_dim,
            config.img_resolution,
            3,
            config.num_ws,
        )
        self.mapping = Part(self.inner.mapping, lambda z, _: (z.float(),))
        # Its projector repeats a latent 18 times whatever the network.
        self.synthesis = Part(self.inner.synthesis, lambda ws, **_: (ws[:, :num_ws],))
        self.mapping.num_ws = num_ws


class Part(nn.Module):
    """A module that is called in another way."""

    num_ws: int

    def __init__(self, part: nn.Module, arguments: Callable[..., tuple[Tensor, ...]]):
        super().__init__()
        self.part, self.arguments = part, arguments

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        return self.part(*self.arguments(*args, **kwargs))


class Lpips(nn.Module):
    """LPIPS's call."""

    def __init__(self, perceptual: Perceptual, see: See):
        super().__init__()
        self.perceptual, self.see = perceptual, see

    def forward(self, images: Tensor, target: Tensor) -> Tensor:
        distance = self.perceptual(images, target)
        self.see(images, distance.item())
        return distance


class Vgg:
    """The call of NVIDIA's vgg16.pt: features of pictures of 0..255 whose squared differences sum to the distance."""

    def __init__(self, perceptual: Perceptual, see: See):
        self.perceptual, self.see = perceptual, see
        self.target: Tensor | None = None

    def eval(self) -> Vgg:
        return self

    def to(self, _: torch.device) -> Vgg:
        return self

    def __call__(self, images: Tensor, resize_images: bool, return_lpips: bool) -> Tensor:
        images = images / 127.5 - 1
        features = flat_features(self.perceptual, images)
        if self.target is None:  # the first that it asks for
            self.target = features
        else:
            self.see(images, (features.detach() - self.target).square().sum().item())
        return features


def flat_features(perceptual: Perceptual, images: Tensor) -> Tensor:
    """[n, K] whose squared differences sum to the perceptual distance."""
    maps = zip(perceptual.describe(images), perceptual.heads, strict=True)
    return torch.cat([(x * (head / x[0, 0].numel()).sqrt()).flatten(1) for x, head in maps], 1)
