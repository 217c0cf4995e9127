"""How long an inversion takes to be so good: ours beside PTI's (arXiv 2106.05744) on the same photos.

Both have the same network and the same perceptual distance, the one with which a session inverts, and are measured by
it on the whole picture, with the clock stopped. PTI runs all its steps: its threshold, 0.06, is one of LPIPS. Ours is
run twice: as a session inverts, where it looks at the face, and looking at all of the picture alike, as PTI does.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro
from torch import Tensor

from align import AlignedFace, Photo, choose_face, ffhq_quad, find_faces
from benchmarks.common import Journal, Pictures, machine, save_sheet, stoppable, text_table
from benchmarks.peer_pti import invert
from inversion import PivotConfig, TuneConfig, first_latent, pivot, tune
from weights import Generator, Perceptual, load_generator, load_perceptual, perceptual_size, to_image, to_pixels

SECONDS = (10, 30, 60)
PTI_THRESHOLD = 0.06  # of LPIPS, at which its tuning stops
EVERY = 4  # of our steps is measured
TUNINGS = {
    "ours": TuneConfig(),
    # For the distance that is measured here, which is one of all the picture.
    "ours, all alike": TuneConfig(view=1.0, face_weight=0.0, enough=0.0),
}


@dataclass
class Clock:
    """What a loop had drawn, and when in seconds of processor."""

    target: Tensor  # [1, 3, R, R]
    points: list[tuple[float, float, float]] = field(default_factory=list)  # seconds, PSNR, perceptual distance
    picture: Tensor | None = None
    started: float = field(default_factory=time.process_time)

    def see(self, picture: Tensor, distance: float) -> None:
        with self.stopped() as seconds:
            self.note(seconds, picture, distance)

    @contextmanager
    def stopped(self) -> Iterator[float]:
        """The seconds until now; what is done within does not count."""
        now = time.process_time()
        yield now - self.started
        self.started += time.process_time() - now

    def note(self, seconds: float, picture: Tensor, distance: float) -> None:
        error = (picture.detach().clamp(-1, 1) - self.target).square().mean().item()
        self.points.append((round(seconds, 3), round(10 * float(np.log10(4 / error)), 3), distance))
        self.picture = picture.detach()

    def seconds_to(self, distance: float) -> float | None:
        return next((seconds for seconds, _, reached in self.points if reached <= distance), None)

    def seconds_to_psnr(self, psnr: float) -> float | None:
        return next((seconds for seconds, reached, _ in self.points if reached >= psnr), None)

    def psnr_at(self, seconds: float) -> float:
        """Of the last picture until then, or the first."""
        return [psnr for at, psnr, _ in self.points if at <= seconds or at == self.points[0][0]][-1]


def ours(generator: Generator, target: Tensor, perceptual: Perceptual, tuning: TuneConfig) -> Clock:
    """As a session inverts: from the encoder, pivot, tuning."""
    clock, described = Clock(target), perceptual.describe(target)

    def follow(steps: Iterable[Any], draw: Callable[[Any], Tensor]) -> Any:
        for step in steps:
            if step.index % EVERY == 0 or step.index == step.limit:
                with clock.stopped() as seconds, torch.no_grad():
                    picture = draw(step)
                    clock.note(seconds, picture, perceptual.distance(picture, described).item())
        return step

    start = first_latent(generator, target)
    searched = pivot(generator, target, perceptual, PivotConfig(), start)
    latent = follow(searched, lambda step: generator.render(step.latent[None])).latent
    tuned = tune(generator, latent, target, perceptual, tuning)
    follow(tuned, lambda step: generator.tuned(step.weights).render(latent[None]))
    return clock


def theirs(generator: Generator, target: Tensor, perceptual: Perceptual, checkout: Path) -> Clock:
    clock = Clock(target)
    invert(checkout, generator, target, perceptual, clock.see)
    return clock


def aligned(path: Path, size: int) -> np.ndarray:
    pixels = Photo.load(path).pixels
    return AlignedFace.crop(pixels, ffhq_quad(choose_face(find_faces(pixels)).points), size).pixels


def measure(
    path: Path, generator: Generator, perceptual: Perceptual, peer: Path | None
) -> tuple[dict[str, Any], Pictures]:
    face = aligned(path, generator.resolution)
    target = to_image(face)
    clocks = {name: ours(generator, target, perceptual, tuning) for name, tuning in TUNINGS.items()}
    if peer:
        clocks["PTI"] = theirs(generator, target, perceptual, peer)
    shown = {path.stem: face}
    for name, clock in clocks.items():
        assert clock.picture is not None
        shown[name] = np.uint8(to_pixels(clock.picture))
    return {name: clock.points for name, clock in clocks.items()}, shown


def table(entries: dict[str, dict[str, Any]]) -> str:
    """A line for each photo and loop, and when it was as good as PTI at its end."""
    lines = []
    for photo, runs in entries.items():
        clocks = {name: Clock(torch.empty(0), [tuple(p) for p in points]) for name, points in runs.items()}
        _, psnr, distance = clocks["PTI"].points[-1] if "PTI" in clocks else (0, math.inf, -math.inf)
        for name, clock in clocks.items():
            ended = (clock.points[-1][i] for i in (0, 2, 1))
            reached = clock.seconds_to(PTI_THRESHOLD), clock.seconds_to(distance), clock.seconds_to_psnr(psnr)
            lines.append((Path(photo).stem, name, len(clock.points), *ended, *reached, *map(clock.psnr_at, SECONDS)))
    header = ["photo", "loop", "pictures", "s in all", "distance", "PSNR", f"s to {PTI_THRESHOLD}"]
    header += ["s to PTI's distance", "s to PTI's PSNR", *(f"dB at {at} s" for at in SECONDS)]
    return text_table(header, lines)


def main(
    photos: Annotated[tuple[Path, ...], tyro.conf.Positional],
    out: Path,
    peer: Path | None = None,
    generator: str = "embedded",
) -> None:
    """Inverts each photo. OUT gets journal.jsonl, with which a stopped run goes on, inversion.json, table.txt and a
    sheet. --peer is a checkout of danielroich/PTI.
    """
    network = load_generator(generator)
    perceptual = load_perceptual("st-lpips-vgg", size=perceptual_size(network.resolution))
    settings = {
        "generator": network.sha256,
        "perceptual": f"{perceptual.name} at {perceptual.size}",
        "peer": bool(peer),
    }
    journal, shown = Journal(out / "journal.jsonl", settings), []
    with stoppable():
        for path in journal.todo(map(str, photos), "photos"):
            points, pictures = measure(Path(path), network, perceptual, peer)
            journal.add(path, points)
            shown.append(pictures)
            save_sheet(shown, out / "sheet.png", network.resolution)
    text = table(journal.entries)
    print(text)
    (out / "table.txt").write_text(text + "\n")
    (out / "inversion.json").write_text(
        json.dumps(
            {
                **machine(),
                **settings,
                "points": {Path(photo).stem: points for photo, points in journal.entries.items()},
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    tyro.cli(main)
