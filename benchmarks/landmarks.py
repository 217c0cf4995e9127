"""Face landmark manipulation (DragGAN, Table 1) and there-and-back, on generated faces, beside the official loop.

Pairs of samples: one's landmarks are dragged to the other's, by 1, 5 or 68 points. Then dlib looks where they came.
There and back drags a mouth corner and the nose out and home again: what is then not as it was, is the drag's fault
(FreeDrag's CCSD measures the same).
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro
from PIL import Image

from align import NoFaceFound, choose_face, find_faces
from benchmarks.drag_step import machine
from benchmarks.own_samples import draw
from benchmarks.peer import Official
from drag import DragConfig, DragEdit, drag
from inversion import Perceptual, load_perceptual
from pipeline import finish
from pipeline.report import strip
from weights import Generator, load_generator

SUBSETS = {1: [30], 5: [36, 45, 30, 48, 54], 68: list(range(68))}  # iBUG's numbers: nose; eyes, nose, mouth's corners
THERE = {"corner": (48, (-5.66, -5.66)), "yaw": (30, (-12.0, 0.0))}  # pixels of a 512-pixel face
PSI = 0.7
Run = Callable[[torch.Tensor, DragEdit], tuple[torch.Tensor, np.ndarray, int]]


@dataclass(frozen=True)
class Row:
    """One drag by one loop. Lengths in pixels of a 512-pixel face; seconds of processor, all threads."""

    task: str
    seed: int
    loop: str
    before: float  # mean distance of the dragged landmarks to where they should be, seen by dlib
    after: float
    steps: int
    cpu_s: float
    changed: float | None = None  # ST-LPIPS between the start and what came back


def ours(generator: Generator, config: DragConfig) -> Run:
    def run(latent: torch.Tensor, edit: DragEdit) -> tuple[torch.Tensor, np.ndarray, int]:
        step = finish(drag(generator, latent, edit, config))
        return step.latent, step.handles, step.index

    return run


def official(generator: Generator, checkout: Path, limit: int, lr: float) -> Run:
    """Stops as its own window does: where it says so, or after `limit` steps."""
    loop = Official(checkout, generator)

    def run(latent: torch.Tensor, edit: DragEdit) -> tuple[torch.Tensor, np.ndarray, int]:
        steps: Iterator[Any] = loop.steps(latent, edit, lr)
        index, step = 0, next(steps)
        while not step.stop and index < limit:
            index, step = index + 1, next(steps)
        return step.latent, step.points, index

    return run


def landmarks(generator: Generator, latent: torch.Tensor) -> np.ndarray:
    """dlib's 68 points of the drawn face, in pixels of 512."""
    return choose_face(find_faces(draw(generator, latent))).points


def scaled(points: np.ndarray, generator: Generator) -> np.ndarray:
    """Pixels of a 512-pixel face as those of the generator's, inside its picture."""
    return np.clip((points + 0.5) * generator.resolution / 512 - 0.5, 0, generator.resolution - 1)


def timed(run: Run, latent: torch.Tensor, edit: DragEdit) -> tuple[torch.Tensor, np.ndarray, int, float]:
    started = time.process_time()
    moved, handles, steps = run(latent, edit)
    return moved, handles, steps, time.process_time() - started


def pair(generator: Generator, runs: dict[str, Run], seed: int, count: int) -> tuple[list[Row], dict[str, np.ndarray]]:
    """Drags `count` landmarks of one sample to those of another by each loop."""
    first, second = (generator.sample(1, 2 * seed + i, PSI)[0] for i in (0, 1))
    chosen, here, there = SUBSETS[count], landmarks(generator, first), landmarks(generator, second)
    edit = DragEdit(scaled(here[chosen], generator), scaled(there[chosen], generator))
    rows, shown = [], {f"{count} points from": draw(generator, first), "to": draw(generator, second)}
    for name, run in runs.items():
        moved, _, steps, seconds = timed(run, first, edit)
        left = [np.hypot(*(p - there)[chosen].T).mean() for p in (here, landmarks(generator, moved))]
        rows.append(Row(f"{count} points", seed, name, *(round(float(d), 2) for d in left), steps, round(seconds, 3)))
        shown[name] = draw(generator, moved)
    return rows, shown


def there_and_back(generator: Generator, runs: dict[str, Run], seed: int, perceptual: Perceptual) -> list[Row]:
    start = generator.sample(1, seed, PSI)[0]
    points, rows = landmarks(generator, start), []
    for (task, (landmark, by)), (name, run) in itertools.product(THERE.items(), runs.items()):
        home = scaled(points[[landmark]], generator)
        out, handles, one, seconds = timed(
            run, start, DragEdit(home, scaled(points[[landmark]] + np.array(by), generator))
        )
        back, _, two, more = timed(run, out, DragEdit(np.clip(handles, 0, generator.resolution - 1), home))
        moved = [float(np.hypot(*(landmarks(generator, latent) - points)[landmark])) for latent in (out, back)]
        with torch.no_grad():
            changed = perceptual(generator.render(back[None]), generator.render(start[None])).item()
        rows.append(
            Row(f"{task} and back", seed, name, round(moved[0], 2), round(moved[1], 2), one + two,
                round(seconds + more, 3), round(changed, 4))
        )  # fmt: skip
    return rows


def table(rows: list[Row]) -> str:
    """Means over pairs for each task and loop."""
    lines = [f"{'':>16} {'loop':>10} {'n':>4} {'before':>8} {'after':>8} {'steps':>6} {'cpu s':>8} {'changed':>8}"]
    for task, name in dict.fromkeys((row.task, row.loop) for row in rows):
        of = [row for row in rows if (row.task, row.loop) == (task, name)]
        mean = {
            k: np.mean([getattr(row, k) or 0 for row in of]) for k in ("before", "after", "steps", "cpu_s", "changed")
        }
        lines.append(
            f"{task:>16} {name:>10} {len(of):>4} {mean['before']:8.2f} {mean['after']:8.2f} {mean['steps']:6.0f} "
            f"{mean['cpu_s']:8.2f} {mean['changed']:8.4f}"
        )
    return "\n".join(lines)


def main(
    out: Annotated[Path, tyro.conf.Positional],
    peer: Path | None = None,
    n: int = 100,
    points: tuple[int, ...] = (1, 5, 68),
    seconds: float = 600,
    peer_lr: tuple[float, ...] = (0.001,),
    generator: str = "embedded",
    config: Annotated[DragConfig, tyro.conf.arg(name="")] = DragConfig(),  # noqa: B008
) -> None:
    """Takes n pairs, or as many as fit into SECONDS; prints a table, writes OUT/landmarks.json and OUT/pairs.png."""
    out.mkdir(parents=True, exist_ok=True)
    network = load_generator(generator)
    perceptual = load_perceptual("st-lpips-alex", size=min(256, network.resolution))
    runs = {"ours": ours(network, config)}
    runs |= {f"lr {lr}": official(network, peer, config.steps, lr) for lr in peer_lr if peer}
    rows, pictures, started = [], [], time.monotonic()
    for seed in range(n):
        if time.monotonic() - started > seconds:
            break
        try:
            for count in points:
                new, shown = pair(network, runs, seed, count)
                rows += new
                if seed < 4:
                    pictures.append(strip(shown, 192))
            rows += there_and_back(network, runs, 2 * seed, perceptual)
        except NoFaceFound:
            continue  # dlib does not see every sample; the loops have the same pairs all the same
    print(table(rows))
    Image.fromarray(np.concatenate(pictures)).save(out / "pairs.png")
    report = {**machine(), "psi": PSI, "config": asdict(config), "rows": [*map(asdict, rows)]}
    (out / "landmarks.json").write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    tyro.cli(main)
