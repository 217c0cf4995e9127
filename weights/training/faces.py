"""Pictures of faces whose landmarks are known: drawn in shapes that they never had.

z = [shape code | appearance code | constant], and the target is the picture warped to that shape. So shape is a
direction of its own in W, over a wider range than the pictures have.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from weights.prior import lengthened
from weights.stylegan2 import StyleGAN2
from weights.training.data import BadPictures, Mirrored
from weights.training.shapes import FaceCodes, Shapes, fit_basis, fit_shapes, grid, shapeless, warped
from weights.training.train import COARSE, Targets, resized

SHAPE_DIM = 40  # of z
FACE_WEIGHT = 4.0  # how much more a pixel between brows and chin counts than one of the background


@dataclass(frozen=True)
class Faces:
    """Training pictures on the device of the training, and what is known of them, on the CPU."""

    pictures: Mirrored  # at the training's resolution or, so that warps stay sharp, at twice that
    shapes: Shapes  # of all
    codes: FaceCodes
    appearance: Tensor  # codes [2n, k]
    weight: Tensor  # of each pixel, [R, R], 1 in the mean, on the device of the training

    @property
    def resolution(self) -> int:
        return len(self.weight)

    @property
    def moving(self) -> int:
        return self.codes.shape.down.shape[1]

    def draw(self, n: int, rng: torch.Generator) -> Targets:
        """Pictures, every other one with a new shape; the fine rows may come from yet another shape.

        The even get one, which `train.views` shows whole. A warp stretches hair and skin, and what is sharp should be
        learned from pictures as they are.
        """
        index = torch.randint(len(self.pictures), (n,), generator=rng)
        images, points = self.pictures.images(index), self.shapes.points[index]
        new = self._new_shapes(points, rng)
        # Between pixels no finer than those asked for, bilinear sampling blurs, and the discriminator would ask for it.
        mode = "bilinear" if images.shape[-1] > self.resolution else "bicubic"
        source, target = points[::2].to(images), new[::2].to(images)
        moved = warped(images[::2], source, target, self.resolution, mode).clamp(-1, 1)
        images = resized(images, self.resolution).clone()
        images[::2] = moved
        shape, appearance = self.codes.shape.encode(new), self.appearance[index]
        z = lengthened(torch.cat([shape, appearance], 1))
        fine = lengthened(torch.cat([shape.roll(1, 0), appearance], 1))
        return Targets(images, z.to(images), fine.to(images))

    def batches(self) -> Iterator[Tensor]:
        return (resized(images, self.resolution) for images in self.pictures.batches())

    def own_codes(self) -> Tensor:
        return torch.cat([self.codes.shape.encode(self.shapes.points), self.appearance], 1)

    def draw_codes(self, n: int, rng: torch.Generator) -> Tensor:
        index = torch.randint(len(self.pictures), (n,), generator=rng)
        new = self._new_shapes(self.shapes.points[index], rng)
        return torch.cat([self.codes.shape.encode(new), self.appearance[index]], 1)

    def _new_shapes(self, points: Tensor, rng: torch.Generator) -> Tensor:
        """Points [n, 68, 2] of faces as they are to be drawn."""
        new = points.clone()
        new[::2] = self.shapes.redrawn(points[::2], rng)
        return new

    def tensors(self) -> dict[str, Tensor]:
        return self.codes.tensors()

    @torch.no_grad()
    def sheets(self, average: StyleGAN2) -> dict[str, Tensor]:
        """codes: pictures; from their codes; in other shapes; with only the coarse rows of those. moves: one
        appearance, shape components 1..8 at -2, 0, 2."""
        index = self.pictures.some(8)
        images = resized(self.pictures.images(index), self.resolution)
        points, appearance = self.shapes.points[index], self.appearance[index]
        new = self.shapes.redrawn(points, torch.Generator().manual_seed(1))
        own, other = (torch.cat([self.codes.shape.encode(shape), appearance], 1) for shape in (points, new))
        moved = own[1].repeat(3, 8, 1)
        moved[..., : self.moving] = 0
        for component in range(8):
            moved[:, component, component] = torch.tensor([-2.0, 0.0, 2.0])
        codes = torch.cat([own, other, moved.flatten(0, 1)])
        ws = average.mapping(lengthened(codes).to(images)).unflatten(0, (5, 8))
        mixed = torch.cat([ws[1, :, :COARSE], ws[0, :, COARSE:]], 1)
        drawn = torch.stack([average.synthesis(row) for row in (*ws, mixed)])
        return {"codes": torch.cat([images[None], drawn[:2], drawn[5:]]), "moves": drawn[2:5]}


def load_landmarks(path: Path, n: int) -> Tensor:
    """Points [n, 68, 2] of n pictures, as `python -m weights.training.landmarks` wrote them."""
    try:
        points = torch.from_numpy(np.load(path)["points"])
    except (OSError, ValueError, KeyError) as error:
        raise BadPictures(
            f"{path} holds no landmarks ({error}): make them with python -m weights.training.landmarks"
        ) from error
    if points.shape != (n, 68, 2):
        raise BadPictures(
            f"{path} holds {tuple(points.shape)} for {n} pictures: make it anew with "
            "python -m weights.training.landmarks"
        )
    return points


def fit_faces(
    pictures: Tensor,
    points: Tensor,
    z_dim: int,
    codes: dict[str, Tensor] | None = None,
    *,
    resolution: int | None = None,
    shape_dim: int = SHAPE_DIM,
) -> Faces:
    """Faces of uint8 pictures [n, 3, S, S] with points [n, 68, 2], to be drawn at `resolution`, S by default.

    Codes are of the kind of `codes`, as `Faces.tensors` gave them, or newly fitted.
    """
    shapes, both = fit_shapes(points), Mirrored(pictures)
    known = FaceCodes.of_tensors(codes) if codes else None
    rng = torch.Generator().manual_seed(0)
    # White over what training sees, not over nature: the moves must have codes of their own.
    drawn = torch.cat([shapes.redrawn(shapes.points, rng) for _ in range(4)] + [shapes.points])
    shape = known.shape if known else fit_basis(drawn, shape_dim)
    mean = shape.mean.view(68, 2)
    small = both.thumbnails(lambda images, index: shapeless(images, shapes.points[index].to(images), mean.to(images)))
    appearance = known.appearance if known else fit_basis(small, z_dim - 1 - shape_dim)
    weight = face_map(mean, resolution or pictures.shape[-1]).to(pictures.device)
    return Faces(both, shapes, FaceCodes(shape, appearance), appearance.encode(small), weight)


def face_map(mean: Tensor, size: int) -> Tensor:
    """How much pixels count, [size, size]: more around the points of brows, eyes, nose and mouth."""
    distance = (grid(size).view(-1, 1, 2) - mean[17:]).square().sum(-1).min(1).values.view(size, size)
    weight = 1 + FACE_WEIGHT * torch.exp(-distance / (2 * 0.04**2))
    return weight / weight.mean()
