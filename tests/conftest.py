"""What several tests share: the real photos, small networks, and a generator whose latent is the answer."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from align import AlignedFace, ffhq_quad
from drag import DragConfig
from inversion import PivotConfig, TuneConfig
from pipeline import Config, EditSession, finish
from weights import Generator, StyleGAN2, StyleGAN2Config, Windows, save_generator

DATA = Path(__file__).parent / "data"

# `make test` has two processes test side by side: each, and the commands it starts, keeps to its share of the cores.
if workers := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 0)):
    share = max(1, (os.cpu_count() or 1) // workers)
    os.environ["OMP_NUM_THREADS"] = str(share)
    torch.set_num_threads(share)


@pytest.fixture(scope="session")
def lisa() -> np.ndarray:
    return np.array(Image.open(DATA / "lisa1.jpg").convert("RGB"))


@pytest.fixture(scope="session")
def lisa_points() -> np.ndarray:
    """dlib's 68 points of lisa1."""
    return np.load(DATA / "ffhq_golden.npz")["landmarks"].astype(np.float64)


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """An empty cache of this test's own."""
    monkeypatch.setenv("PHOTODRAG_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def small_generator(resolution: int = 32, seed: int = 0) -> Generator:
    """A random network of few channels."""
    torch.manual_seed(seed)
    config = StyleGAN2Config(resolution, z_dim=8, w_dim=8, mapping_layers=2, channel_base=256, channel_max=8)
    network = StyleGAN2(config).eval().requires_grad_(False)
    return Generator(network, "small", "0" * 64)


@dataclass(frozen=True)
class BlobGenerator:
    """Draws blobs whose middle is the sum of the latent's rows 0 and 1; the other rows brighten the picture.

    Its features are bumps of several widths and places around the middle, so that a point has a look of its own.
    """

    resolution: int = 128
    num_ws: int = 8
    w_dim: int = 2
    spread: float = 8.0  # pixels: what a learning rate is measured in
    device: str = "cpu"

    @property
    def axes(self) -> torch.Tensor:
        return self.spread * torch.eye(self.w_dim)

    def features(self, latents: torch.Tensor, block: int) -> torch.Tensor:
        middle = latents[:, :2].sum(1)  # [n, 2], pixels
        line = (torch.arange(block) + 0.5) * self.resolution / block - 0.5
        y, x = torch.meshgrid(line, line, indexing="ij")
        maps = []
        for dx, dy, width in [(0, 0, 8), (6, 0, 12), (-6, 0, 12), (0, 6, 12), (0, -6, 12), (9, 9, 20), (-9, 9, 20)]:
            far = (x - middle[:, 0, None, None] - dx) ** 2 + (y - middle[:, 1, None, None] - dy) ** 2
            maps.append(torch.exp(-far / (2 * width**2)))
        return torch.stack(maps, 1)  # [n, 7, block, block]

    def render(self, latents: torch.Tensor) -> torch.Tensor:
        return self.features(latents, self.resolution)[:, :3] * 2 - 1 + latents[:, 2:].sum() * 0.01

    def reader(self, latent: torch.Tensor, rows: int, block: int) -> "BlobReader":
        return BlobReader(self, block)

    def latent_at(self, x: float, y: float) -> torch.Tensor:
        latent = torch.zeros(self.num_ws, self.w_dim)
        latent[0] = torch.tensor([x, y])
        return latent


@dataclass(frozen=True)
class BlobReader:
    """Reads a BlobGenerator's whole map: it has no layers to stop between."""

    blobs: BlobGenerator
    block: int

    def shape(self, rows: torch.Tensor) -> torch.Tensor:
        return self.blobs.features(rows[None], self.block)

    def near(self, shape: torch.Tensor, points: torch.Tensor, reach: float) -> Windows:
        return Windows.whole(shape)


def lisa_face(size: int) -> AlignedFace:
    """lisa1's face as an FFHQ crop."""
    photo = np.array(Image.open(DATA / "lisa1.jpg").convert("RGB"))
    return AlignedFace.crop(photo, ffhq_quad(np.load(DATA / "ffhq_golden.npz")["landmarks"]), size)


QUICK = Config("st-lpips-alex", 64, pivot=PivotConfig(steps=1), tune=TuneConfig(steps=1), drag=DragConfig(steps=6))
MOUTH, EYE = np.array([[260.0, 610.0]]), np.array([[205.0, 460.0]])  # points of lisa1


@pytest.fixture(scope="session")
def small_session_folder(tmp_path_factory) -> Path:
    """A session of lisa1 in the small generator, inverted after a fashion, for tests to copy: its drags are quick."""
    folder = tmp_path_factory.mktemp("small")
    save_generator(small_generator().network, folder / "small.safetensors", torch.float32)
    session = EditSession(folder / "session", QUICK)
    session.add_photo(DATA / "lisa1.jpg")
    session.align()
    finish(session.invert(str(folder / "small.safetensors")))
    return session.folder


@pytest.fixture
def small_session(small_session_folder: Path, tmp_path: Path) -> EditSession:
    shutil.copytree(small_session_folder, tmp_path / "small")
    return EditSession(tmp_path / "small", QUICK)
