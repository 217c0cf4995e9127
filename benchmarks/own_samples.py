"""The drags of photo_drags on the generator's own samples, without inversion or paste: what the generator allows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from PIL import Image

from align import NoFaceFound, choose_face, find_faces
from benchmarks.common import draw
from benchmarks.photo_drags import DRAGS
from drag import DragConfig, DragEdit, drag
from pipeline import finish
from pipeline.report import strip
from weights import load_generator


def main(
    out: Annotated[Path, tyro.conf.Positional],
    n: int = 8,
    psi: float = 0.7,
    generator: str = "embedded",
    config: Annotated[DragConfig, tyro.conf.arg(name="")] = DragConfig(),  # noqa: B008
) -> None:
    """Drags a mouth corner and the nose of n samples and prints where they came, by tracking and by dlib."""
    network = load_generator(generator)
    pictures = []
    for seed in range(n):
        latent = network.sample(1, seed, psi)[0]
        before = draw(network, latent)
        shown = {f"sample {seed}": before}
        for one in DRAGS:
            by = np.array(one.by)
            try:
                points = choose_face(find_faces(before)).points
                handles = (points[[one.landmark]] + 0.5) * network.resolution / 512 - 0.5
                edit = DragEdit(handles, handles + by * network.resolution / 512)
                step = finish(drag(network, latent, edit, config))
                shown[one.name] = draw(network, step.latent)
                moved = (choose_face(find_faces(shown[one.name])).points - points)[one.landmark] @ by / np.hypot(*by)
            except NoFaceFound:
                print(f"sample {seed}: no face found")
                continue
            state = "arrived" if step.arrived else "not arrived"
            print(
                f"sample {seed}, {one.name}: {state} after {step.index} steps, {step.score:.1f} px left; "
                f"dlib: {moved:.1f} px of {np.hypot(*by):.0f}",
                flush=True,
            )
        if len(shown) > len(DRAGS):
            pictures.append(strip(shown, 256))
    out.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate(pictures)).save(out)


if __name__ == "__main__":
    tyro.cli(main)
