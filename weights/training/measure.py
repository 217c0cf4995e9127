"""How near a generator's samples come to its training pictures: `python -m weights.training.measure GENERATOR DATA`.

Frechet distance (Heusel et al. 2017, arXiv 1706.08500), precision and recall (Kynkäänniemi et al. 2019, arXiv
1904.06991), and the nearest training pictures, all in the pooled last map of EfficientNet-Lite0, which no training of
ours looks at; and, by dlib, whether samples are faces and how much they turn and open their mouths. Beside each figure
stands what the training pictures themselves reach. Pictures are compared at the generator's resolution and rounded to
bytes, so figures of generators of different resolutions cannot be compared with each other.

Training pictures mostly come out of a lossy codec, of which these features see traces: `--codec` puts samples through
the same.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import torch
import torch.nn.functional as F
import tyro
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from weights.generator import Generator
from weights.hub import sha256_of
from weights.training.codec import Codec, codec_of
from weights.training.command import chosen_device, run_command
from weights.training.data import BadPictures, Mirrored, load_pictures, to_bytes, to_float
from weights.training.faces import load_landmarks
from weights.training.features import EFFICIENTNET_LITE0, Features, load_features
from weights.training.files import load_network, load_prior
from weights.training.landmarks import find_points
from weights.training.train import resized

SEED = 1  # of all samples
FIRST_NOISE = 2**40  # seed of the first one's own noise: no training comes so far
BATCH = 16  # pictures at once; more are slower on CPUs
NEIGHBOUR = 3  # a point's neighbourhood reaches to its third nearest neighbour
DISTANCES = 2**25  # at once, in double precision: 256 MB
FACES = 200  # in which dlib looks for faces
FACE_PSI = (0.8, 1.0)  # the first is the one at which photodrag's figures are told
FACE_SIZE = 512  # px, at which dlib looks
SHOWN = 16  # samples beside their nearest training pictures


@dataclass(frozen=True)
class Arguments:
    """Compare a generator's samples with the pictures that it was trained on."""

    generator: tyro.conf.Positional[Path]  # an exported generator, or a checkpoint
    data: tyro.conf.Positional[Path]  # the zip or folder of square pictures that it was trained on
    landmarks: Annotated[Path | None, tyro.conf.arg(metavar="LANDMARKS.npz")] = None
    """Of these pictures, as python -m weights.training.landmarks made them; without, some pictures are looked at."""
    samples: int = 4000
    psi: float = 1.0  # of the samples for Frechet distance, precision and recall
    detail: int | None = None
    """px: all is averaged down to so many and enlarged again before it is compared, which tells whether samples fall
    short in their finest pixels or in what is larger."""
    codec: Annotated[str | None, tyro.conf.arg(metavar="webp:92|jpeg:85|...")] = None
    """How the training pictures were compressed: samples are, too, before they are compared. Of the quality that they
    were saved with, saving them once more changes them least."""
    fresh_noise: bool = False
    """Each sample is drawn with noise of its own, as StyleGAN2's own measurements do, not with the constant one that
    latents of photos are drawn with."""
    out: Path | None = None  # measure.json and neighbours.png go here
    device: str = "auto"  # auto: the GPU where there is one


@dataclass(frozen=True)
class Figure:
    name: str
    samples: float | None  # of the generator's samples; None where nothing could be measured
    training: float | None  # the same of training pictures, the limit; None where that means nothing
    compared: str  # what was counted


def main() -> None:
    run_command(Arguments, run)


@torch.no_grad()
def run(arguments: Arguments) -> None:
    device = chosen_device(arguments.device)
    codec = codec_of(arguments.codec) if arguments.codec else None
    features: Features = load_features(EFFICIENTNET_LITE0).to(device)
    network = load_network(arguments.generator).to(device).eval().requires_grad_(False)
    generator = Generator(
        network, str(arguments.generator), sha256_of(arguments.generator), prior=load_prior(arguments.generator)
    )
    pictures = load_pictures(arguments.data, generator.resolution)
    if arguments.detail is not None:
        features = coarser(features, arguments.detail, generator.resolution)
    points = load_landmarks(arguments.landmarks, len(pictures)) if arguments.landmarks else None
    if arguments.samples <= NEIGHBOUR or len(pictures) < 2 * (NEIGHBOUR + 1):
        raise BadPictures(
            f"{arguments.samples} samples and {len(pictures)} pictures are too few to compare: "
            f"take {NEIGHBOUR + 1} samples and {2 * (NEIGHBOUR + 1)} pictures at least"
        )

    mirrored = Mirrored(pictures)
    parts = tqdm(mirrored.batches(BATCH), "pictures", -(-len(mirrored) // BATCH))
    real = pooled(features, parts, device)  # and their mirror images
    fresh = arguments.fresh_noise
    drawn = pooled(features, map(to_float, draws(generator, arguments.samples, arguments.psi, codec, fresh)), device)
    seen = {psi: torch.cat(list(draws(generator, FACES, psi, codec, fresh))) for psi in FACE_PSI}
    near = pooled(features, map(to_float, seen[FACE_PSI[0]].split(BATCH)), device)

    order = torch.randperm(len(pictures), generator=torch.Generator().manual_seed(SEED))
    figures = [
        *distribution_figures(drawn, real[order], arguments.psi),
        *face_figures(seen, pictures[order[:FACES]], points),
        neighbour_figure(near, real),
    ]
    about = {
        "generator": generator.name,
        "sha256": generator.sha256,
        "resolution": generator.resolution,
        "detail": arguments.detail,
        "codec": arguments.codec,
        "fresh_noise": arguments.fresh_noise,
        "data": str(arguments.data),
        "pictures": len(pictures),
        "features": EFFICIENTNET_LITE0.package,
    }
    sys.stdout.write(table(figures))
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
        text = json.dumps(about | {"figures": [asdict(figure) for figure in figures]}, indent=1)
        (arguments.out / "measure.json").write_text(text + "\n")
        index = distinct(nearest(near[:SHOWN], real, 6)[1], len(pictures))
        sheet = neighbour_sheet(seen[FACE_PSI[0]][:SHOWN], index, mirrored)
        Image.fromarray(sheet).save(arguments.out / "neighbours.png")


def coarser(features: Features, detail: int, resolution: int) -> Features:
    """The features of images without what is finer than `detail` pixels a side. Raises BadPictures."""
    if not 0 < detail < resolution:
        raise BadPictures(f"--detail {detail} leaves nothing out of {resolution} px, or all: take {resolution // 2}")

    def of(images: Tensor) -> list[Tensor]:
        small = resized(images, detail)
        large = F.interpolate(small, size=images.shape[-2:], mode="bicubic", align_corners=False)
        return features(large.clamp(-1, 1))

    return of


@torch.no_grad()
def draws(
    generator: Generator, n: int, psi: float, codec: Codec | None = None, fresh_noise: bool = False
) -> Iterator[Tensor]:
    """n samples, a few at a time, uint8 [k, 3, R, R] on the CPU; of a smaller n the first ones are the same."""
    parts = generator.sample(n, SEED, psi).split(BATCH)
    seeds = torch.arange(FIRST_NOISE, FIRST_NOISE + n).split(BATCH)
    for latents, own in zip(tqdm(parts, f"samples, psi {psi:g}"), seeds, strict=True):
        samples = to_bytes(generator.render(latents, own.tolist() if fresh_noise else None)).cpu()
        yield codec(samples) if codec else samples


@torch.no_grad()
def pooled(features: Features, batches: Iterable[Tensor], device: torch.device) -> Tensor:
    """Images [k, 3, R, R] in [-1, 1], again and again -> the last map's means over places, float64 [n, C], CPU."""
    return torch.cat([features(images.to(device))[-1].mean((2, 3)).double().cpu() for images in batches])


def distribution_figures(drawn: Tensor, real: Tensor, psi: float) -> list[Figure]:
    """Of features [n, C] of samples and of pictures in random order.

    All three depend on how many are compared. So that they have a limit, samples are compared once more just as one
    half of the pictures is compared with the other: as many of them, and with the same half.
    """
    half = len(real) // 2
    equal, few = min(len(drawn), len(real)), min(len(drawn), half)
    first, second = real[:few], real[half : half + few]
    figures = []
    for name, compare, n in (
        ("Frechet distance", frechet, None),
        ("precision", precision, equal),
        ("recall", recall, equal),
    ):
        a, b = drawn[:n], real[:n]
        figures += [
            Figure(f"{name}, psi {psi:g}", compare(a, b), None, f"{len(a)} samples : {len(b)} pictures"),
            Figure(
                f"{name}, psi {psi:g}, fewer",
                compare(drawn[:few], second),
                compare(first, second),
                f"{few} samples (training: other pictures) : {few} pictures",
            ),
        ]
    return figures


def frechet(a: Tensor, b: Tensor) -> float:
    """Between the Gaussians fitted to points [n, C] and [m, C] (Heusel et al. 2017, section 3)."""
    ours, theirs = a.T.cov(), b.T.cov()
    values, vectors = torch.linalg.eigh(ours)
    root = (vectors * values.clamp_min(0).sqrt()) @ vectors.T
    # tr (AB)^1/2 by a symmetric matrix with the same eigenvalues, so that they come out real.
    product = torch.linalg.eigvalsh(root @ theirs @ root).clamp_min(0).sqrt().sum()
    return float((a.mean(0) - b.mean(0)).square().sum() + ours.trace() + theirs.trace() - 2 * product)


def precision(drawn: Tensor, real: Tensor) -> float:
    """The share of samples [n, C] that lie among pictures [m, C] (Kynkäänniemi et al. 2019, section 2)."""
    return share_within(drawn, real)


def recall(drawn: Tensor, real: Tensor) -> float:
    """The share of pictures [m, C] that lie among samples [n, C]."""
    return share_within(real, drawn)


def share_within(points: Tensor, cloud: Tensor) -> float:
    """The share of `points` in the neighbourhood of at least one point of `cloud`."""
    reach = nearest(cloud, cloud, NEIGHBOUR + 1)[0][:, -1]  # the first is the point itself
    inside = [(torch.cdist(part, cloud) <= reach).any(1) for part in portions(points, cloud)]
    return float(torch.cat(inside).double().mean())


def nearest(points: Tensor, cloud: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Distances [n, k] of `points` to their k nearest of `cloud`, the nearest first, and which those are [n, k]."""
    found = [torch.cdist(part, cloud).topk(k, largest=False) for part in portions(points, cloud)]
    return torch.cat([values for values, _ in found]), torch.cat([index for _, index in found])


def portions(points: Tensor, cloud: Tensor) -> tuple[Tensor, ...]:
    """`points` in parts whose distances to all of `cloud` fit in memory."""
    return points.split(max(1, DISTANCES // len(cloud)))


def neighbour_figure(near: Tensor, real: Tensor) -> Figure:
    """Of features of samples [n, C], and of pictures and then their mirror images [2m, C]."""
    return Figure(
        f"distance to the nearest training picture, psi {FACE_PSI[0]:g}",
        float(nearest(near, real, 1)[0].mean()),
        float(to_another(real).mean()),
        f"{len(near)} samples (training: all pictures) : {len(real) // 2} pictures and their mirror images",
    )


def to_another(real: Tensor) -> Tensor:
    """Distance of each picture to the nearest other one or its mirror image, [m]; of features as above."""
    m = len(real) // 2
    distances, index = nearest(real[:m], real, 3)  # at most two are the picture itself and its own mirror image
    return distances.masked_fill(index % m == torch.arange(m)[:, None], torch.inf).min(1).values


def distinct(index: Tensor, m: int) -> Tensor:
    """Of numbers [n, 2k] the first k in each row that are not i and i + m, a picture and its own mirror image."""
    rows = []
    for row in index.tolist():
        first: dict[int, int] = {}
        for i in row:
            first.setdefault(i % m, i)
        rows.append(list(first.values())[: index.shape[1] // 2])
    return torch.tensor(rows)


def face_figures(seen: dict[float, Tensor], pictures: Tensor, points: Tensor | None) -> list[Figure]:
    """Of samples by their psi and of some training pictures, uint8 [n, 3, R, R]; `points` [m, 68, 2] of them all."""
    found = faces_in(pictures, "faces, training")
    limit = torch.from_numpy(found) if points is None else points
    figures = []
    for psi, samples in seen.items():
        ours = torch.from_numpy(faces_in(samples, f"faces, psi {psi:g}"))
        share = len(ours) / len(samples), len(found) / len(pictures)
        counts = f"{len(ours)} samples (training: {len(limit)} pictures), in interocular distances"
        figures += [
            Figure(f"one face found, psi {psi:g}", *share, f"of {len(samples)} samples, of {len(pictures)} pictures"),
            Figure(f"spread of yaw, psi {psi:g}", spread(yaw(ours)), spread(yaw(limit)), counts),
            Figure(f"spread of mouth opening, psi {psi:g}", spread(opening(ours)), spread(opening(limit)), counts),
        ]
    return figures


def faces_in(pictures: Tensor, text: str) -> np.ndarray:
    """The 68 points, float32 [k, 68, 2] as shares of the width, of those pictures in which dlib finds one face."""
    import dlib

    detector = dlib.get_frontal_face_detector()
    found = []
    for picture in tqdm(pictures.permute(0, 2, 3, 1).numpy(), text):
        large = cv2.resize(np.ascontiguousarray(picture), (FACE_SIZE, FACE_SIZE), interpolation=cv2.INTER_CUBIC)
        if len(detector(large)) == 1:
            found.append(large)
    return find_points(np.stack(found)) if found else np.zeros((0, 68, 2), np.float32)


def yaw(points: Tensor) -> Tensor:
    """How far the nose tip lies to the side of the middle between the eyes, in interocular distances, [n]."""
    middle, between = eyes(points)
    return ((points[:, 30] - middle) * between).sum(1) / between.square().sum(1)


def opening(points: Tensor) -> Tensor:
    """The distance between the inner lips in interocular distances, [n]."""
    return (points[:, 66] - points[:, 62]).norm(dim=1) / eyes(points)[1].norm(dim=1)


def eyes(points: Tensor) -> tuple[Tensor, Tensor]:
    """Of points [n, 68, 2] the middle between the eyes' centres and the way from one to the other, [n, 2] each."""
    left, right = points[:, 36:42].mean(1), points[:, 42:48].mean(1)
    return (left + right) / 2, right - left


def spread(values: Tensor) -> float | None:
    return float(values.std()) if len(values) > 1 else None


def table(figures: list[Figure]) -> str:
    lines = [("figure", "samples", "training", "compared")]
    lines += [(f.name, number(f.samples), number(f.training), f.compared) for f in figures]
    name, *_ = widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "".join(f"{a:{name}}  {b:>{widths[1]}}  {c:>{widths[2]}}  {d}\n" for a, b, c, d in lines)


def number(value: float | None) -> str:
    return "-" if value is None else f"{value:#.3g}".rstrip(".")


def neighbour_sheet(samples: Tensor, index: Tensor, pictures: Mirrored) -> np.ndarray:
    """Four blocks side by side of samples uint8 [n, 3, R, R], each followed by its pictures number `index` [n, 3]."""
    n, _, size, _ = samples.shape
    theirs = to_bytes(pictures.images(index.flatten())).view(n, 3, 3, size, size)
    white = torch.full((n, 3, size, size // 8), 255, dtype=torch.uint8)
    lines = torch.cat([samples, white, *theirs.unbind(1), white, white], 3)  # [n, 3, R, W]
    blocks = lines.view(4, n // 4, 3, size, -1)
    return blocks.permute(1, 3, 0, 4, 2).flatten(0, 1).flatten(1, 2).numpy()  # [n / 4 * R, 4 W, 3]


if __name__ == "__main__":
    main()
