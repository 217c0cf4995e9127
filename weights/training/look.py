"""What pictures show that their other codes do not say: curls, a beard, a collar, leaves in the background.

A generator draws from a code what pictures of that code have in common, and random numbers that nothing is asked of it
does not heed. So the code says more: of the picture's frozen features, pooled, what is left when a linear map from the
rest of its code has told what it can. (A generator told of features what to draw: Casanova et al. 2021,
arXiv 2109.05070.)
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from weights.training.variety import whitening

RIDGE = 0.001  # of the map, in variances of a code, which is white


@dataclass(frozen=True)
class Look:
    """look = (features - mean - code @ known) @ down."""

    mean: Tensor  # [d]
    known: Tensor  # [k, d]
    down: Tensor  # [d, l]

    def encode(self, features: Tensor, codes: Tensor) -> Tensor:
        """Pooled features [n, d] of pictures with codes [n, k] -> [n, l], white over what this was fitted to."""
        return (features - self.mean - codes @ self.known) @ self.down

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint keeps."""
        return {f"codes/look/{field.name}": getattr(self, field.name) for field in fields(self)}

    @classmethod
    def of_tensors(cls, tensors: dict[str, Tensor]) -> Look | None:
        """None where codes say nothing of the kind."""
        if "codes/look/down" not in tensors:
            return None
        return cls(*(tensors[f"codes/look/{field.name}"] for field in fields(cls)))


def fit_look(features: Tensor, sizes: list[int], codes: Tensor, k: int) -> Look:
    """The k strongest axes of pooled features [n, d], whose maps' channels are `sizes`, less what codes [n, c] tell."""
    mean = features.mean(0) - codes.mean(0) @ (known := linear_map(codes, features))
    return Look(mean, known, whitening(features - mean - codes @ known, sizes, k))


def linear_map(codes: Tensor, features: Tensor) -> Tensor:
    """[c, d], from codes [n, c] less their mean to features [n, d] less theirs, by least squares with a ridge."""
    x, y = (t.double() - t.double().mean(0) for t in (codes, features))
    ridge = RIDGE * len(x) * torch.eye(x.shape[1], dtype=x.dtype)
    return torch.linalg.solve(x.T @ x + ridge, x.T @ y).float()
