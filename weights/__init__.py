"""The trained networks and their files."""

from weights.adam import Adam
from weights.checkpoints import Checkpoint, Unsupported, read_checkpoint
from weights.delta import pack_tuning, unpack_tuning
from weights.generator import Generator, save_generator
from weights.hub import (
    NotSaved,
    Received,
    WeightsCorrupt,
    WeightsMissing,
    cache_folder,
    cached,
    check,
    download,
    fetch,
    sha256_of,
)
from weights.images import to_image, to_pixels
from weights.library import (
    BadName,
    find_generator,
    generator_file,
    import_generator,
    imported,
    load_generator,
    metadata_of,
    remove,
    verify_generator,
)  # fmt: skip
from weights.memory import keep_freed_memory, release_memory
from weights.perceptual import Perceptual, PerceptualName, load_perceptual, perceptual_size
from weights.precision import channels_last, fast_copy, fast_products, product_type
from weights.reader import Reader, Windows
from weights.registry import KNOWN, LPIPS_TRUNKS, Alignment, KnownFile
from weights.stylegan2 import StyleGAN2, StyleGAN2Config

__all__ = [
    "KNOWN", "LPIPS_TRUNKS", "Adam", "Alignment", "BadName", "Checkpoint", "Generator", "KnownFile", "NotSaved",
    "Perceptual", "PerceptualName", "Reader", "Received", "StyleGAN2", "StyleGAN2Config", "Unsupported",
    "WeightsCorrupt", "WeightsMissing", "Windows", "cache_folder", "cached", "channels_last", "check", "download",
    "fast_copy", "fast_products", "fetch", "find_generator", "generator_file", "import_generator", "imported",
    "keep_freed_memory", "load_generator", "load_perceptual", "metadata_of", "pack_tuning", "perceptual_size",
    "product_type", "read_checkpoint", "release_memory", "remove", "save_generator", "sha256_of", "to_image",
    "to_pixels", "unpack_tuning", "verify_generator",
]  # fmt: skip
