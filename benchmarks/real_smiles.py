"""A neutral photo made to smile as the same person does in another photo, and how near it comes to that smile.

The mouth's landmarks of the neutral photo are dragged to where the smiling photo has them, both aligned. dlib then
finds the landmarks of the result; what is left is dragged again, on top; the nearest counts.
"""

from __future__ import annotations

import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import tyro
from PIL import Image

from align import AlignedFace, Photo, choose_face, ffhq_quad, find_faces
from benchmarks.common import inverted
from pipeline import Config, finish
from pipeline.gestures import GESTURES, region_mask
from pipeline.report import identity_distance, strip, with_arrows
from weights import load_perceptual, to_image

MOUTH = range(48, 68)
SIZE = 512  # px: the aligned faces that are measured and shown
LEAST = 1.0  # px: a landmark that is this near to its place is not dragged


@dataclass(frozen=True)
class Row:
    """One person; lengths in pixels of a 512-pixel face, means over the mouth's twenty landmarks."""

    person: str
    before: float  # from the neutral photo's landmarks to the smile's
    after: tuple[float, ...]  # from the result's, after each pass
    share: float  # the least of them, of what it was before
    identity: float | None  # between photo and result
    identity_real: float | None  # between the two photos
    st_lpips_before: float  # of the aligned faces to the smiling one
    st_lpips_after: float


def measure(
    neutral: Path, sessions: Path | None, generator: str, config: Config, passes: int
) -> tuple[Row, np.ndarray]:
    """Runs one person; the row, and neutral face, what was asked, result and smile side by side."""
    torch.set_num_threads(1)
    session, _ = inverted(neutral, sessions, generator, config)
    smile, smiling = _aligned(neutral.with_name(neutral.name.replace("neutral", "smiling")))
    photo, face = session.photo.pixels, session.face(SIZE)
    goal = face.to_photo(smile[MOUTH])
    mask = region_mask(session.landmarks(of_photo=True), GESTURES["smile"].region, photo.shape[:2])

    left = [session.landmarks(of_photo=True)[MOUTH] - goal]
    asked = with_arrows(photo, goal + left[0], goal)
    session.goto(0)
    numbers = [0]
    for _ in range(passes):
        far = np.hypot(*left[-1].T) > LEAST * face.scale
        if not far.any():
            break
        finish(session.drag((goal + left[-1])[far], goal[far], mask, anchor="previous"))
        left.append(session.landmarks()[MOUTH] - goal)
        numbers.append(session.tree.current)
    means = [float(np.hypot(*each.T).mean()) / face.scale for each in left]
    session.goto(numbers[int(np.argmin(means))])
    result = session.result().pixels
    shown = AlignedFace.crop(result, face.quad, SIZE).pixels
    perceptual = load_perceptual("st-lpips-vgg")
    to_smile = [float(perceptual(to_image(p), to_image(smiling))) for p in (face.pixels, shown)]
    row = Row(
        neutral.stem.removesuffix("-neutral"), round(means[0], 2), tuple(round(m, 2) for m in means[1:]),
        round(min(means) / means[0], 3), _rounded(identity_distance(photo, result)),
        _rounded(identity_distance(face.pixels, smiling)), *(round(d, 3) for d in to_smile),
    )  # fmt: skip
    pictures = {neutral.stem: face.pixels, "asked": AlignedFace.crop(asked, face.quad, SIZE).pixels, "result": shown,
                "the real smile": smiling}  # fmt: skip
    return row, strip(pictures, 300)


def _aligned(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The landmarks [68, 2] of a photo's aligned face, and its pixels."""
    photo = Photo.load(path).pixels
    points = choose_face(find_faces(photo)).points
    face = AlignedFace.crop(photo, ffhq_quad(points), SIZE)
    return face.from_photo(points), face.pixels


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def main(
    folder: Annotated[Path, tyro.conf.Positional],
    out: Annotated[Path, tyro.conf.Positional],
    sessions: Path | None = None,
    passes: int = 3,
    generator: str = "embedded",
    processes: int = 2,
    config: Annotated[Config, tyro.conf.arg(name="")] = Config(),  # noqa: B008
) -> None:
    """Measures every NAME-neutral.jpg of a folder that has a NAME-smiling.jpg; table, JSON and pictures into OUT.

    `sessions` is a folder of sessions that are inverted already, and keeps those that are not.
    """
    out.mkdir(parents=True, exist_ok=True)
    neutrals = sorted(folder.glob("*-neutral.jpg"))
    run = partial(measure, sessions=sessions, generator=generator, config=config, passes=passes)
    rows, pictures = [], []
    with ProcessPoolExecutor(processes) as pool:
        for row, picture in pool.map(run, neutrals):
            print(row, flush=True)
            rows.append(row)
            pictures.append(picture)
    before, after = (float(np.mean(v)) for v in ([r.before for r in rows], [min(r.after) for r in rows]))
    print(f"mean distance {before:.2f} px before, {after:.2f} px after: {after / before:.0%}")
    Image.fromarray(np.concatenate(pictures)).save(out / "real_smiles.png")
    report = {"generator": generator, "before": before, "after": after, "rows": [asdict(row) for row in rows]}
    (out / "real_smiles.json").write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    tyro.cli(main)
