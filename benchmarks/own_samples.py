"""The mouth-corner drag on the generator's own samples, without inversion or paste: what the generator allows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import torch
import tyro
from PIL import Image

from align import NoFaceFound, choose_face, find_faces
from benchmarks.corner_drag import CORNER, DRAG
from drag import DragConfig, DragEdit, drag
from pipeline import finish
from pipeline.report import strip
from weights import Generator, load_generator, to_pixels


def draw(generator: Generator, latent: torch.Tensor) -> np.ndarray:
    """uint8 [512, 512, 3], large enough for the landmarks."""
    with torch.no_grad():
        pixels = np.uint8(to_pixels(generator.render(latent[None])))
    return cv2.resize(pixels, (512, 512), interpolation=cv2.INTER_CUBIC)


def main(
    out: Annotated[Path, tyro.conf.Positional],
    n: int = 8,
    psi: float = 0.7,
    generator: str = "embedded",
    config: Annotated[DragConfig, tyro.conf.arg(name="")] = DragConfig(),  # noqa: B008
) -> None:
    """Drags a mouth corner of n samples by 8 pixels and prints where it came, by tracking and by dlib."""
    network = load_generator(generator)
    pictures = []
    for seed in range(n):
        latent = network.sample(1, seed, psi)[0]
        before = draw(network, latent)
        try:
            points = choose_face(find_faces(before)).points
            handles = (points[[CORNER]] + 0.5) * network.resolution / 512 - 0.5
            step = finish(drag(network, latent, DragEdit(handles, handles + DRAG * network.resolution / 512), config))
            after = draw(network, step.latent)
            moved = (choose_face(find_faces(after)).points - points)[CORNER] @ DRAG / np.hypot(*DRAG)
        except NoFaceFound:
            print(f"sample {seed}: no face found")
            continue
        state = "arrived" if step.arrived else "not arrived"
        print(f"sample {seed}: {state} after {step.index} steps, {step.score:.1f} px left; dlib: {moved:.1f} px of 8")
        pictures.append(strip({f"sample {seed}": before, "dragged": after}, 256))
    out.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate(pictures)).save(out)


if __name__ == "__main__":
    tyro.cli(main)
