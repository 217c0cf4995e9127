"""Seconds and memory of one drag step on full-width random networks and the embedded one, beside the official loop."""

from __future__ import annotations

import itertools
import json
import multiprocessing
import statistics
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro

from benchmarks.common import forget_peak, machine, memory_mib
from benchmarks.peer import Official
from drag import DragConfig, DragEdit, drag
from weights import Generator, StyleGAN2, StyleGAN2Config, load_generator

SEED = 0


@dataclass(frozen=True)
class Row:
    """One loop on one network. Times are medians over steps, in seconds; memory is above that before the drag."""

    network: str
    points: int
    masked: bool
    loop: str
    step_s: float  # by the clock
    cpu_s: float  # of all threads, which other processes on the machine disturb less
    memory_mib: float | None


def network(name: str, device: str = "cpu") -> Generator:
    """The embedded generator, or a random one of full width for a size; its noise is on, as in trained ones."""
    if name == "embedded":
        return load_generator(name, device)
    torch.manual_seed(SEED)
    made = StyleGAN2(StyleGAN2Config(int(name))).eval().requires_grad_(False)
    for parameter_name, parameter in made.named_parameters():
        if parameter_name.endswith("noise_strength"):
            parameter.fill_(0.1)
    return Generator(made.to(device), name, "0" * 64)


def an_edit(size: int, points: int, masked: bool) -> DragEdit:
    """Points spread over the middle of the face, each a long way from its target, so that no step arrives."""
    handles = np.random.default_rng(SEED).uniform(0.3, 0.6, (points, 2)) * size
    movable = None
    if masked:
        movable = np.zeros((size, size), bool)
        movable[size // 4 : -size // 4, size // 4 : -size // 4] = True
    return DragEdit(handles, handles + np.array([0.3, 0.05]) * size, movable)


def loop(which: str, generator: Generator, edit: DragEdit, peer: Path | None) -> Iterator[Any]:
    """The steps of our drag or the official one; its first has been taken, with all that is made once."""
    latent = generator.sample(1, SEED, 0.7)[0]
    if which == "ours":
        steps: Iterator[Any] = drag(generator, latent, edit, DragConfig(patience=1000))
    else:
        assert peer is not None
        steps = Official(peer, generator).steps(latent, edit)
    next(steps)
    return steps


def timed(loops: dict[str, Iterator[Any]], rounds: int) -> dict[str, tuple[float, float]]:
    """The loops' steps in turn, A B A B: the median of wall and of processor seconds of each."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in loops}
    for _, (name, steps) in itertools.product(range(rounds), loops.items()):
        wall, cpu = time.perf_counter(), time.process_time()
        next(steps)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        taken[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    return {name: tuple(map(statistics.median, zip(*times, strict=True))) for name, times in taken.items()}  # type: ignore[misc]


def peak_mib(which: str, name: str, points: int, masked: bool, peer: Path | None, threads: int) -> float:
    """How far the memory of this process rises while it takes three steps; to be called in a process of its own."""
    torch.set_num_threads(threads)
    generator = network(name)
    forget_peak()
    before = memory_mib("VmRSS")
    for _ in itertools.islice(loop(which, generator, an_edit(generator.resolution, points, masked), peer), 2):
        pass
    return memory_mib("VmHWM") - before


def measure(name: str, points: int, masked: bool, peer: Path | None, device: str, rounds: int) -> list[Row]:
    generator = network(name, device)
    edit = an_edit(generator.resolution, points, masked)
    whiches = ["ours", "official"] if peer else ["ours"]
    times = timed({which: loop(which, generator, edit, peer) for which in whiches}, rounds)
    rows = []
    for which in whiches:
        memory = None
        if device == "cpu" and Path("/proc/self/clear_refs").exists():
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                memory = pool.apply(peak_mib, (which, name, points, masked, peer, torch.get_num_threads()))
        wall, cpu = times[which]
        rows.append(Row(name, points, masked, which, round(wall, 4), round(cpu, 4), memory and round(memory)))
    return rows


def main(
    out: Annotated[Path, tyro.conf.Positional],
    peer: Path | None = None,
    networks: tuple[str, ...] = ("embedded", "256", "512", "1024"),
    points: tuple[int, ...] = (1, 5),
    masked: bool = False,
    rounds: int = 5,
    device: str = "cpu",
) -> None:
    """Prints a table and writes OUT, a JSON. With --peer, a checkout of XingangPan/DragGAN runs in turn with ours."""
    rows: list[Row] = []
    for name, count in itertools.product(networks, points):
        new = measure(name, count, masked, peer, device, rounds)
        for row in new:
            ratio = f"{row.step_s / new[0].step_s:7.1f}x the time"
            memory = "" if row.memory_mib is None else f"{row.memory_mib:7.0f} MiB"
            print(
                f"{row.network:>9} {row.points:>3} points {row.loop:>9} {row.step_s:9.4f} s {row.cpu_s:9.4f} s of "
                f"processor {memory} {ratio}",
                flush=True,
            )
        rows += new
    out.write_text(json.dumps({**machine(), "seed": SEED, "rounds": rounds, "rows": [*map(asdict, rows)]}, indent=1))


if __name__ == "__main__":
    tyro.cli(main)
