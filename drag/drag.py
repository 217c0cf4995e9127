"""Point dragging on a generator's features (Pan et al. 2023, "Drag Your GAN", arXiv 2305.10973, section 3.2).

Each step asks the features around every handle to shift a little towards its target (motion supervision), moves
the latent, and looks where the handles went (tracking). The latent moves along the generator's axes, and its free
rows together rather than one by one: the paper's loop changes each number of each row as it likes, and soon leaves
what the network knows, so that handles arrive in a face that falls apart. Lengths are in pixels of a 512-pixel face
and scale with the resolution. The network runs only near the handles and as far as the block that is read; what may
not move is held in the map that the free rows make, from which everything behind it follows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from drag.edit import DragEdit
from drag.points import cells_of, disc, sample, square, track
from weights import Adam, Generator, Windows

State = Literal["moving", "arrived", "stuck"]
FEW = 5  # so few handles are each meant exactly; of more, each gives way to the others
OWN = 0.3  # how far one row moves by itself while all move together by 1
TEMPLATE_PACE = 0.3  # how much of a handle's template one step replaces where its match is perfect
NEARER = 0.1  # pixels of a 512-pixel face that count as having come nearer
ASTRAY = 6.0  # pixels of a 512-pixel face farther away than they had come: something else is followed


@dataclass(frozen=True)
class DragConfig:
    """How hard to try. Lengths are in pixels of a 512-pixel face."""

    steps: int = 300
    learning_rate: float = 0.01
    """Adam's, in standard deviations of the generator's W along its axes."""
    rows: int = 6
    """How many of the latent's first rows may move: they shape the face, the others colour it."""
    block: int | None = None
    """Resolution of the feature block that is read, at most half the picture's. By default 128, the paper's, for up to
    five handles, and 64 for more: a coarser map lets one give way to the others. Few that go astray in 128, where what
    they are looked for by has changed too much, begin anew in 64."""
    motion_radius: float = 8.0
    """Radius of the disc around a handle that is asked to move. The paper's 3 is less than a cell of a small network's
    block: what little lies in it can be painted at the target, where a larger piece has to go there."""
    track_radius: float = 12.0
    """Half-width of the square in which a handle is looked for."""
    mask_weight: float = 5.0
    """How strongly what may not move is held. The paper's 20 is measured further behind, where features are smaller."""
    template: Literal["fixed", "adaptive"] = "fixed"
    """What a handle is looked for by: how it looked at the start; or, as it changes on its way, how it looked last, the
    more the surer it was found, and one that is not seen waits where it was (after FreeDrag, arXiv 2307.04684)."""
    within: float | None = None
    """A handle has arrived this near to its target; by default 1 for up to five handles, 2 for more, and less where
    none has so far to go: three tenths of the longest way, but half a pixel at least."""
    patience: int = 40
    """A drag is stuck when for so many steps its handles came no nearer, or one of them was not seen."""
    unlike: float | None = None
    """A handle is not seen where its best match is this far from it: at 1, as far as its neighbourhood was. By default
    1 for up to five handles, without limit for more: they carry one along that does not look as it did."""


@dataclass(frozen=True)
class DragStep:
    """The latent after `index` updates, with its handles where they are in its picture, and how the drag stands.

    "arrived" and "stuck" end it. A stuck drag ends with the latent that came nearest, which may be an earlier one.
    The last step of a drag that used up its steps is "moving".
    """

    index: int
    limit: int
    score: float  # mean distance of handles to targets, pixels of a 512-pixel face
    latent: Tensor  # [num_ws, w_dim]
    handles: np.ndarray  # float64 [N, 2] (x, y), pixels of the aligned face
    unlike: np.ndarray  # float64 [N] how far each handle is from how it looked: 0 the same, 1 like its neighbourhood
    state: State

    @property
    def arrived(self) -> bool:
        return self.state == "arrived"


def drag(
    generator: Generator,
    latent: Tensor,
    edit: DragEdit,
    config: DragConfig = DragConfig(),
    anchor: Tensor | None = None,
) -> Iterator[DragStep]:
    """Drags the handles of `edit` in the picture of `latent` [num_ws, w_dim]; step 0 is the start, and so is that after
    which a few handles that went astray begin anew.

    What may not move is held as it is in the picture of `anchor` [num_ws, w_dim], by default in that of `latent`.
    Raises BadEdit before the first step where the edit does not fit the picture.
    """
    edit.check(generator.resolution)
    few = len(edit.handles) <= FEW
    blocks = [config.block] if config.block else [128, 64] if few else [64]
    blocks = sorted({min(block, generator.resolution // 2) for block in blocks}, reverse=True)
    taken = 0
    for block in blocks:
        watch = Watch(config.patience, config.unlike or (1.0 if few else math.inf))
        for step in _drag(generator, latent, edit, config, anchor, block, watch, taken):
            if block != blocks[-1] and watch.astray(step):
                taken = step.index
                break
            yield step
        else:
            return


@torch.inference_mode(False)
def _drag(
    generator: Generator,
    latent: Tensor,
    edit: DragEdit,
    config: DragConfig,
    anchor: Tensor | None,
    block: int,
    watch: Watch,
    taken: int,
) -> Iterator[DragStep]:
    """The drag as `block` sees it, from the start; `taken` is the index of its first step."""
    size = generator.resolution
    pixel = size / 512  # one pixel of a 512-pixel face, in pixels of this one
    device = generator.device
    patch = disc(config.motion_radius * pixel, pixel, device)  # [K, 2]
    sight = config.track_radius * pixel
    reach = (config.track_radius + config.motion_radius + 2) * block / 512  # cells: a step further, found and moved on
    handles = torch.tensor(edit.handles, dtype=torch.float32, device=device)  # [N, 2]
    targets = torch.tensor(edit.targets, dtype=torch.float32, device=device)
    longest = (targets - handles).norm(dim=1).max().item() / pixel
    # Or a gentle edit would have arrived before its first step.
    within = config.within or min(1.0 if len(handles) <= FEW else 2.0, max(0.5, 0.3 * longest))

    latent = latent.detach().clone()  # the caller's stays as it is, and leaves its inference mode
    start = latent[: config.rows]
    # What is sought: how far to go along each axis, all rows together and each by itself, in standard deviations.
    way = start.new_zeros(1 + len(start), len(generator.axes), requires_grad=True)
    adam = Adam(way, config.learning_rate)
    reader = generator.reader(latent, config.rows, block)
    with torch.no_grad():
        shape = reader.shape(start)  # [1, C, r, r]
        held = shape if anchor is None else reader.shape(anchor.clone()[: config.rows])
        first = reader.near(shape, cells_of(handles, size, block), reach)
    references = sample(first, handles[:, None], size)  # [N, 1, C]
    around = handles[:, None] + square(sight, pixel, device)  # [N, K, 2]
    other = (sample(first, around, size) - references).square().mean([1, 2]).sqrt()  # [N] of other places
    fixed = None if edit.movable is None else fixed_cells(edit.movable, shape)
    match = torch.zeros_like(other)

    for index in range(taken, config.steps + 1):
        with torch.enable_grad():
            rows = start + (way[:1] + OWN * way[1:]) @ generator.axes
            shape = reader.shape(rows)
            features = reader.near(shape, cells_of(handles, size, block), reach)
            if index > taken:
                found, match = track(features.detach(), handles, references, sight, pixel, size)
                if config.template == "adaptive":
                    trust = (1 - match / other).clamp(0, 1)[:, None]  # [N, 1]
                    found = torch.where(trust > 0, found, handles)  # one that is not seen waits where it was
                    seen = sample(features.detach(), found[:, None], size)
                    references = references.lerp(seen, TEMPLATE_PACE * trust[:, None])
                handles = found
            loss = motion_loss(features, handles, targets, patch, pixel, size)
            if fixed is not None:
                loss = loss + config.mask_weight * ((shape - held).abs() * fixed).mean()
        left = (handles - targets).norm(dim=1) / pixel  # [N]
        state: State = "arrived" if bool((left <= within).all()) else "moving"
        # In this order, off the device and then to float64: not every device knows it.
        where, unlike = handles.cpu().double().numpy(), (match / other).cpu().double().numpy()
        whole = torch.cat([rows.detach(), latent[config.rows :]])
        step = watch.judge(DragStep(index, config.steps, left.mean().item(), whole, where, unlike, state))
        yield step
        if step.state != "moving":
            return
        (gradient,) = torch.autograd.grad(loss, [way])
        way = adam.step(way.detach(), gradient).requires_grad_(True)


@dataclass
class Watch:
    """Notices that a drag is stuck: its handles come no nearer, or one of them is no longer seen."""

    patience: int
    unlike: float
    nearest: DragStep | None = None

    def judge(self, step: DragStep) -> DragStep:
        """The step; not arrived where a handle is not seen, and where the drag is stuck the nearest one so far."""
        if not (step.unlike < self.unlike).all():
            step = replace(step, state="moving")
        elif self.nearest is None or step.score < self.nearest.score - NEARER:
            self.nearest = step
        if self.nearest is None or step.arrived or step.index - self.nearest.index < self.patience:
            return step
        return replace(self.nearest, index=step.index, state="stuck")

    def astray(self, step: DragStep) -> bool:
        """Whether the handles are farther from their targets again than tracking errs."""
        return self.nearest is not None and step.score > self.nearest.score + ASTRAY


def motion_loss(features: Windows, handles: Tensor, targets: Tensor, patch: Tensor, step: float, size: int) -> Tensor:
    """Motion supervision (equation 1): features a step nearer to the target should be as those here are now.

    Sums over handles the mean over patch and channels, as the official code does (the paper sums). A handle
    nearer than one step is asked to move only what is left, so that it does not overshoot.
    """
    way = targets - handles  # [N, 2]
    length = way.norm(dim=1, keepdim=True)
    shift = way / length.clamp(min=1e-7) * length.clamp(max=step)
    here = handles[:, None] + patch  # [N, K, 2]
    now = sample(features, here, size).detach()
    there = sample(features, here + shift[:, None], size)
    return (there - now).abs().mean([1, 2]).sum()


def fixed_cells(movable: np.ndarray, shape: Tensor) -> Tensor:
    """The share [r, w] of each cell of a map [1, C, r, w <= r] that may not move."""
    height, width = shape.shape[2:]
    fixed = torch.from_numpy(~movable).to(shape)[None, None]
    cells = F.interpolate(fixed, size=(height, height), mode="area")[0, 0]
    return cells.narrow(1, (height - width) // 2, width)  # a narrow picture lies in the middle of the square
