"""Limited-memory BFGS (Liu and Nocedal 1989, doi 10.1007/BF01589116), one evaluation at a time."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

MEMORY = 8  # steps that are remembered
ENOUGH = 1e-4  # share of what the slope promises that a step has to bring (Armijo's rule)


class QuasiNewton:
    """Searches the least value of a smooth function of numbers [n]: evaluate it at `trial`, `tell` what it is there.

    `point` is the best so far, and `value` what it has. `inverse` takes a gradient as the inverse of the second
    derivatives would, as far as they are known beforehand; the rest is learned from the gradients of the way. The
    first step is `first` long, root mean square.
    """

    def __init__(self, start: Tensor, first: float, inverse: Callable[[Tensor], Tensor] = Tensor.clone):
        self.trial = self.point = start
        self.value, self.gradient, self.slope = math.inf, torch.zeros_like(start), 0.0
        self.way, self.share = torch.zeros_like(start), 1.0
        self.first, self.inverse = first, inverse
        self.pairs: list[tuple[Tensor, Tensor]] = []  # steps, and how each changed the gradient

    def tell(self, value: float, gradient: Tensor) -> None:
        """What the function and its gradient [n] are at `trial`."""
        if value <= self.value + ENOUGH * self.share * self.slope:
            if math.isfinite(self.value):
                self._remember(self.trial - self.point, gradient - self.gradient)
            self.point, self.value, self.gradient = self.trial, value, gradient
            self.way, self.share = -self._newton(gradient), 1.0
            self.slope = float(self.way @ gradient)
        else:  # too far: to where a parabola through both values and the slope is lowest
            above = value - self.value - self.share * self.slope
            self.share *= min(0.5, max(0.1, -self.share * self.slope / (2 * above)))
        self.trial = self.point + self.share * self.way

    def _remember(self, step: Tensor, change: Tensor) -> None:
        if step @ change > 1e-8 * step.norm() * change.norm():  # only a valley tells where its bottom is
            self.pairs = [*self.pairs, (step, change)][-MEMORY:]

    def _newton(self, gradient: Tensor) -> Tensor:
        """The step up to where the gradient would be twice as large."""
        shares = []
        for step, change in reversed(self.pairs):
            shares.append((step @ gradient) / (step @ change))
            gradient = gradient - shares[-1] * change
        way = self.inverse(gradient)
        if not self.pairs:
            return way * (self.first / way.square().mean().sqrt())
        step, change = self.pairs[-1]
        way = way * ((step @ change) / (change @ self.inverse(change)))
        for (step, change), share in zip(self.pairs, reversed(shares), strict=True):
            way = way + (share - (change @ way) / (step @ change)) * step
        return way
