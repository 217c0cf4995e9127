"""Faces taken apart into shape and appearance, and put together anew: active appearance models (Cootes et al. 1998).

A shape is 68 points (x, y) as shares of the picture's width, pixel centres at (i + 0.5) / size. A picture is
warped from one shape to another by thin-plate splines (Bookstein 1989).
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor

THUMBNAIL = 32  # px
FLOW = 48  # px: the grid on which splines are evaluated; finer than that they are smooth
SMOOTH = 1e-4  # of the spline: lets points that meet in one shape part in the other without a fold
SHAPE_NOISE = 0.8  # standard deviations of natural shapes, in every natural component
NATURAL = 24  # components of natural shapes: 99.4 % of their variance

# Point i of a face is point MIRROR[i] of its mirror image.
_PAIRS = (
    [(i, 16 - i) for i in range(8)]
    + [(17 + i, 26 - i) for i in range(5)]
    + [(31, 35), (32, 34), (36, 45), (37, 44), (38, 43), (39, 42), (40, 47), (41, 46)]
    + [(48, 54), (49, 53), (50, 52), (55, 59), (56, 58), (60, 64), (61, 63), (65, 67)]
)
MIRROR = torch.arange(68)
for _a, _b in _PAIRS:
    MIRROR[_a], MIRROR[_b] = _b, _a

# Points that may meet but not pass each other (above, below), and how far apart they stay, in widths.
LIDS = [(61, 67, 0.0), (62, 66, 0.0), (63, 65, 0.0)]
LIDS += [(37, 41, 0.003), (38, 40, 0.003), (43, 47, 0.003), (44, 46, 0.003)]
# What a spline holds fast: the picture's border.
BORDER = torch.tensor(
    [(x, y) for x in (0, 1 / 3, 2 / 3, 1) for y in (0, 1 / 3, 2 / 3, 1) if x in (0, 1) or y in (0, 1)]
)


@dataclass(frozen=True)
class Basis:
    """A whitened PCA: code = (x - mean) @ down, x = mean + code @ up."""

    mean: Tensor  # [d]
    down: Tensor  # [d, k]
    up: Tensor  # [k, d]

    def encode(self, x: Tensor) -> Tensor:
        """x [n, ...] of d numbers each -> codes [n, k], white over what the basis was fitted to."""
        return (x.flatten(1) - self.mean) @ self.down

    def decode(self, codes: Tensor) -> Tensor:
        return self.mean + codes @ self.up

    def tensors(self, name: str) -> dict[str, Tensor]:
        """What a checkpoint keeps."""
        return {f"{name}/{field.name}": getattr(self, field.name) for field in fields(self)}

    @classmethod
    def of_tensors(cls, tensors: dict[str, Tensor], name: str) -> Basis:
        return cls(*(tensors[f"{name}/{field.name}"] for field in fields(cls)))


def fit_basis(x: Tensor, k: int) -> Basis:
    """The k strongest components of x [n, ...]."""
    x = x.flatten(1).double()
    mean = x.mean(0)
    x = x - mean
    if len(x) < x.shape[1]:  # then the small matrix says it all
        variance, sides = torch.linalg.eigh(x @ x.T / len(x))  # ascending
        axes = F.normalize(x.T @ sides, dim=0)
    else:
        variance, axes = torch.linalg.eigh(x.T @ x / len(x))
    variance, axes = variance[-k:].flip(0), axes[:, -k:].flip(1)
    # An axis is known up to its sign only. No rule by its largest entry: mirrored axes have two, of either sign.
    axes = axes * (axes.T @ torch.arange(x.shape[1]).cos().double()).sign()
    std = variance.clamp_min(1e-8 * float(variance[0])).sqrt()
    return Basis(mean.float(), (axes / std).float(), (axes * std).T.float())


def mirrored(points: Tensor) -> Tensor:
    """Points [n, 68, 2] of the mirrored pictures, in their order."""
    points = points[:, MIRROR]
    return torch.stack([1 - points[..., 0], points[..., 1]], -1)


def _field(x: dict[int, float] | None = None, y: dict[int, float] | None = None, std: float = 0.01) -> Tensor:
    """A displacement [68, 2] of the named points, times its standard deviation in widths."""
    field = torch.zeros(68, 2)
    for axis, weights in enumerate((x or {}, y or {})):
        for point, weight in weights.items():
            field[point, axis] = weight * std
    return field


def moves() -> Tensor:
    """What a face can do to its points, one displacement of standard size after the other, [m, 68, 2]."""
    mouth = dict.fromkeys(range(48, 68), 1.0)
    corner = {48: 1.0, 60: 0.9, 49: 0.55, 59: 0.55, 50: 0.25, 58: 0.25, 61: 0.35, 67: 0.35}
    other = {int(MIRROR[i]): v for i, v in corner.items()}
    both = corner | other
    outward = {i: -v for i, v in corner.items()} | other
    chin = {5: 0.5, 6: 0.8, 7: 1.0, 8: 1.0, 9: 1.0, 10: 0.8, 11: 0.5, 4: 0.25, 12: 0.25}
    lower = {56: 1.0, 57: 1.0, 58: 1.0, 55: 0.7, 59: 0.7, 65: 1.0, 66: 1.0, 67: 1.0, 60: 0.2, 64: 0.2, 48: 0.2, 54: 0.2}
    upper = {49: 0.5, 50: 1.0, 51: 1.0, 52: 1.0, 53: 0.5, 61: 1.0, 62: 1.0, 63: 1.0}
    brow = {17: 0.6, 18: 0.9, 19: 1.0, 20: 1.0, 21: 0.9}
    brow2 = {int(MIRROR[i]): v for i, v in brow.items()}
    inner = {20: 0.5, 21: 1.0, 22: -1.0, 23: -0.5}
    tip = {28: 0.3, 29: 0.65, 30: 1.0, 31: 0.6, 32: 0.8, 33: 0.9, 34: 0.8, 35: 0.6}
    wings = {31: -1.0, 32: -0.5, 34: 0.5, 35: 1.0}
    lids = {37: -1.0, 38: -1.0, 43: -1.0, 44: -1.0, 40: 0.6, 41: 0.6, 46: 0.6, 47: 0.6}
    one = {i: v for i, v in lids.items() if i < 42}
    wide = {i: (i - 8) / 6 if abs(i - 8) <= 6 else (1.0 if i > 8 else -1.0) for i in range(17)}
    low = {i: v * max(0.0, 1 - abs(abs(i - 8) - 4) / 4) for i, v in wide.items()}
    # How far before the ears each point is: what it moves by when the head turns or nods.
    depth = {i: 0.55 * (1 - abs(i - 8) / 8) for i in range(17)}
    depth |= dict.fromkeys(range(17, 27), 0.6) | {17: 0.4, 26: 0.4, 27: 0.65, 28: 0.8, 29: 0.95, 30: 1.1}
    depth |= dict.fromkeys(range(31, 36), 0.85) | dict.fromkeys(range(36, 48), 0.5) | dict.fromkeys(range(48, 68), 0.75)
    return torch.stack(
        [
            _field(x=depth, std=0.025),
            _field(y=depth, std=0.02),
            _field(y=lower | chin, std=0.02),
            _field(y=lower, std=0.012),
            _field(y={i: -v for i, v in upper.items()}, std=0.007),
            _field(x=outward, y={i: -0.8 * v for i, v in both.items()}, std=0.013),
            _field(x=outward, std=0.012),
            _field(y=both, std=0.012),
            *(_field(x=c, std=0.01) for c in (corner, other)),
            *(_field(y=c, std=0.012) for c in (corner, other)),
            _field(x=mouth, std=0.01),
            _field(y=mouth, std=0.01),
            _field(y=brow | brow2, std=0.012),
            *(_field(y=b, std=0.009) for b in (brow, brow2)),
            _field(x=inner, std=0.006),
            _field(x=tip, std=0.015),
            _field(y=tip, std=0.012),
            _field(x=wings, std=0.006),
            _field(y=lids, std=0.006),
            _field(y=one, std=0.004),
            _field(x=wide, std=0.015),
            _field(x=low, std=0.012),
            _field(y=chin, std=0.015),
            _field(x=chin, std=0.01),
        ]
    )


@dataclass(frozen=True)
class Shapes:
    """The shapes of the training pictures, and what new ones are made of."""

    points: Tensor  # [n, 68, 2], mirrored ones included
    natural: Basis  # of those
    moves: Tensor  # [m, 68, 2]

    def redrawn(self, points: Tensor, rng: torch.Generator) -> Tensor:
        """New shapes for faces of shape `points` [n, 68, 2]: towards another face's, by nature's axes, by moves."""
        n = len(points)
        others = self.points[torch.randint(len(self.points), (n,), generator=rng)]
        share = torch.rand(n, 1, 1, generator=rng) * (torch.rand(n, 1, 1, generator=rng) < 0.4)
        noise = torch.randn(n, self.natural.up.shape[0], generator=rng) * SHAPE_NOISE
        noise = noise * (torch.rand(n, 1, generator=rng) < 0.4)
        # Few moves at a time, or all would look alike.
        sizes = torch.randn(n, len(self.moves), generator=rng)
        sizes = sizes * (torch.rand(n, len(self.moves), generator=rng) < 0.2) * 1.3
        new = points.lerp(others, share) + (noise @ self.natural.up).view(n, 68, 2)
        return apart(new + torch.einsum("nm,mpc->npc", sizes, self.moves))


def fit_shapes(points: Tensor) -> Shapes:
    """From points [n, 68, 2] of the training pictures."""
    points = torch.cat([points, mirrored(points)])
    return Shapes(points, fit_basis(points, min(NATURAL, len(points) - 1)), moves())


def apart(points: Tensor) -> Tensor:
    """Points [n, 68, 2] with lips and eyelids that passed each other put back to where they meet."""
    points = points.clone()
    for above, below, gap in LIDS:
        middle = (points[:, above, 1] + points[:, below, 1]) / 2
        half = ((points[:, below, 1] - points[:, above, 1]) / 2).clamp_min(gap / 2)
        points[:, above, 1], points[:, below, 1] = middle - half, middle + half
    return points


def warped(pictures: Tensor, source: Tensor, target: Tensor, size: int | None = None, mode: str = "bilinear") -> Tensor:
    """Pictures [n, 3, R, R] whose points [n, 68, 2] go from `source` to `target`, as [n, 3, size, size].

    `mode` is grid_sample's; "bicubic" may overshoot.
    """
    size = size or pictures.shape[-1]
    flow = spline_flow(target, source - target, FLOW)  # [n, FLOW, FLOW, 2]
    if size != FLOW:
        flow = F.interpolate(flow.permute(0, 3, 1, 2), size=(size, size), mode="bicubic", align_corners=False)
        flow = flow.permute(0, 2, 3, 1)
    where = grid(size, flow.device) + flow  # shares of the width, the pixel centres of the picture asked for
    return F.grid_sample(pictures, where * 2 - 1, mode=mode, padding_mode="border", align_corners=False)


def spline_flow(points: Tensor, values: Tensor, size: int) -> Tensor:
    """The smooth field [n, size, size, 2] that takes `values` [n, 68, 2] at `points` and 0 on the border."""
    n, device = len(points), points.device
    nodes = torch.cat([points, BORDER.to(device).expand(n, -1, -1)], 1)  # [n, k, 2]
    k = nodes.shape[1]
    values = torch.cat([values, values.new_zeros(n, k - points.shape[1] + 3, 2)], 1)
    affine = torch.cat([torch.ones(n, k, 1, device=device), nodes], 2)  # [n, k, 3]
    system = torch.zeros(n, k + 3, k + 3, device=device)
    system[:, :k, :k] = kernel(nodes, nodes) + SMOOTH * torch.eye(k, device=device)
    system[:, :k, k:], system[:, k:, :k] = affine, affine.transpose(1, 2)
    weights = torch.linalg.solve(system.double(), values.double()).float()  # [n, k + 3, 2]
    where = grid(size, device).view(1, -1, 2)
    field = kernel(where, nodes) @ weights[:, :k]
    field = field + weights[:, None, k] + where @ weights[:, k + 1 :]
    return field.view(n, size, size, 2)


def kernel(a: Tensor, b: Tensor) -> Tensor:
    """r^2 log r between points a [n, i, 2] and b [n, j, 2]: [n, i, j]."""
    # As a product, for the differences themselves take five times as long.
    squared = a.square().sum(-1)[:, :, None] + b.square().sum(-1)[:, None] - 2 * a @ b.transpose(1, 2)
    squared = squared.clamp_min_(1e-9)
    return squared.log().mul_(squared).mul_(0.5)


def grid(size: int, device: torch.device | str = "cpu") -> Tensor:
    """Pixel centres (x, y) as shares of the width, [size, size, 2]."""
    at = (torch.arange(size, device=device) + 0.5) / size
    y, x = torch.meshgrid(at, at, indexing="ij")
    return torch.stack([x, y], -1)


@dataclass(frozen=True)
class FaceCodes:
    """[shape code | appearance code], white over the training pictures and their new shapes."""

    shape: Basis  # of shapes as `Shapes.redrawn` makes them
    appearance: Basis  # of thumbnails of pictures warped to `shape.mean`

    def tensors(self) -> dict[str, Tensor]:
        return self.shape.tensors("codes/shape") | self.appearance.tensors("codes/appearance")

    @classmethod
    def of_tensors(cls, tensors: dict[str, Tensor]) -> FaceCodes:
        return cls(Basis.of_tensors(tensors, "codes/shape"), Basis.of_tensors(tensors, "codes/appearance"))


def shapeless(pictures: Tensor, points: Tensor, mean: Tensor) -> Tensor:
    """Thumbnails of the pictures warped to the mean shape, all but the same for every size of picture."""
    pictures = F.interpolate(pictures, size=(2 * THUMBNAIL, 2 * THUMBNAIL), mode="area")
    straight = warped(pictures, points, mean.expand(len(points), -1, -1))
    return F.interpolate(straight, size=(THUMBNAIL, THUMBNAIL), mode="area")
