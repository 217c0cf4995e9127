"""The measurement of a generator: figures worked out by hand, and the command on tiny pictures."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from weights.generator import Generator, save_generator
from weights.stylegan2 import StyleGAN2, StyleGAN2Config
from weights.training import measure
from weights.training.codec import codec_of
from weights.training.data import BadPictures, Mirrored
from weights.training.features import Source, load_features
from weights.training.measure import (
    coarser,
    distinct,
    distribution_figures,
    draws,
    frechet,
    nearest,
    neighbour_sheet,
    opening,
    share_within,
    spread,
    to_another,
    yaw,
)
from weights.trunk import EFFICIENTNET_LITE0, Conv, padded

SMALL = StyleGAN2Config(16, z_dim=8, w_dim=8, mapping_layers=2, channel_base=64, channel_max=8)
MISSING = Source(EFFICIENTNET_LITE0, "no-such-package==1.0", "file.pth", 1e-3)


def points_of(mean: tuple[float, float], deviations: tuple[float, float]) -> Tensor:
    """Four points whose mean and (uncorrelated) deviations are exactly these."""
    cross = torch.tensor([[1.0, 0], [-1, 0], [0, 1], [0, -1]], dtype=torch.float64) * (3 / 2) ** 0.5
    return cross * torch.tensor(deviations) + torch.tensor(mean)


def test_frechet_distance_of_known_gaussians() -> None:
    a, b = points_of((0, 0), (1, 2)), points_of((3, 4), (2, 5))
    # 3² + 4² between the means, (2 - 1)² + (5 - 2)² between the deviations.
    assert frechet(a, b) == pytest.approx(25 + 1 + 9)
    assert frechet(a, a) == pytest.approx(0, abs=1e-9)


def test_frechet_distance_of_gaussians_along_other_axes() -> None:
    a, b = points_of((0, 0), (1, 3)), points_of((0, 0), (3, 1))
    turn = torch.tensor([[0.6, -0.8], [0.8, 0.6]], dtype=torch.float64)
    # diag(1, 9) and diag(9, 1): traces 10 + 10, and the root of their product is diag(3, 3).
    assert frechet(a, b) == pytest.approx(10 + 10 - 2 * 6)
    assert frechet(a @ turn, b @ turn) == pytest.approx(8)


def test_frechet_distance_of_fewer_points_than_dimensions() -> None:
    a = torch.randn(5, 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert frechet(a, a + 1) == pytest.approx(20)


def test_points_within_a_cloud() -> None:
    # The third nearest neighbour of 0, 1, 2, 3 on a line is 3, 2, 2, 3 away: they reach from -3 to 6.
    cloud = torch.tensor([[0.0], [1], [2], [3]], dtype=torch.float64)
    points = torch.tensor([[-3.5], [-2.9], [1.5], [5.9], [6.5]], dtype=torch.float64)
    assert share_within(points, cloud) == pytest.approx(3 / 5)
    assert share_within(cloud, points + 100) == 0


def test_nearest_in_portions_is_nearest_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = torch.Generator().manual_seed(0)
    points, cloud = torch.rand(7, 3, generator=rng), torch.rand(9, 3, generator=rng)
    distances, index = nearest(points, cloud, 2)
    assert torch.allclose(distances[:, 0], torch.cdist(points, cloud).min(1).values)
    monkeypatch.setattr(measure, "DISTANCES", 20)  # two points at a time
    assert torch.equal(nearest(points, cloud, 2)[1], index)


def test_a_picture_is_no_neighbour_of_itself_nor_of_its_mirror_image() -> None:
    pictures, mirror_images = torch.tensor([[0.0], [10], [30]]), torch.tensor([[0.1], [12], [29]])
    # 0 is 10 from picture 1; 10 is 9.9 from the mirror image of 0; 30 is 18 from that of 10.
    assert to_another(torch.cat([pictures, mirror_images])).tolist() == pytest.approx([10, 9.9, 18])


def test_a_picture_and_its_mirror_image_are_shown_once() -> None:
    assert distinct(torch.tensor([[4, 0, 1, 5, 7, 3], [2, 1, 0, 6, 5, 4]]), 4).tolist() == [[4, 1, 7], [2, 1, 0]]


def test_equal_distributions_reach_the_limit_and_others_do_not() -> None:
    rng = torch.Generator().manual_seed(0)
    real, alike = torch.randn(2, 300, 4, generator=rng, dtype=torch.float64)
    for samples, reached in ((alike, True), (alike * 0.1 + 3, False)):
        figures = {f.name: f for f in distribution_figures(samples[:200], real, psi=1)}
        few = figures["Frechet distance, psi 1, fewer"]
        assert few.compared.startswith("150 samples")
        assert few.training is not None and few.samples is not None
        assert (few.samples < 3 * few.training) == reached
        for name in ("precision", "recall"):
            figure = figures[f"{name}, psi 1, fewer"]
            assert figure.training is not None and figure.training > 0.9
            assert figure.samples is not None and (figure.samples > 0.9) == reached
    assert figures["Frechet distance, psi 1"].compared == "200 samples : 300 pictures"
    assert figures["recall, psi 1"].compared == "200 samples : 200 pictures"


def face(nose: tuple[float, float] = (0.5, 0.6), lips: float = 0.0) -> Tensor:
    """68 points with the eyes at (0.4, 0.5) and (0.6, 0.5): 0.2 apart."""
    points = torch.zeros(68, 2)
    points[36:42] = torch.tensor([0.4, 0.5]) + torch.tensor([[-0.02, 0], [0.02, 0]]).repeat(3, 1)
    points[42:48] = torch.tensor([0.6, 0.5]) + torch.tensor([[-0.02, 0], [0.02, 0]]).repeat(3, 1)
    points[30] = torch.tensor(nose)
    points[62], points[66] = torch.tensor([0.5, 0.7]), torch.tensor([0.5, 0.7 + lips])
    return points


def test_yaw_is_the_nose_beside_the_eyes() -> None:
    assert yaw(torch.stack([face(), face((0.55, 0.62)), face((0.48, 0.6))])).tolist() == pytest.approx([0, 0.25, -0.1])


def test_opening_is_the_distance_of_the_inner_lips() -> None:
    assert opening(torch.stack([face(), face(lips=0.05)])).tolist() == pytest.approx([0, 0.25])


def test_turning_and_scaling_a_picture_changes_neither() -> None:
    points = face((0.55, 0.62), 0.05)
    turned = 1.5 * points @ torch.tensor([[0.8, 0.6], [-0.6, 0.8]]) + 0.1
    assert yaw(turned[None]).item() == pytest.approx(0.25, abs=1e-5)
    assert opening(turned[None]).item() == pytest.approx(0.25, abs=1e-5)


def test_spread_needs_two() -> None:
    assert spread(torch.tensor([1.0, 3.0])) == pytest.approx(2**0.5)
    assert spread(torch.tensor([1.0])) is None


def test_fresh_noise_is_each_samples_own_and_the_same_for_fewer_samples() -> None:
    network = StyleGAN2(SMALL).eval().requires_grad_(False)
    for layer in network.synthesis.layers(16):
        layer.noise_strength.fill_(0.5)
    generator = Generator(network, "small", "")
    constant, fresh = (torch.cat(list(draws(generator, 20, 1.0, fresh_noise=fresh))) for fresh in (False, True))
    assert (constant != fresh).flatten(1).any(1).all()
    off = torch.cat(list(draws(generator, 18, 1.0, fresh_noise=True))).int() - fresh[:18].int()
    assert off.abs().max() <= 1


def test_dlib_finds_the_face_of_a_photo_and_none_in_noise(lisa: np.ndarray) -> None:
    photo = np.array(Image.fromarray(lisa[:600, :600]).resize((128, 128)))
    noise = np.random.default_rng(0).integers(0, 256, photo.shape, np.uint8)
    pictures = torch.from_numpy(np.stack([photo, noise])).permute(0, 3, 1, 2)
    assert measure.faces_in(pictures, "").shape == (1, 68, 2)
    assert measure.faces_in(pictures[1:], "").shape == (0, 68, 2)


def test_the_sheet_shows_samples_with_their_neighbours() -> None:
    samples = torch.full((8, 3, 8, 8), 7, dtype=torch.uint8)
    pictures = torch.arange(5, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 8, 8).clone()
    pictures[..., 0] += 100
    sheet = neighbour_sheet(samples, torch.tensor([[0, 1, 2]] * 3 + [[8, 4, 3]] * 5), Mirrored(pictures))
    assert sheet.shape == (2 * 8, 4 * (4 * 8 + 3), 3)  # four blocks of two rows; 1, 1 and 1 px of white
    assert sheet[0, [0, 8, 9, 10, 17, 25]].tolist() == [[v] * 3 for v in (7, 255, 100, 0, 101, 102)]
    mirrored = sheet[8, 35:][9:17, 0]  # block 1, row 1: sample 3, whose nearest is the mirror image of picture 3
    assert mirrored.tolist() == [3] * 7 + [103]


@pytest.mark.parametrize("size", [7, 8])
@pytest.mark.parametrize("kernel", [3, 5])
def test_a_folded_convolution_pads_as_tensorflow_does(size: int, kernel: int) -> None:
    rng = torch.Generator().manual_seed(0)
    x, weight = torch.randn(2, 4, size, size, generator=rng), torch.randn(4, 1, kernel, kernel, generator=rng)
    gamma, beta, mean, variance = torch.rand(4, 4, generator=rng) + 0.5
    before, behind = {(7, 3): (1, 1), (8, 3): (0, 1), (7, 5): (2, 2), (8, 5): (1, 2)}[size, kernel]
    plain = F.conv2d(F.pad(x, (before, behind, before, behind)), weight, stride=2, groups=4)
    plain = F.relu6(F.batch_norm(plain, mean, variance, gamma, beta, eps=1e-3))
    folded = Conv(4, 4, kernel, relu=True, stride=2, groups=4, same=True)
    folded.fold(weight, [gamma, beta, mean, variance], 1e-3)
    assert torch.allclose(folded(x), plain, atol=1e-5)


def test_padding_looks_at_each_side() -> None:
    assert padded(torch.zeros(1, 1, 8, 7), kernel=3, stride=2).shape == (1, 1, 9, 9)


class Stub(nn.Module):
    """Images [n, 3, H, W] -> one map [n, 12, 2, 2]."""

    def forward(self, images: Tensor) -> list[Tensor]:
        return [F.adaptive_avg_pool2d(images, 4).unflatten(2, (2, 2)).flatten(1, 2).unflatten(3, (2, 2)).mean(3)]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A generator, 12 pictures with landmarks, a stub for the features and one for dlib."""
    torch.manual_seed(0)
    save_generator(StyleGAN2(SMALL), tmp_path / "generator.safetensors")
    (tmp_path / "pictures").mkdir()
    rng = np.random.default_rng(0)
    for i in range(12):
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8)).save(tmp_path / "pictures" / f"{i:02}.png")
    np.savez(tmp_path / "landmarks.npz", points=torch.stack([face((0.5 + 0.01 * i, 0.6)) for i in range(12)]).numpy())
    monkeypatch.setattr(measure, "load_features", lambda source: Stub())
    monkeypatch.setattr(
        measure, "faces_in", lambda pictures, text: torch.stack([face(lips=0.01), face(lips=0.03)]).numpy()
    )
    monkeypatch.setattr(measure, "FACES", 16)
    return tmp_path


def command(folder: Path, monkeypatch: pytest.MonkeyPatch, *more: str) -> None:
    line = ["measure", str(folder / "generator.safetensors"), str(folder / "pictures"), "--device", "cpu", *more]
    monkeypatch.setattr(sys, "argv", line)
    measure.main()


def test_the_command(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    out = folder / "out"
    more = ["--samples", "20", "--psi", "0.9", "--out", str(out), "--landmarks", str(folder / "landmarks.npz")]
    command(folder, monkeypatch, *more)
    found = json.loads((out / "measure.json").read_text())
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["figure", "samples", "training", "compared"]
    assert [line.split("  ")[0] for line in lines[1:]] == [figure["name"] for figure in found["figures"]]
    figures = {figure["name"]: figure for figure in found["figures"]}
    assert figures["Frechet distance, psi 0.9"]["compared"] == "20 samples : 12 pictures"
    assert figures["precision, psi 0.9"]["compared"] == "12 samples : 12 pictures"
    assert figures["one face found, psi 0.8"]["samples"] == 2 / 16
    # Of 0.05 and 0.15, and of 0, 0.05 ... 0.55.
    assert figures["spread of mouth opening, psi 0.8"]["samples"] == pytest.approx(0.1 / 2**0.5, 1e-4)
    assert figures["spread of yaw, psi 1"]["training"] == pytest.approx(0.05 * 13**0.5, 1e-4)
    assert (found["pictures"], found["resolution"], found["detail"]) == (12, 16, None)
    assert Image.open(out / "neighbours.png").size == (4 * (4 * 16 + 3 * 2), 4 * 16)


def test_what_is_finer_than_the_detail_asked_for_is_left_out() -> None:
    """Stripes of two pixels go, halves of a picture stay."""
    blocks = torch.tensor([-0.5, 0.5]).repeat_interleave(8).expand(1, 3, 16, 16)
    stripes = 0.4 * (torch.arange(16) % 2 - 0.5)
    (seen,) = coarser(lambda images: [images], 8, 16)(blocks + stripes)
    (same,) = coarser(lambda images: [images], 8, 16)(blocks)
    torch.testing.assert_close(seen, same)
    assert (seen - blocks)[..., :5].abs().max() < 0.05
    for size in (0, 16):
        with pytest.raises(BadPictures, match="--detail"):
            coarser(lambda images: [images], size, 16)


def test_samples_go_through_the_codec_of_the_pictures(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Saved once more as they were saved, pictures change less than they did, and less than at another quality."""
    pictures = torch.randint(0, 256, (3, 3, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    for name in ("webp", "jpeg"):
        stored = codec_of(f"{name}:40")(pictures)
        again, finer = codec_of(f"{name}:40")(stored), codec_of(f"{name}:20")(stored)
        first, second, other = (
            (a.int() - b.int()).abs().sum() for a, b in ((pictures, stored), (stored, again), (stored, finer))
        )
        assert stored.shape == pictures.shape and stored.dtype == torch.uint8
        assert 3 * second < first and 2 * second < other
    flat = torch.full((1, 3, 16, 16), 128, dtype=torch.uint8)
    assert (codec_of("webp:92")(flat).int() - 128).abs().max() <= 2

    figures = {}
    for codec in (None, "webp:1"):
        command(
            folder, monkeypatch, "--samples", "8", "--out", str(folder / "out"), *(["--codec", codec] if codec else [])
        )
        figures[codec] = json.loads((folder / "out" / "measure.json").read_text())
        assert figures[codec]["codec"] == codec
    plain, stored = (figures[codec]["figures"][0]["samples"] for codec in (None, "webp:1"))
    assert abs(plain - stored) > 0.01 * plain


def test_without_landmarks_the_pictures_are_looked_at(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command(folder, monkeypatch, "--samples", "8")
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("spread of mouth opening"))
    assert "0.0707    0.0707  2 samples (training: 2 pictures)" in line


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--samples", "3"], "BadPictures: 3 samples and 12 pictures are too few"),
        (["--landmarks", "nowhere.npz"], "BadPictures: nowhere.npz holds no landmarks"),
        (["--detail", "16"], "BadPictures: --detail 16 leaves nothing out of 16 px, or all: take 8"),
        (["--codec", "webp"], "BadPictures: --codec webp is none: take jpeg or webp with a quality"),
        (["--codec", "png:9"], "BadPictures: --codec png:9 is none"),
        (["--codec", "jpeg:101"], "BadPictures: --codec jpeg:101 is none"),
    ],
)
def test_mistakes_are_told_in_a_line(
    more: list[str], message: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SystemExit, match=message):
        command(folder, monkeypatch, *more)


def test_a_file_that_is_no_generator(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "generator.safetensors").write_bytes(b"nothing")
    with pytest.raises(SystemExit, match=r"BadCheckpoint: .*generator.safetensors cannot be read"):
        command(folder, monkeypatch)


def test_missing_features_name_the_package(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "load_features", lambda source: load_features(MISSING))
    with pytest.raises(
        SystemExit, match=r"FeaturesMissing: no-such-package .* pip install --no-deps no-such-package==1"
    ):
        command(folder, monkeypatch)
