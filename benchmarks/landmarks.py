"""Face landmark manipulation (DragGAN, Table 1) and there-and-back, on generated faces, beside the official loop.

Pairs of samples: one's landmarks are dragged to the other's, by 1, 5 or 68 points. Then dlib looks where they came.
There and back drags a mouth corner and the nose out and home again: what is then not as it was, is the drag's fault
(FreeDrag's CCSD measures the same). The official loop is run as in the paper, until its points are within 1 pixel of
the picture (2 for more than 5 points) or its steps are used up; where its window would have stopped is told too.

Ours is looked at twice: as the generator draws it, and as a photo gets it, the start in place of the photo. There the
photo's own pixels are moved, and the dragged points are pinned where they land.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import torch
import tyro
from tqdm import tqdm

from align import AlignedFace, Drawing, NoFaceFound, Pins, choose_face, find_faces, paste_layers, whole_quad
from benchmarks.common import (
    Journal,
    Outcome,
    Pictures,
    draw,
    landmarks,
    machine,
    save_sheet,
    scaled,
    stoppable,
    text_table,
    timed,
)  # fmt: skip
from benchmarks.peer import Official
from drag import DragConfig, DragEdit, drag
from pipeline import finish
from pipeline.edits import seen
from weights import Generator, Perceptual, load_generator, load_perceptual, to_image, to_pixels
from weights.training.features import EFFICIENTNET_LITE0, load_features
from weights.training.measure import frechet, pooled

SUBSETS = {1: [30], 5: [36, 45, 30, 48, 54], 68: list(range(68))}  # iBUG's numbers: nose; eyes, nose, mouth's corners
THERE = {"corner": (48, (-5.66, -5.66)), "yaw": (30, (-12.0, 0.0))}  # pixels of a 512-pixel face
Loop = Callable[[torch.Tensor, DragEdit], dict[str, Outcome]]  # where it ended, under one name or more
SHOWN = 12
IN_PHOTO = "ours, in a photo"


@dataclass(frozen=True)
class Row:
    """One drag by one loop. Lengths in pixels of a 512-pixel face; seconds of processor, all threads."""

    loop: str
    before: float  # mean distance of the dragged landmarks to where they should be, seen by dlib
    after: float | None  # None: dlib sees no face any more
    steps: int
    arrived: bool
    cpu_s: float
    changed: float | None = None  # ST-LPIPS between the start and what came back
    latent: list[list[float]] | None = None  # of which the picture is drawn
    handles: list[list[list[float]]] | None = None  # where they began, ended and were asked to, of a photo's picture


def ours(generator: Generator, config: DragConfig, name: str = "ours") -> Loop:
    def run(latent: torch.Tensor, edit: DragEdit) -> dict[str, Outcome]:
        def drain() -> tuple[torch.Tensor, np.ndarray, int, bool]:
            step = finish(drag(generator, latent, edit, config))
            return step.latent, step.handles, step.index, step.arrived

        return {name: timed(drain)}

    return run


def official(generator: Generator, checkout: Path, limit: int, lr: float) -> Loop:
    """One run, two outcomes: where the paper stops, and where its window does, which is never later."""
    loop = Official(checkout, generator)

    def run(latent: torch.Tensor, edit: DragEdit) -> dict[str, Outcome]:
        started, window = time.process_time(), None
        steps: Iterator[Any] = loop.steps(latent, edit, lr, within=1 if len(edit.handles) <= 5 else 2)
        for index, step in enumerate(itertools.islice(steps, limit + 1)):
            last = Outcome(step.latent, step.points, index, step.stop, time.process_time() - started)
            if step.window and not window:
                window = replace(last, arrived=True)
            if step.stop:
                break
        return {"official": last, "official's window": window or last}

    return run


def distance(picture: np.ndarray, there: np.ndarray, chosen: list[int]) -> float | None:
    """Mean distance of the chosen landmarks in a picture of 512 px; None: dlib sees no face."""
    try:
        return round(float(np.hypot(*(choose_face(find_faces(picture)).points - there)[chosen].T).mean()), 3)
    except NoFaceFound:
        return None


def in_photo(generator: Generator, start: torch.Tensor, latent: torch.Tensor, handles: np.ndarray) -> np.ndarray:
    """uint8 [512, 512, 3]: the start, were it a photo, with the edit in it; handles [3, N, 2] before, after, asked."""
    photo, size = draw(generator, start), generator.resolution
    with torch.no_grad():
        before, after = (to_pixels(generator.render(each[None])) for each in (start, latent))
    pins = Pins(origins=(handles[0] + 0.5) / size)
    pins = pins.ending_at(seen(DragEdit(handles[0], handles[2]), handles[1], pins, size), size)
    face = AlignedFace.crop(photo, whole_quad(photo.shape), size, "none")
    return paste_layers(photo, face, before, [Drawing(after, None, pins)])


def pictured(generator: Generator, start: torch.Tensor, row: dict[str, Any]) -> np.ndarray:
    """uint8 [512, 512, 3]: what a row's loop made of the start."""
    latent = torch.tensor(row["latent"])
    if row["handles"] is None:
        return draw(generator, latent)
    return in_photo(generator, start, latent, np.array(row["handles"]))


def ends(generator: Generator, seed: int, psi: float) -> tuple[torch.Tensor, torch.Tensor]:
    """The latents of pair number `seed`."""
    first, second = (generator.sample(1, 2 * seed + i, psi)[0] for i in (0, 1))
    return first, second


def pair(generator: Generator, loops: list[Loop], seed: int, count: int, psi: float) -> list[Row]:
    """Drags `count` landmarks of one sample to those of another by each loop."""
    first, second = ends(generator, seed, psi)
    chosen, here, there = SUBSETS[count], landmarks(generator, first), landmarks(generator, second)
    edit = DragEdit(scaled(here[chosen], generator), scaled(there[chosen], generator))
    before = round(float(np.hypot(*(here - there)[chosen].T).mean()), 3)
    rows = []
    for name, end in ((name, end) for loop in loops for name, end in loop(first, edit).items()):
        row = Row(
            name,
            before,
            distance(draw(generator, end.latent), there, chosen),
            end.steps,
            end.arrived,
            round(end.cpu_s, 3),
            latent=np.round(end.latent.numpy().astype(float), 4).tolist(),
        )
        rows.append(row)
        if name == "ours":
            handles, started = np.stack([edit.handles, end.handles, edit.targets]), time.process_time()
            after = distance(in_photo(generator, first, end.latent, handles), there, chosen)
            cost = round(end.cpu_s + time.process_time() - started, 3)  # dlib's looking with it
            rows.append(replace(row, loop=IN_PHOTO, after=after, cpu_s=cost, handles=handles.tolist()))
    return rows


def there_and_back(
    generator: Generator, loops: list[Loop], seed: int, task: str, psi: float, perceptual: Perceptual
) -> list[Row]:
    start = generator.sample(1, 2 * seed, psi)[0]
    points, rows, (landmark, by) = landmarks(generator, start), [], THERE[task]
    home = scaled(points[[landmark]], generator)
    edit = DragEdit(home, scaled(points[[landmark]] + np.array(by), generator))
    for loop in loops:
        for name, out in loop(start, edit).items():
            back = loop(out.latent, DragEdit(np.clip(out.handles, 0, generator.resolution - 1), home))[name]
            moved = [distance(draw(generator, end.latent), points, [landmark]) for end in (out, back)]
            with torch.no_grad():
                changed = perceptual(generator.render(back.latent[None]), generator.render(start[None])).item()
            rows.append(
                Row(name, moved[0] or 0.0, moved[1], out.steps + back.steps, out.arrived and back.arrived,
                    round(out.cpu_s + back.cpu_s, 3), round(changed, 4))
            )  # fmt: skip
    return rows


def table(entries: dict[str, list[dict[str, Any]]], frechets: dict[tuple[str, str], float]) -> str:
    """Means over the pairs of each task and loop; ratios to the first loop."""
    tasks: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for key, rows in entries.items():
        for row in rows:
            tasks.setdefault(key.split(",")[0], {}).setdefault(row["loop"], []).append(row)
    lines = []
    for task, loops in tasks.items():
        first = None
        for name, rows in loops.items():
            after = [row["after"] for row in rows if row["after"] is not None]
            cost = float(np.mean([row["cpu_s"] for row in rows]))
            first = first or cost
            changed = [row["changed"] for row in rows if row["changed"] is not None]
            lines.append(
                (task, name, len(rows), float(np.mean([row["before"] for row in rows])), float(np.mean(after)),
                 len(rows) - len(after), f"{np.mean([row['arrived'] for row in rows]):.0%}",
                 float(np.mean([row["steps"] for row in rows])), cost, cost / first,
                 frechets.get((task, name)), float(np.mean(changed)) if changed else None)
            )  # fmt: skip
    header = [
        "task",
        "loop",
        "n",
        "before",
        "after",
        "no face",
        "arrived",
        "steps",
        "cpu s",
        "times",
        "Frechet",
        "changed",
    ]
    return text_table(header, lines)


@torch.no_grad()
def frechet_distances(
    generator: Generator, entries: dict[str, list[dict[str, Any]]], psi: float
) -> dict[tuple[str, str], float]:
    """Of the edited pictures to the unedited ones, for each task and loop, as the paper has it."""
    features = load_features(EFFICIENTNET_LITE0)
    described, starts = dict[tuple[str, str], list[torch.Tensor]](), dict[str, list[torch.Tensor]]()
    cached: dict[int, torch.Tensor] = {}
    for key, rows in tqdm(entries.items(), "pictures", leave=False):
        task, seed = key.split(",")
        if "back" in task:
            continue
        start = ends(generator, int(seed), psi)[0]
        if int(seed) not in cached:
            cached[int(seed)] = _described(generator, features, draw(generator, start))
        starts.setdefault(task, []).append(cached[int(seed)])
        for row in rows:
            drawn = _described(generator, features, pictured(generator, start, row))
            described.setdefault((task, row["loop"]), []).append(drawn)
    return {
        (task, name): frechet(torch.cat(drawn), torch.cat(starts[task]))
        for (task, name), drawn in described.items()
        if len(drawn) > 1
    }


def _described(generator: Generator, features: Any, picture: np.ndarray) -> torch.Tensor:
    """[1, C]"""
    small = cv2.resize(picture, (generator.resolution,) * 2, interpolation=cv2.INTER_AREA)
    return pooled(features, [to_image(small)], torch.device("cpu"))


def sheet(generator: Generator, entries: dict[str, list[dict[str, Any]]], psi: float, out: Path) -> None:
    """For each task OUT/TASK.png: the first pairs, each with its start, its target and what came of it."""
    tasks: dict[str, list[Pictures]] = {}
    for key, rows in entries.items():
        task, seed = key.split(",")
        if "back" in task or len(tasks.get(task, [])) == SHOWN:
            continue
        first, second = ends(generator, int(seed), psi)
        shown = {f"{task} from": draw(generator, first), "to": draw(generator, second)}
        shown |= {row["loop"]: pictured(generator, first, row) for row in rows}
        tasks.setdefault(task, []).append(shown)
    for task, pictures in tasks.items():
        save_sheet(pictures, out / f"{task.replace(' ', '-')}.png")


def measure(journal: Journal, keys: Iterable[str], one: Callable[[str, int], list[Row]], seconds: float) -> None:
    """Fills the journal: for each key "TASK,SEED" what `one` finds; nothing where dlib does not see the sample."""
    with stoppable():
        for key in journal.todo(keys, "drags", seconds):
            task, seed = key.split(",")
            try:
                rows = one(task, int(seed))
            except NoFaceFound:
                rows = []
            journal.add(key, [asdict(row) for row in rows])


def main(
    out: Annotated[Path, tyro.conf.Positional],
    peer: Path | None = None,
    n: int = 100,
    points: tuple[int, ...] = (1, 5, 68),
    back: int = 24,
    psi: float = 0.8,
    seconds: float = float("inf"),
    peer_lr: float = 0.002,
    generator: str = "embedded",
    config: Annotated[DragConfig, tyro.conf.arg(name="")] = DragConfig(),  # noqa: B008
) -> None:
    """N pairs for each number of points, BACK samples there and back, in at most so many SECONDS.

    OUT gets journal.jsonl as it goes, with which a run that was stopped goes on; at the end landmarks.json, table.txt
    and a sheet of pictures for each number of points. --peer is a checkout of XingangPan/DragGAN; 0.002 is the
    learning rate that its paper has for faces.
    """
    network = load_generator(generator)
    settings = {"generator": network.sha256, "psi": psi, "config": asdict(config), "peer": bool(peer), "lr": peer_lr}
    journal = Journal(out / "journal.jsonl", settings)
    perceptual = load_perceptual("st-lpips-alex", size=min(256, network.resolution))
    loops = [ours(network, config)]
    if peer:
        loops.append(official(network, peer, config.steps, peer_lr))

    def one(task: str, seed: int) -> list[Row]:
        if "back" in task:
            return there_and_back(network, loops, seed, task.split()[0], psi, perceptual)
        return pair(network, loops, seed, int(task.split()[0]), psi)

    keys = [f"{count} points,{seed}" for count in points for seed in range(n)]
    keys += [f"{task} and back,{seed}" for task in THERE for seed in range(back)]
    measure(journal, keys, one, seconds)
    report(network, journal, settings, out)


def found(journal: Journal) -> dict[str, list[dict[str, Any]]]:
    entries = {key: rows for key, rows in journal.entries.items() if rows}
    if not entries:
        raise SystemExit("nothing was measured: dlib saw no face in these samples")
    return entries


def report(network: Generator, journal: Journal, settings: dict[str, Any], out: Path) -> None:
    psi, entries = settings["psi"], found(journal)
    text = table(entries, frechet_distances(network, entries, psi))
    print(text)
    (out / "table.txt").write_text(text + "\n")
    short = {key: [{k: v for k, v in row.items() if k != "latent"} for row in rows] for key, rows in entries.items()}
    (out / "landmarks.json").write_text(json.dumps({**machine(), **settings, "rows": short}, indent=1))
    sheet(network, entries, psi, out)


if __name__ == "__main__":
    tyro.cli(main)
