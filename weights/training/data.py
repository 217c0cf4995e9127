"""Training pictures: all that a zip or a folder holds, at one size, in memory as bytes."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")


@dataclass(frozen=True)
class Mirrored:
    """n pictures, and after them their mirror images."""

    pictures: Tensor  # uint8 [n, 3, R, R]

    def __len__(self) -> int:
        return 2 * len(self.pictures)

    def images(self, index: Tensor) -> Tensor:
        """Those of number `index`, float [k, 3, R, R] in [-1, 1]."""
        n = len(self.pictures)
        images = to_float(self.pictures[(index % n).to(self.pictures.device)])
        return torch.where((index >= n)[:, None, None, None].to(images.device), images.flip(3), images)

    def thumbnails(self, make: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """make(images, their numbers) of them all, on the CPU, a few at a time."""
        return torch.cat([make(self.images(part), part).cpu() for part in torch.arange(len(self)).split(64)])

    def batches(self, size: int = 16) -> Iterator[Tensor]:
        """All, float [size, 3, R, R] in [-1, 1], the last batch perhaps smaller."""
        return map(self.images, torch.arange(len(self)).split(size))

    def some(self, k: int) -> Tensor:
        """Numbers of k of the pictures, the same ones each time, for grids."""
        return torch.arange(k) * (len(self.pictures) // k)


class BadPictures(ValueError):
    """The training pictures cannot be used; the message says which and what to do."""


def load_pictures(source: Path, resolution: int) -> Tensor:
    """The pictures of `source` in the order of their names, uint8 [n, 3, R, R]; larger ones are averaged."""
    pictures = [decode(name, data, resolution) for name, data in read_pictures(source)]
    if not pictures:
        raise BadPictures(f"{source} holds no pictures ({', '.join(SUFFIXES)})")
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous()


def smallest_width(source: Path) -> int:
    """Of the pictures of `source`, in pixels."""
    widths = []
    for name, data in read_pictures(source):
        with opened(name, data) as image:
            widths.append(image.width)
    return min(widths, default=0)


def read_pictures(source: Path) -> Iterator[tuple[str, bytes]]:
    """(name, file contents) of every picture in a zip or a folder, folders within included."""
    if source.is_dir():
        for path in sorted(p for p in source.rglob("*") if p.suffix.lower() in SUFFIXES):
            yield str(path), path.read_bytes()
    elif zipfile.is_zipfile(source):
        with zipfile.ZipFile(source) as archive:
            for name in sorted(n for n in archive.namelist() if n.lower().endswith(SUFFIXES)):
                yield f"{name} in {source}", archive.read(name)
    else:
        raise BadPictures(f"{source} is neither a folder nor a zip")


def opened(name: str, data: bytes) -> Image.Image:
    try:
        return Image.open(BytesIO(data))
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise BadPictures(f"{name} cannot be read as a picture ({error}): replace or remove it") from error


def decode(name: str, data: bytes, resolution: int) -> np.ndarray:
    try:
        image = opened(name, data).convert("RGB")
    except (OSError, ValueError) as error:
        raise BadPictures(f"{name} cannot be read as a picture ({error}): replace or remove it") from error
    if image.width != image.height:
        raise BadPictures(f"{name} is {image.width}x{image.height}: pictures must be square, crop it first")
    if image.width < resolution:
        raise BadPictures(f"{name} is {image.width} px: too small for --resolution {resolution}")
    if image.width > resolution:
        image = image.resize((resolution, resolution), Image.Resampling.BOX)
    return np.asarray(image)


def to_float(pictures: Tensor) -> Tensor:
    """uint8 -> float in [-1, 1]."""
    return pictures.float() / 127.5 - 1


def to_bytes(images: Tensor) -> Tensor:
    """Float in [-1, 1] -> uint8."""
    return (images.float() * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8)
