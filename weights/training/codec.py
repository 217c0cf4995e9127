"""The lossy codec that training pictures came out of: what is drawn can be put through the same.

Its traces are too weak to see, but frozen features see them (Parmar et al. 2022, arXiv 2104.11222), and no generator
draws them.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from weights.training.data import BadPictures, to_bytes, to_float


@dataclass(frozen=True)
class Codec:
    """A lossy one, of Pillow's."""

    format: str
    quality: int

    def __call__(self, pictures: Tensor) -> Tensor:
        """Pictures uint8 [n, 3, R, R] as they are when they have been saved and opened again."""
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:  # Pillow lets others run while it stores
            return torch.stack(list(pool.map(self._reopened, pictures)))

    def of_drawn(self, images: Tensor) -> Tensor:
        """Images [n, 3, R, R] in [-1, 1] likewise, on their device; gradients go through as if nothing had changed."""
        stored = to_float(self(to_bytes(images.detach()).cpu())).to(images)
        return images + (stored - images).detach()

    def _reopened(self, picture: Tensor) -> Tensor:
        file = BytesIO()
        Image.fromarray(picture.permute(1, 2, 0).numpy()).save(file, self.format, quality=self.quality)
        return torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1)


def codec_of(text: str) -> Codec:
    """Of "webp:92". Raises BadPictures."""
    name, _, quality = text.partition(":")
    if name not in ("jpeg", "webp") or not (quality.isascii() and quality.isdigit() and 1 <= int(quality) <= 100):
        raise BadPictures(f"--codec {text} is none: take jpeg or webp with a quality of 1 to 100, as webp:92")
    return Codec(name, int(quality))
