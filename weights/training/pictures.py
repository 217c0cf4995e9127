"""Pictures of anything, of which nothing is known: z is a picture's whitened PCA code.

Codes of real pictures are spread like the normal z that a generator is fed. So a generator that learned to draw
picture i from code i, by plain regression and in minutes, draws a soft, well-placed picture from any z.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from weights.prior import lengthened
from weights.stylegan2 import StyleGAN2
from weights.training.data import BadPictures, Mirrored
from weights.training.shapes import THUMBNAIL, Basis, fit_basis
from weights.training.train import Targets


@dataclass(frozen=True)
class Pictures:
    """Training pictures on the device of the training, and their codes, on the CPU."""

    pictures: Mirrored
    basis: Basis  # of thumbnails; 128 components of 32 px keep 96 % of the variance of aligned faces
    codes: Tensor  # [2n, z_dim - 1]
    weight: Tensor  # [1, 1]: all pixels count the same
    moving: int | None = None

    def draw(self, n: int, rng: torch.Generator) -> Targets:
        index = torch.randint(len(self.pictures), (n,), generator=rng)
        images = self.pictures.images(index)
        z = lengthened(self.codes[index]).to(images)
        return Targets(images, z, z)

    def batches(self) -> Iterator[Tensor]:
        return self.pictures.batches()

    def own_codes(self) -> Tensor:
        return self.codes

    def draw_codes(self, n: int, rng: torch.Generator) -> Tensor:
        return self.codes[torch.randint(len(self.pictures), (n,), generator=rng)]

    def tensors(self) -> dict[str, Tensor]:
        return self.basis.tensors("codes")

    @torch.no_grad()
    def sheets(self, average: StyleGAN2) -> dict[str, Tensor]:
        """codes: pictures, and what is drawn from their codes."""
        images = self.pictures.images(self.pictures.some(8))
        drawn = average.synthesis(average.mapping(lengthened(self.codes[self.pictures.some(8)]).to(images)))
        return {"codes": torch.stack([images, drawn])}


def fit_pictures(pictures: Tensor, z_dim: int, codes: dict[str, Tensor] | None = None) -> Pictures:
    """uint8 pictures [n, 3, R, R] with codes of the kind of `codes`, as `tensors` gave them, or newly fitted."""
    both = Mirrored(pictures)
    if len(both) <= z_dim:
        raise BadPictures(f"{len(pictures)} pictures are too few for z of {z_dim}: {z_dim // 2 + 1} at least")
    small = both.thumbnails(lambda images, _: F.interpolate(images, size=(THUMBNAIL, THUMBNAIL), mode="area"))
    basis = Basis.of_tensors(codes, "codes") if codes else fit_basis(small, z_dim - 1)
    return Pictures(both, basis, basis.encode(small), torch.ones(1, 1, device=pictures.device))
