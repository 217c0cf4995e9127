"""Paired image reconstruction (DragGAN, Table 2), beside the official loop.

A sample w1, and w2 a little away from it; 32 points of the first picture are dragged by the optical flow (OpenCV's DIS)
from it to the second, and the result is compared with the second. The paper perturbs as UserControllableLT does and
tells no more: here the rows that a drag may move go a share of the way to another sample's.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import torch
import tyro
from torch import Tensor

from benchmarks.common import Journal, draw, machine, save_sheet, stoppable, text_table
from benchmarks.landmarks import Loop, official, ours
from benchmarks.tracking import flow_at
from drag import DragConfig, DragEdit
from weights import Generator, Perceptual, load_generator, load_perceptual, to_pixels

POINTS = 32
AWAY = 0.3  # of the way to another sample


@dataclass(frozen=True)
class Row:
    loop: str  # "no edit": the first picture as it is
    mse: float  # to the second picture, x 100, of numbers in [-1, 1]
    changed: float  # ST-LPIPS to it, x 10
    steps: int = 0
    cpu_s: float = 0.0


def ends(generator: Generator, seed: int, psi: float, rows: int) -> tuple[Tensor, Tensor]:
    """w1 and w2, both [num_ws, w_dim]."""
    first, other = (generator.sample(1, 2 * seed + i, psi)[0] for i in (0, 1))
    second = first.clone()
    second[:rows] += AWAY * (other - first)[:rows]
    return first, second


def by_flow(generator: Generator, first: Tensor, second: Tensor, seed: int) -> DragEdit:
    """Random points of the first picture, and where the flow has them in the second."""
    size = generator.resolution
    with torch.no_grad():
        greys = (
            cv2.cvtColor(np.uint8(to_pixels(generator.render(w[None]))), cv2.COLOR_RGB2GRAY) for w in (first, second)
        )
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    flow = dis.calc(*greys, None)  # type: ignore[call-overload]
    handles = np.random.default_rng(seed).integers(0, size, (POINTS, 2)).astype(float)
    targets = handles + flow_at(flow, torch.tensor(handles)).numpy()
    return DragEdit(handles, np.clip(targets, 0, size - 1))


def compared(generator: Generator, perceptual: Perceptual, latent: Tensor, second: Tensor) -> tuple[float, float]:
    """MSE x 100 and ST-LPIPS x 10 of two latents' pictures."""
    with torch.no_grad():
        a, b = (generator.render(w[None]).clamp(-1, 1) for w in (latent, second))
        return round(100 * float((a - b).square().mean()), 4), round(10 * float(perceptual(a, b)), 4)


def pair(
    generator: Generator, perceptual: Perceptual, loops: list[Loop], seed: int, psi: float, rows: int
) -> tuple[list[Row], dict[str, np.ndarray]]:
    first, second = ends(generator, seed, psi, rows)
    edit = by_flow(generator, first, second, seed)
    found = [Row("no edit", *compared(generator, perceptual, first, second))]
    shown = {"first": draw(generator, first), "second": draw(generator, second)}
    for loop in loops:
        for name, end in loop(first, edit).items():
            figures = compared(generator, perceptual, end.latent, second)
            found.append(Row(name, *figures, end.steps, round(end.cpu_s, 3)))
            shown[name] = draw(generator, end.latent)
    return found, shown


def table(entries: dict[str, list[dict[str, Any]]]) -> str:
    loops: dict[str, list[dict[str, Any]]] = {}
    for row in (row for rows in entries.values() for row in rows):
        loops.setdefault(row["loop"], []).append(row)
    columns = ("mse", "changed", "steps", "cpu_s")
    lines = [
        (name, len(rows), *(float(np.mean([r[c] for r in rows])) for c in columns)) for name, rows in loops.items()
    ]
    return text_table(["loop", "n", "MSE x 100", "ST-LPIPS x 10", "steps", "cpu s"], lines)


def main(
    out: Annotated[Path, tyro.conf.Positional],
    peer: Path | None = None,
    n: int = 100,
    psi: float = 0.8,
    seconds: float = math.inf,
    peer_lr: float = 0.002,
    generator: str = "embedded",
    config: Annotated[DragConfig, tyro.conf.arg(name="")] = DragConfig(),  # noqa: B008
) -> None:
    """N pairs, in at most so many SECONDS. OUT gets journal.jsonl, with which a stopped run goes on, paired.json,
    table.txt and a sheet of this run's first pairs. --peer is a checkout of XingangPan/DragGAN.
    """
    network = load_generator(generator)
    perceptual = load_perceptual("st-lpips-vgg", size=min(256, network.resolution))
    settings = {"generator": network.sha256, "psi": psi, "config": asdict(config), "peer": bool(peer), "lr": peer_lr}
    settings |= {"points": POINTS, "away": AWAY, "perceptual": f"{perceptual.name} at {perceptual.size}"}
    journal, shown = Journal(out / "journal.jsonl", settings), []
    loops = [ours(network, config)] + ([official(network, peer, config.steps, peer_lr)] if peer else [])
    with stoppable():
        for seed in journal.todo(map(str, range(n)), "pairs", seconds):
            rows, pictures = pair(network, perceptual, loops, int(seed), psi, config.rows)
            journal.add(seed, [asdict(row) for row in rows])
            shown = [*shown, pictures][:8]
    text = table(journal.entries)
    print(text)
    (out / "table.txt").write_text(text + "\n")
    (out / "paired.json").write_text(json.dumps({**machine(), **settings, "rows": journal.entries}, indent=1))
    if shown:
        save_sheet(shown, out / "sheet.png")


if __name__ == "__main__":
    tyro.cli(main)
