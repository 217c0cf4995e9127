"""The trained networks and their files."""

from weights.checkpoints import Checkpoint, Unsupported, read_checkpoint
from weights.generator import Generator, load_generator, save_generator
from weights.hub import WeightsCorrupt, WeightsMissing, cache_folder, fetch, sha256_of
from weights.images import to_image, to_pixels
from weights.registry import LPIPS_TRUNKS, KnownFile
from weights.stylegan2 import StyleGAN2, StyleGAN2Config

__all__ = [
    "LPIPS_TRUNKS", "Checkpoint", "Generator", "KnownFile", "StyleGAN2", "StyleGAN2Config", "Unsupported",
    "WeightsCorrupt", "WeightsMissing", "cache_folder", "fetch", "load_generator", "read_checkpoint", "save_generator",
    "sha256_of", "to_image", "to_pixels",
]  # fmt: skip
