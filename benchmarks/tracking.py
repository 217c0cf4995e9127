"""How a drag goes with other ways to follow its handles (DragGAN, section 4.3): the pairs of `benchmarks.landmarks`.

*ours* is the default; *fixed* and *adaptive* are its two templates; *none* takes each handle to have gone where it was
asked to; *nearest neighbour* is as published, on whole pixels of the picture with the template of the start; *optical
flow* takes OpenCV's DIS, in the place of RAFT, between the start's picture and the present one.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any
from unittest.mock import patch

import cv2
import numpy as np
import torch
import tyro
from torch import Tensor

from benchmarks.common import Journal, Outcome, machine
from benchmarks.landmarks import Loop, found, frechet_distances, measure, ours, pair, sheet, table
from drag import DragConfig, DragEdit, sample, square
from weights import Generator, Reader, Windows, load_generator, to_pixels

Follow = Callable[[Windows, Tensor, Tensor, float, float, int], tuple[Tensor, Tensor]]  # as drag.track


def nearest_neighbour(
    features: Windows, points: Tensor, references: Tensor, radius: float, spacing: float, size: int
) -> tuple[Tensor, Tensor]:
    """DragGAN's: of the whole pixels of a square around each point, cut at the rim, the one with the nearest features.

    Features are read at whole pixels as if they had been resized to the picture (bilinearly); L2 as in its code.
    """
    window = square(round(radius), 1.0, points.device)  # [K, 2]
    candidates = points.round()[:, None] + window  # [N, K, 2]
    distance = (sample(features, candidates, size) - references).norm(dim=-1)  # [N, K]
    outside = ((candidates < 0) | (candidates > size - 1)).any(-1)
    nearest, best = distance.masked_fill(outside, torch.inf).min(1)
    return candidates[torch.arange(len(points)), best], nearest


class Assumed:
    """No tracking: each handle has gone where motion supervision asked it to, a pixel of 512 towards its target."""

    def __init__(self, targets: np.ndarray):
        self.targets = torch.tensor(targets, dtype=torch.float32)

    def __call__(
        self, features: Windows, points: Tensor, references: Tensor, radius: float, spacing: float, size: int
    ) -> tuple[Tensor, Tensor]:
        way = self.targets - points
        length = way.norm(dim=1, keepdim=True)
        return points + way / length.clamp(min=1e-7) * length.clamp(max=spacing), torch.zeros(len(points))


class Flow:
    """Optical flow from the start's picture to the present one, at the handles' starts."""

    def __init__(self, generator: Generator, latent: Tensor, handles: np.ndarray):
        self.generator, self.latent = generator, latent
        self.handles = torch.tensor(handles, dtype=torch.float32)
        self.dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        self.start = self.grey(latent)
        self.rows = latent

    def grey(self, latent: Tensor) -> np.ndarray:
        with torch.no_grad():
            return cv2.cvtColor(np.uint8(to_pixels(self.generator.render(latent[None]))), cv2.COLOR_RGB2GRAY)

    def __call__(
        self, features: Windows, points: Tensor, references: Tensor, radius: float, spacing: float, size: int
    ) -> tuple[Tensor, Tensor]:
        now = self.grey(torch.cat([self.rows.detach(), self.latent[len(self.rows) :]]))
        flow = flow_at(self.dis.calc(self.start, now, None), self.handles)  # type: ignore[call-overload]
        return (self.handles + flow).clamp(-0.5, size - 0.5), torch.zeros(len(points))


def flow_at(flow: np.ndarray, points: Tensor) -> Tensor:
    """A flow field [H, W, 2] read bilinearly at points [N, 2], pixel centres at integers."""
    x, y = np.split(points.numpy().astype(np.float32), 2, axis=1)
    return torch.from_numpy(cv2.remap(flow, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)[:, 0])


class Told:
    """A reader that tells a Flow which rows the drag has come to."""

    def __init__(self, reader: Reader, flow: Flow):
        self.reader, self.flow = reader, flow

    def shape(self, rows: Tensor) -> Tensor:
        self.flow.rows = rows
        return self.reader.shape(rows)

    def near(self, shape: Tensor, points: Tensor, reach: float) -> Windows:
        return self.reader.near(shape, points, reach)


def followed(name: str, generator: Generator, config: DragConfig) -> Loop:
    """A drag whose handles are followed in that way."""

    def run(latent: Tensor, edit: DragEdit) -> dict[str, Outcome]:
        def reader(self: Generator, *args: Any) -> Any:
            made = Reader(self.network.synthesis, *args)
            return Told(made, follow) if isinstance(follow, Flow) else made

        follow: Follow
        if name == "nearest neighbour":  # its templates are at whole pixels
            edit = replace(edit, handles=np.rint(edit.handles))
            follow = nearest_neighbour
        elif name == "none":
            follow = Assumed(edit.targets)
        else:
            follow = Flow(generator, latent, edit.handles)
        with patch.object(sys.modules["drag.drag"], "track", follow), patch.object(Generator, "reader", reader):
            return ours(generator, replace(config, template="fixed", unlike=np.inf), name)(latent, edit)

    return run


def main(
    out: Annotated[Path, tyro.conf.Positional],
    n: int = 100,
    points: tuple[int, ...] = (1, 5),
    psi: float = 0.8,
    seconds: float = float("inf"),
    generator: str = "embedded",
    config: Annotated[DragConfig, tyro.conf.arg(name="")] = DragConfig(),  # noqa: B008
) -> None:
    """The same pairs by each way; OUT is filled as by benchmarks.landmarks."""
    network = load_generator(generator)
    settings = {"generator": network.sha256, "psi": psi, "config": asdict(config)}
    journal = Journal(out / "journal.jsonl", settings)
    loops = [ours(network, config)]
    loops += [
        ours(network, replace(config, template=other), other)
        for other in ("fixed", "adaptive")
        if other != config.template
    ]
    loops += [followed(name, network, config) for name in ("none", "nearest neighbour", "optical flow")]
    keys = [f"{count} points,{seed}" for seed in range(n) for count in points]
    measure(journal, keys, lambda task, seed: pair(network, loops, seed, int(task.split()[0]), psi), seconds)
    entries = found(journal)
    text = table(entries, frechet_distances(network, entries, psi))
    print(text)
    (out / "table.txt").write_text(text + "\n")
    (out / "tracking.json").write_text(json.dumps({**machine(), **settings, "table": text.splitlines()}, indent=1))
    sheet(network, entries, psi, out)


if __name__ == "__main__":
    tyro.cli(main)
