"""weights.training on drawn blobs and toy features: no training pictures and no frozen weights are needed."""

from __future__ import annotations

import json
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from weights import load_generator, save_generator
from weights.generator import axes_of
from weights.prior import Prior, lengthened
from weights.stylegan2 import StyleGAN2, StyleGAN2Config
from weights.training import __main__ as command
from weights.training import mean as mean_command
from weights.training.augment import draw_augmentation
from weights.training.codec import codec_of
from weights.training.command import has_compiler, load_subject, means
from weights.training.data import BadPictures, load_pictures, to_bytes, to_float
from weights.training.discriminator import Discriminator, heads_loss
from weights.training.faces import Faces, fit_faces, load_landmarks
from weights.training.features import SOURCES, Source, joined
from weights.training.files import (
    BadCheckpoint,
    codes_path,
    export,
    load_checkpoint,
    load_codes,
    load_heads,
    load_network,
    save_checkpoint,
    save_codes,
    save_heads,
    save_sheets,
)
from weights.training.growth import grown
from weights.training.moments import row_of
from weights.training.pictures import fit_pictures
from weights.training.shapes import BORDER, MIRROR, apart, fit_basis, grid, mirrored, moves, warped
from weights.training.train import (
    COARSE,
    FINE_SHARE,
    FRAME,
    Seen,
    Subject,
    TrainConfig,
    Training,
    averaged_distance,
    begin,
    draw_stages,
    frame,
    generator_step,
    latents,
    mostly_of,
    noise_of,
    seen,
    train,
    views,
)
from weights.trunk import Conv, Trunk

SMALL = StyleGAN2Config(16, z_dim=12, w_dim=16, mapping_layers=2, channel_base=128, channel_max=16)
QUICK = TrainConfig(batch=4, lr=5e-3, feature_size=32, warm=10**6)


def toy_features(images: Tensor) -> list[Tensor]:
    """Fixed random features at strides 2, 4, 8 and 16, in place of the ImageNet ones."""
    kernel = torch.randn(6, 3, 3, 3, generator=torch.Generator().manual_seed(0)) / 27**0.5
    x = torch.tanh(F.conv2d(images, kernel, padding=1))
    return [F.avg_pool2d(x, stride) for stride in (2, 4, 8, 16)]


def given(images: Tensor) -> Seen:
    """What a discriminator is given of these."""
    return seen(toy_features, images)


def by_views(one: Tensor, two: Tensor) -> Tensor:
    """Of the logits of a single view, what one of two views with the same heads says: the second's, or both's."""
    return one[1::2] if len(two) < len(one) else torch.cat([one[::2], one[1::2]])


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """For networks so small, threads cost more than they bring."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def face() -> Tensor:
    """68 points [68, 2] that are their own mirror image."""
    points = torch.rand(68, 2, generator=torch.Generator().manual_seed(0)) * 0.5 + 0.25
    points = (points + mirrored(points[None])[0]) / 2
    for above, below, _ in [(61, 67, 0), (62, 66, 0), (63, 65, 0), (37, 41, 0), (38, 40, 0), (43, 47, 0), (44, 46, 0)]:
        points[below] = points[above] + torch.tensor([0, 0.03])
    return points


@pytest.fixture(scope="module")
def pictures() -> Tensor:
    """40 pictures uint8 [40, 3, 16, 16] of smooth blobs."""
    coarse = torch.rand(40, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    return (F.interpolate(coarse, size=(16, 16), mode="bicubic") * 255).clamp(0, 255).to(torch.uint8)


@pytest.fixture(scope="module")
def points() -> Tensor:
    return face() + 0.02 * torch.randn(40, 68, 2, generator=torch.Generator().manual_seed(2))


@pytest.fixture(scope="module")
def faces(pictures: Tensor, points: Tensor) -> Faces:
    return fit_faces(pictures, points, SMALL.z_dim, shape_dim=6)


@pytest.fixture(params=["faces", "pictures"])
def subject(request: pytest.FixtureRequest, faces: Faces, pictures: Tensor) -> Subject:
    return faces if request.param == "faces" else fit_pictures(pictures, SMALL.z_dim)


def begun(config: TrainConfig = QUICK) -> Training:
    torch.manual_seed(0)
    return begin(StyleGAN2(SMALL), toy_features, config)


def trained(training: Training, subject: Subject, until: int, config: TrainConfig = QUICK) -> list[dict[str, float]]:
    return list(train(training, subject, toy_features, config, until))


def write_pictures(folder: Path, pictures: Tensor) -> Path:
    folder.mkdir(exist_ok=True)
    for i, picture in enumerate(pictures):
        Image.fromarray(picture.permute(1, 2, 0).numpy()).save(folder / f"{i:03d}.png")
    return folder


# --- pictures ------------------------------------------------------------------------------------------------


def test_a_zip_holds_the_same_pictures_as_its_folder(tmp_path: Path, pictures: Tensor) -> None:
    folder = write_pictures(tmp_path / "pictures", pictures)
    with zipfile.ZipFile(tmp_path / "pictures.zip", "w") as archive:
        for path in folder.iterdir():
            archive.write(path, f"00000/{path.name}")
    assert torch.equal(load_pictures(folder, 16), pictures)
    assert torch.equal(load_pictures(tmp_path / "pictures.zip", 16), pictures)


def test_larger_pictures_are_averaged_down(tmp_path: Path, pictures: Tensor) -> None:
    small = load_pictures(write_pictures(tmp_path / "pictures", pictures), 8)
    # Pillow rounds once along each axis.
    assert (small.float() - F.avg_pool2d(pictures.float(), 2)).abs().max() <= 1


@pytest.mark.parametrize(("size", "complaint"), [((16, 12), "must be square"), ((4, 4), "too small")])
def test_pictures_that_cannot_be_used(tmp_path: Path, size: tuple[int, int], complaint: str) -> None:
    Image.new("RGB", size).save(tmp_path / "odd.png")
    with pytest.raises(BadPictures, match=complaint):
        load_pictures(tmp_path, 8)


def test_broken_pictures_missing_folders_and_foreign_landmarks(tmp_path: Path) -> None:
    with pytest.raises(BadPictures, match="neither a folder nor a zip"):
        load_pictures(tmp_path / "none", 8)
    with pytest.raises(BadPictures, match="holds no pictures"):
        load_pictures(tmp_path, 8)
    np.savez(tmp_path / "landmarks.npz", points=np.zeros((3, 68, 2)))
    with pytest.raises(BadPictures, match="for 4 pictures"):
        load_landmarks(tmp_path / "landmarks.npz", 4)
    with pytest.raises(BadPictures, match="holds no landmarks"):
        load_landmarks(tmp_path / "none.npz", 4)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(BadPictures, match=r"broken\.png cannot be read"):
        load_pictures(tmp_path, 8)


def test_too_few_pictures_for_a_code(pictures: Tensor) -> None:
    with pytest.raises(BadPictures, match="7 at least"):
        fit_pictures(pictures[:6], SMALL.z_dim)


def test_augmentation_is_differentiable_and_repeatable(pictures: Tensor) -> None:
    images = to_float(pictures).requires_grad_()
    change = draw_augmentation(len(images), torch.Generator().manual_seed(0))
    assert torch.equal(change(images), change(images))
    change(images).square().sum().backward()
    assert images.grad is not None
    assert bool((images.grad.abs().sum((1, 2, 3)) > 0).all())


def test_weaker_augmentation_changes_colours_less() -> None:
    full, half = (draw_augmentation(64, torch.Generator().manual_seed(0), strength=s) for s in (1.0, 0.5))
    for name, middle in (("brightness", 0), ("saturation", 1), ("contrast", 1)):
        assert torch.allclose(getattr(half, name) - middle, (getattr(full, name) - middle) / 2, atol=1e-6)
    assert torch.equal(half.shift, full.shift)
    assert (half.cutout < 2).sum() < 0.75 * (full.cutout < 2).sum()


def test_augmentation_adds_the_same_noise_to_whatever_it_changes() -> None:
    change = draw_augmentation(64, torch.Generator().manual_seed(0), noise=0.2)
    images = torch.rand(64, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    added = change(images) - replace(change, noise=torch.zeros(64, 1, 1, 1))(images)
    assert torch.allclose(added.std((1, 2, 3)), change.noise.flatten(), rtol=0.1)
    assert float(change.noise.max()) == pytest.approx(0.2, abs=0.02) and float(change.noise.median()) < 0.2 / 3
    other = change(-images) - replace(change, noise=torch.zeros(64, 1, 1, 1))(-images)
    torch.testing.assert_close(added, other, atol=1e-5, rtol=0)
    assert not draw_augmentation(64, torch.Generator().manual_seed(0)).noise.any()


def test_augmentation_moves_by_whole_pixels_and_cuts_squares() -> None:
    change = draw_augmentation(1, torch.Generator().manual_seed(0))
    ones = torch.ones(1, 1, 1, 1)
    plain = replace(change, brightness=0 * ones, saturation=ones, contrast=ones, cutout=torch.full((1, 2), 9.0))
    image = torch.zeros(1, 3, 32, 32)
    image[..., 10, 20] = 1
    moved = replace(plain, shift=torch.tensor([[2 / 32, -3 / 32]]))(image)
    assert moved[0, 0].nonzero().tolist() == [[7, 22]]
    columns = replace(plain, shift=torch.tensor([[3 / 32, 0.0]]))(torch.arange(32.0).expand(1, 3, 32, 32))
    assert columns[0, 0, 0, :5].round().tolist() == [3, 2, 1, 0, 1]  # mirrored where nothing was
    cut = replace(plain, shift=torch.zeros(1, 2), cutout=torch.tensor([[0.25, 0.25]]))(torch.ones(1, 3, 32, 32))
    assert cut.sum() == 3 * (32 * 32 - 16 * 16)
    assert cut[0, 0, 0, 0] == 0


# --- shapes --------------------------------------------------------------------------------------------------


def test_a_warp_to_the_same_shape_changes_nothing() -> None:
    pictures, points = torch.rand(2, 3, 128, 128), face().expand(2, -1, -1)
    assert torch.allclose(warped(pictures, points, points), pictures, atol=1e-5)


def test_points_land_where_they_are_sent() -> None:
    source = torch.cartesian_prod(torch.linspace(0.25, 0.75, 8), torch.linspace(0.25, 0.8, 9))[None, :68]
    target = source + 0.01 * torch.randn(1, 68, 2, generator=torch.Generator().manual_seed(0))
    places = grid(128).permute(2, 0, 1)[None]  # a picture of where its pixels are
    moved = warped(torch.cat([places, places[:, :1]], 1), source, target)[0, :2]
    x, y = (target[0] * 128 - 0.5).round().long().T
    shift = (target[0] * 128 - 0.5).round() / 128 + 0.5 / 128 - target[0]  # of the pixel from the point
    assert ((moved[:, y, x].T - source[0] - shift) * 128).norm(dim=1).max() < 1.0


def test_a_warp_of_a_larger_picture_is_sharper_than_one_of_its_average() -> None:
    fine = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    points = face()[None]
    target = points + 0.01
    large, small = warped(fine, points, target, 32), warped(F.avg_pool2d(fine, 2), points, target)
    assert large.shape == small.shape
    assert large.std() > 1.1 * small.std()


def test_faces_are_drawn_at_the_resolution_asked_for(pictures: Tensor, points: Tensor) -> None:
    half = fit_faces(pictures, points, SMALL.z_dim, resolution=8, shape_dim=6)
    targets = half.draw(12, torch.Generator().manual_seed(0))
    assert targets.images.shape == (12, 3, 8, 8)
    assert half.weight.shape == (8, 8)


def test_faces_drawn_at_the_size_of_their_pictures_stay_sharp(points: Tensor) -> None:
    """Of stripes four pixels wide, bilinear sampling between the pixels leaves two thirds of the variance."""
    stripes = torch.tensor([64, 64, 191, 191], dtype=torch.uint8).repeat(40, 3, 64, 16)
    drawn = fit_faces(stripes, points, SMALL.z_dim, shape_dim=6).draw(40, torch.Generator().manual_seed(0)).images
    levels = to_float(stripes).abs()  # of the mirrored as well
    torch.testing.assert_close(drawn[1::2].abs(), levels[1::2])  # those that are seen near stay as they are
    moved = drawn[::2, :, 16:48, 16:48]
    assert 0.85 < float(moved.var() / to_float(stripes).var()) < 1.15
    assert (moved.abs() - levels[::2, :, 16:48, 16:48]).abs().mean((1, 2, 3)).min() > 0.01


def test_the_border_stays() -> None:
    pictures = grid(64).permute(2, 0, 1)[None]
    source = face()[None]
    moved = warped(pictures, source, source + moves()[:1] * 2)
    for x, y in (BORDER * 63).round().long().tolist():
        assert (moved[0, :, y, x] - pictures[0, :, y, x]).abs().max() < 0.02


def test_mirroring_twice_changes_nothing() -> None:
    points = torch.rand(3, 68, 2)
    assert torch.allclose(mirrored(mirrored(points)), points)
    assert sorted(MIRROR.tolist()) == list(range(68))


def test_lips_do_not_pass_each_other() -> None:
    points = apart(face()[None] + 3 * moves())
    assert bool((points[:, [65, 66, 67], 1] >= points[:, [63, 62, 61], 1]).all())


def test_codes_are_white_and_come_back() -> None:
    x = torch.randn(500, 10) @ torch.randn(10, 10)
    basis = fit_basis(x, 10)
    codes = basis.encode(x)
    assert torch.allclose(codes.T @ codes / len(x), torch.eye(10), atol=1e-3)
    assert torch.allclose(basis.decode(codes), x, atol=1e-3)


def test_the_shape_code_of_a_redrawn_face_is_its_shape(faces: Faces) -> None:
    new = faces.shapes.redrawn(faces.shapes.points, torch.Generator().manual_seed(2))
    kept = faces.codes.shape.decode(faces.codes.shape.encode(new)) - new.flatten(1)
    assert kept.norm() < 0.9 * (new.flatten(1) - new.flatten(1).mean(0)).norm()
    assert (new - faces.shapes.points).abs().max() > 0.01


# --- the loop ------------------------------------------------------------------------------------------------


def test_codes_are_of_the_pictures_and_of_their_mirror_images(subject: Subject) -> None:
    """In their order: a linear map tells brightness from them, and hardly from those of the next picture."""
    images, codes = torch.cat(list(subject.batches())), subject.own_codes()
    one, other = images.chunk(2)
    assert torch.equal(one.flip(3), other)
    brightness = images.mean((1, 2, 3))

    def missed(codes: Tensor) -> float:
        known = F.pad(codes, (0, 1), value=1.0)
        return float((brightness - known @ torch.linalg.lstsq(known, brightness).solution).std() / brightness.std())

    assert missed(codes) < 0.8 * missed(codes.roll(1, 0))


def test_the_regression_falls(subject: Subject) -> None:
    config = replace(QUICK, batch=16)
    losses = [losses["full"] for losses in trained(begun(config), subject, 16 * 40, config)]
    assert sum(losses[-10:]) < 0.85 * sum(losses[:10])


def test_the_discriminator_joins_after_the_warm_start(faces: Faces) -> None:
    config = replace(QUICK, warm=8, ramp=4)
    training = begun(config)
    heads = [p.clone() for p in training.heads.parameters()]
    assert all("adversarial" not in losses for losses in trained(training, faces, 8, config))
    assert all(torch.equal(a, b) for a, b in zip(heads, training.heads.parameters(), strict=True))
    losses = trained(training, faces, 200, config)
    assert losses[-1]["heads"] < losses[0]["heads"]  # it learns to tell drawn from real


def test_for_a_while_only_the_discriminator_learns(faces: Faces) -> None:
    config = replace(QUICK, warm=8, ramp=8, heads_alone=8)
    training = begun(config)
    assert all("heads" not in losses for losses in trained(training, faces, 8, config))
    assert [group["lr"] for group in training.adam.param_groups][2] == pytest.approx(config.lr, rel=1e-3)
    before = {name: tensor.clone() for name, tensor in training.generator.named_parameters()}
    heads = [p.clone() for p in training.heads.parameters()]
    assert all(losses.keys() == {"heads"} for losses in trained(training, faces, 16, config))
    assert all(torch.equal(before[name], tensor) for name, tensor in training.generator.named_parameters())
    assert any(not torch.equal(a, b) for a, b in zip(heads, training.heads.parameters(), strict=True))
    assert all("adversarial" in losses for losses in trained(training, faces, 20, config))
    assert [group["lr"] for group in training.adam.param_groups][2] == pytest.approx(config.lr / 2, rel=1e-3)
    assert any(not torch.equal(before[name], tensor) for name, tensor in training.generator.named_parameters())


def test_the_strengths_of_noise_go_a_tenth_as_far(subject: Subject) -> None:
    """Adam's first step is the rate, whatever the gradient."""
    config = replace(QUICK, lr=1e-3)
    training = begun(config)
    before = {name: p.detach().clone() for name, p in training.generator.synthesis.named_parameters()}
    trained(training, subject, config.batch, config)
    moved = {name: (p - before[name]).abs().max().item() for name, p in training.generator.synthesis.named_parameters()}
    strengths = {name: far for name, far in moved.items() if name.endswith("noise_strength")}
    assert len(strengths) == 2 * len(training.generator.config.resolutions) - 1
    for name, far in moved.items():
        assert far == pytest.approx(1e-4 if name in strengths else 1e-3, rel=0.01), name


def test_the_frame_is_the_outermost_pixels() -> None:
    inside = F.pad(torch.ones(1, 3, 16 - 2 * FRAME, 16 - 2 * FRAME), (FRAME,) * 4)
    assert all(edge.sum() == 0 for edge in frame(inside))
    assert [edge.sum().item() for edge in frame(1 - inside)] == [3 * FRAME * 16] * 4


def test_the_discriminator_reaches_the_generator(faces: Faces) -> None:
    """With all else at weight zero only the discriminator moves it."""
    config = replace(QUICK, warm=0, ramp=1, full_half_life=1e-3, frame_weight=0, coarse_weight=0, feature_weight=0)
    training = begun(config)
    training.drawn = config.batch  # past the ramp, where the discriminator's weight is still zero
    before = training.generator.synthesis.b16.torgb.weight.detach().clone()  # type: ignore[union-attr]
    trained(training, faces, 2 * config.batch, config)
    assert not torch.equal(before, training.generator.synthesis.b16.torgb.weight)  # type: ignore[union-attr]


def test_the_coarse_distance_is_of_averages() -> None:
    """Two checkers of 16 px look alike at 8 px; a picture that is lighter by 0.5 is so at every size."""
    checkers = ((torch.arange(32) // 2)[:, None] + torch.arange(32) // 2).remainder(2).float().expand(1, 3, 32, 32)
    assert [averaged_distance(checkers, 1 - checkers, size).item() for size in (8, 16, 32)] == [0, 1, 1]
    assert averaged_distance(checkers, checkers + 0.5, 8).item() == 0.5


def test_what_is_coarse_is_asked_of_the_coarse_blocks_first() -> None:
    torch.manual_seed(0)
    network = StyleGAN2(replace(SMALL, img_resolution=64))
    ws, asked = network.mapping(torch.randn(2, 12)), torch.rand(2, 3, 64, 64)
    stages = list(network.synthesis.images(ws))
    assert [stage.shape[-1] for stage in stages] == [4, 8, 16, 32, 64]
    torch.testing.assert_close(stages[-1], network.synthesis(ws))
    whole = averaged_distance(stages[-1], asked, 8)
    mostly = averaged_distance(mostly_of(stages[3], stages[-1]), asked, 8)
    torch.testing.assert_close(mostly, whole)  # it is the picture that is judged
    biases = [network.synthesis.get_submodule(f"b{size}.torgb").bias for size in (32, 64)]
    parts = zip(*(torch.autograd.grad(loss, biases, retain_graph=True) for loss in (mostly, whole)), strict=True)
    coarse, fine = (a.norm() / b.norm() for a, b in parts)
    assert float(coarse) == pytest.approx(1, abs=0.02) and float(fine) == pytest.approx(FINE_SHARE, abs=0.02)


def test_how_pictures_are_spread_reaches_the_generator(faces: Faces) -> None:
    """With all else at weight zero only that moves it."""
    config = replace(QUICK, warm=0, full_half_life=1e-3, frame_weight=0, coarse_weight=0, feature_weight=0)
    config = replace(config, adversarial=0, mixing=0, moments=1)
    training = begun(config)
    training.drawn = config.batch
    before = training.generator.synthesis.b16.torgb.weight.detach().clone()  # type: ignore[union-attr]
    losses = trained(training, faces, 4 * config.batch, config)
    assert training.moments and training.moments.known
    assert all(each["moments"] > 0 for each in losses)
    assert not torch.equal(before, training.generator.synthesis.b16.torgb.weight)  # type: ignore[union-attr]
    assert begun(replace(config, moments=0)).moments is None


def test_whole_pictures_are_seen_by_every_network(faces: Faces) -> None:
    """Also by those that the discriminator does not look through: what they see alone, too, is asked for."""

    def brightness(images: Tensor) -> list[Tensor]:
        return [images.mean((1, 2, 3), keepdim=True)]

    config = replace(QUICK, batch=16, warm=0, random_share=0.5, moments=1, lr=1e-9)  # it stays as it is
    torch.manual_seed(0)
    training = begin(StyleGAN2(SMALL), toy_features, config, joined([toy_features, brightness]))
    trained(training, faces, 16, config)
    moments = training.moments
    assert moments and moments.sizes == [6, 6, 6, 6, 1, 96, 96]
    training.generator.load_state_dict(training.average.state_dict())
    with torch.no_grad():
        rows = row_of(training.whole(training.generator.synthesis(training.generator.mapping(moments.z))))
    moments.wanted.copy_((rows - moments.mean) / moments.spread)
    assert trained(training, faces, 32, config)[-1]["moments"] == pytest.approx(0, abs=1e-6)
    moments.wanted[:, moments.pooled - 1] += 3
    assert trained(training, faces, 48, config)[-1]["moments"] == pytest.approx(9, rel=1e-3)


def test_random_latents_are_the_priors(faces: Faces) -> None:
    """Where there is one; those of targets stay."""
    training, config = begun(), replace(QUICK, mixing=0, jitter=0)
    targets, prior = faces.draw(4, torch.Generator().manual_seed(0)), Prior(SMALL.z_dim)
    with torch.no_grad():
        prior.layers[-1].weight.zero_()
        prior.layers[-1].bias.fill_(2)
        ws = latents(training.generator, targets, 3, config, torch.Generator().manual_seed(1), prior)
        asked = torch.cat([targets.z[:3], lengthened(torch.full((1, SMALL.z_dim - 1), 2.0))])
        torch.testing.assert_close(ws, training.generator.mapping(asked))


def test_random_latents_are_the_known_ones(faces: Faces) -> None:
    """Where some are asked for; those of targets stay."""
    training, config = begun(), replace(QUICK, mixing=0, jitter=0)
    targets, known = faces.draw(4, torch.Generator().manual_seed(0)), torch.rand(1, SMALL.z_dim)
    with torch.no_grad():
        ws = latents(training.generator, targets, 3, config, torch.Generator().manual_seed(1), known=known)
        torch.testing.assert_close(ws, training.generator.mapping(torch.cat([targets.z[:3], known])))


def test_random_pictures_are_asked_for_what_belongs_to_their_latents(faces: Faces) -> None:
    """Asked for the features that they have, they are not off, whichever of them are made of two."""
    config = replace(QUICK, batch=16, warm=0, random_share=0.5, moments=1)
    training = begun(config)
    trained(training, faces, 16, config)
    training.generator.load_state_dict(training.average.state_dict())
    moments = training.moments
    assert moments
    with torch.no_grad():
        drawn = training.generator.synthesis(training.generator.mapping(moments.z))
        rows = row_of(toy_features(drawn))
    moments.wanted.copy_((rows - moments.mean) / moments.spread)
    assert trained(training, faces, 32, config)[-1]["moments"] == pytest.approx(0, abs=1e-6)
    moments.wanted.copy_(moments.wanted.flip(0))
    assert trained(training, faces, 48, config)[-1]["moments"] > 1


def test_how_pictures_are_spread_is_asked_anew(faces: Faces) -> None:
    """Every so many pictures, of other latents, and what of it is missing is logged then."""
    config = replace(QUICK, warm=4, moments=1, moments_for=8)
    training = begun(config)
    losses = [trained(training, faces, until, config)[0] for until in (4, 8)]
    moments = training.moments
    assert moments
    before = moments.z.clone()
    losses += trained(training, faces, 16, config)
    assert ["off" in each for each in losses] == [False, True, False, True]
    assert moments.asked_at == 12 and not torch.equal(moments.z, before)
    moments.asked_at.fill_(-1)  # as if it was stopped while pictures were drawn for it
    assert "off" in trained(training, faces, 20, config)[0]


def test_what_is_drawn_is_looked_at_through_the_codec(faces: Faces) -> None:
    """And gradients reach what was drawn, as if it had not been stored."""
    images = (torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1).requires_grad_()
    stored = codec_of("webp:5").of_drawn(images)
    torch.testing.assert_close(stored, to_float(codec_of("webp:5")(to_bytes(images.detach()))))
    assert float((stored - images).detach().abs().mean()) > 0.1
    (stored * torch.arange(16.0)).sum().backward()
    assert images.grad is not None and torch.equal(images.grad, torch.arange(16.0).expand_as(images))
    config = replace(QUICK, warm=0, ramp=4)
    plain, coded = (trained(begun(c), faces, 4, c)[-1] for c in (config, replace(config, codec="webp:5")))
    assert plain["full"] == coded["full"] and plain["heads"] != coded["heads"]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--codec", "webp"], "BadPictures: --codec webp is none"),
        (["--moments", "8", "--random-share", "0"], "take a larger --random-share"),
        (["--moments", "8", "--moments-beyond.rest", "-3"], "take 0, or more"),
    ],
)
def test_options_that_cannot_be_are_told_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], complaint: str
) -> None:
    out = tmp_path / "run"
    monkeypatch.setattr("weights.training.command.stop_on_signals", lambda: None)
    monkeypatch.setattr(sys, "argv", ["training", str(tmp_path), "--out", str(out), *options])
    with pytest.raises(SystemExit, match=complaint):
        command.main()
    assert not out.exists()


def test_larger_pictures_are_seen_whole_and_cropped_by_turns() -> None:
    images = torch.arange(3 * 64 * 64.0).view(1, 3, 64, 64).repeat(4, 1, 1, 1)
    at = torch.tensor([[0.5, 0.5], [0.0, 0.1], [0.5, 0.5], [0.75, 0.5]])  # x, y of the crops' centres
    out = views(images, at, QUICK)
    assert torch.equal(out[::2], F.avg_pool2d(images[::2], 2))
    assert torch.equal(out[1], images[1, :, :32, :32])  # centres so near to the border: the crop ends there
    assert torch.equal(out[3], images[3, :, 16:48, 32:])


def test_a_training_beyond_the_size_of_the_features_goes_on(faces: Faces) -> None:
    """At twice the features' size, what the discriminator sees still reaches the finest block."""
    config = replace(
        QUICK, warm=0, ramp=1, feature_size=16, full_half_life=1e-3, frame_weight=0, coarse_weight=0, feature_weight=0
    )
    training = begun(config)
    training.drawn = config.batch
    before = training.generator.synthesis.b16.torgb.weight.detach().clone()  # type: ignore[union-attr]
    trained(training, faces, 3 * config.batch, config)
    assert not torch.equal(before, training.generator.synthesis.b16.torgb.weight)  # type: ignore[union-attr]


def test_what_is_drawn_in_parts_is_what_is_drawn_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    synthesis, ws = StyleGAN2(SMALL).synthesis, torch.randn(5, SMALL.num_ws, SMALL.w_dim)
    monkeypatch.setattr("weights.training.train.AT_ONCE", 2)
    for ours, at_once in zip(draw_stages(synthesis, ws), synthesis.images(ws), strict=True):
        assert torch.allclose(ours, at_once, atol=1e-5)

    noise = synthesis.noise(range(5))
    for layer in synthesis.layers(synthesis.resolutions[-1]):
        layer.noise_strength.data.fill_(0.5)
    for ours, at_once in zip(draw_stages(synthesis, ws, noise), synthesis.images(ws, noise), strict=True):
        assert torch.allclose(ours, at_once, atol=1e-5)


def test_fresh_noise_is_of_random_pictures_alone_and_stays_while_the_same_is_asked() -> None:
    synthesis, index, config = StyleGAN2(SMALL).synthesis, torch.tensor([7, 9]), replace(QUICK, fresh_noise=True)
    noise, later = (noise_of(synthesis, 2, index, since, config) for since in (0, 800))
    assert noise is not None and later is not None
    turned = noise_of(synthesis, 1, index.flip(0), 0, config)
    assert turned is not None
    for layer, own, after, other in zip(synthesis.layers(synthesis.resolutions[-1]), noise, later, turned, strict=True):
        assert torch.equal(own[:2], layer.noise_const.expand(2, -1, -1))
        assert torch.equal(own[2:], other[1:].flip(0))
        assert not torch.equal(own[2], own[3]) and not torch.equal(own[2], after[2])
        assert abs(float(own[2:].std()) - 1) < 0.5
    assert noise_of(synthesis, 2, index[:0], 0, config) is None
    assert noise_of(synthesis, 2, index, 0, QUICK) is None


def test_with_fresh_noise_only_what_random_pictures_are_asked_changes(faces: Faces) -> None:
    config = replace(QUICK, warm=0, ramp=1, random_share=0.5, moments=1.0)
    losses = []
    for fresh in (False, True):
        training = begun(replace(config, fresh_noise=fresh))
        for name, strength in training.generator.named_parameters():
            if name.endswith("noise_strength"):
                strength.data.fill_(0.3)
        training.average.load_state_dict(training.generator.state_dict())
        losses.append(trained(training, faces, config.batch, replace(config, fresh_noise=fresh))[0])
    constant, fresh = losses
    for name in ("full", "frame", "coarse"):
        assert constant[name] == pytest.approx(fresh[name], rel=1e-5)
    for name in ("heads", "off_rest"):
        assert constant[name] != pytest.approx(fresh[name], rel=1e-3)


@pytest.mark.skipif(not has_compiler(), reason="no C++ compiler here")
def test_a_compiled_generator_learns_the_same(faces: Faces) -> None:
    plain, compiled = (begun(replace(QUICK, compiled=compiled)) for compiled in (False, True))
    losses = trained(plain, faces, QUICK.batch)
    assert trained(compiled, faces, QUICK.batch, replace(QUICK, compiled=True))[0] == pytest.approx(losses[0], rel=1e-4)
    for ours, theirs in zip(compiled.generator.parameters(), plain.generator.parameters(), strict=True):
        assert torch.allclose(ours.grad, theirs.grad, atol=1e-5)  # type: ignore[arg-type]


def test_without_a_compiler_the_option_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(SystemExit, match=r"install one .* or leave the option out"):
        command.run(command.Arguments(tmp_path, config=replace(QUICK, compiled=True)))


@pytest.mark.parametrize("warm", [0, 10**6])
def test_the_shape_is_held_once_a_discriminator_looks(warm: int) -> None:
    config = replace(QUICK, warm=warm, coarse_gain=0.1)
    torch.manual_seed(0)
    network = StyleGAN2(replace(SMALL, img_resolution=32))
    training = begin(network, toy_features, config)
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    generator_step(training, sum((p * p).sum() for p in network.parameters()), config)
    steps = {name: float((p.detach() - before[name]).abs().max()) for name, p in network.named_parameters()}
    held = 0.1 if warm == 0 else 1.0  # Adam's first step is as long as the rate, whatever the gradient
    assert steps["mapping.fc0.weight"] == pytest.approx(25 * held * config.lr, rel=0.01)
    assert steps["synthesis.b16.conv0.weight"] == pytest.approx(held * config.lr, rel=0.01)
    assert steps["synthesis.b32.conv0.weight"] == pytest.approx(config.lr, rel=0.01)


def test_codes_are_mixed_at_the_coarse_rows_and_random_latents_anywhere(faces: Faces) -> None:
    config = replace(QUICK, batch=64, mixing=1.0, jitter=0.0)
    generator, rng = StyleGAN2(SMALL), torch.Generator().manual_seed(0)
    targets = faces.draw(64, rng)
    ws = latents(generator, targets, 32, config, rng)
    own, other = generator.mapping(targets.z), generator.mapping(targets.fine)
    assert torch.allclose(ws[:32, :COARSE], own[:32, :COARSE])
    assert torch.allclose(ws[:32, COARSE:], other[:32, COARSE:])
    cuts = {int((row != row[0]).any(1).nonzero()[0]) for row in ws[32:]}
    assert len(cuts) > 3


def test_random_latents_may_be_near_codes(faces: Faces) -> None:
    config = replace(QUICK, batch=16, mixing=0.0, jitter=0.0, random_noise=0.01)
    generator, rng = StyleGAN2(SMALL), torch.Generator().manual_seed(0)
    targets = faces.draw(16, rng)
    ws, own = latents(generator, targets, 4, config, rng), generator.mapping(targets.z)
    assert torch.allclose(ws[:4], own[:4])
    off = ((ws[4:] - own[4:]).square().mean((1, 2)).sqrt() / own.std()).detach()
    assert float(off.min()) > 0 and float(off.max()) < 0.1


def test_a_strided_depthwise_convolution_stays_in_single_precision() -> None:
    conv, x = Conv(8, 8, 3, relu=True, stride=2, groups=8), torch.randn(2, 8, 9, 9, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = conv(x.bfloat16())
    assert mixed.dtype == torch.float32
    torch.testing.assert_close(mixed, conv(x.bfloat16().float()))


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path: Path, subject: Subject) -> None:
    config = replace(QUICK, warm=12, ramp=4, moments=1, moments_for=12)
    whole, first = begun(config), begun(config)
    trained(whole, subject, 32, config)
    trained(first, subject, 20, config)
    save_checkpoint(first, subject, tmp_path / "checkpoint.safetensors")
    second = load_checkpoint(tmp_path / "checkpoint.safetensors", SMALL, toy_features, config)
    assert (second.step, second.drawn) == (5, 20)
    trained(second, subject, 32, config)
    for part in ("generator", "average", "heads", "moments"):
        expected = getattr(whole, part).state_dict()
        torch.testing.assert_close(getattr(second, part).state_dict(), expected, atol=1e-5, rtol=1e-4)


def test_a_checkpoint_of_another_discriminator_says_how_to_go_on(tmp_path: Path, subject: Subject) -> None:
    training, path = begun(QUICK), tmp_path / "checkpoint.safetensors"
    del training.heads.heads[0][1]  # as heads were before they were normalised
    save_checkpoint(training, subject, path)
    with pytest.raises(BadCheckpoint, match=r"--init .*generator\.safetensors"):
        load_checkpoint(path, SMALL, toy_features, QUICK)


def test_a_checkpoint_whose_parameters_had_another_order_says_how_to_go_on(tmp_path: Path, subject: Subject) -> None:
    training, path = begun(QUICK), tmp_path / "checkpoint.safetensors"
    trained(training, subject, QUICK.batch)
    training.adam.param_groups[1]["params"].reverse()
    save_checkpoint(training, subject, path)
    with pytest.raises(BadCheckpoint, match=r"another order.*--init .*generator\.safetensors"):
        load_checkpoint(path, SMALL, toy_features, QUICK)


def test_codes_come_back_from_the_checkpoint(tmp_path: Path, faces: Faces, pictures: Tensor, points: Tensor) -> None:
    save_checkpoint(begun(), faces, tmp_path / "checkpoint.safetensors")
    codes = load_codes(tmp_path / "checkpoint.safetensors")
    again = fit_faces(pictures[:20], points[:20], SMALL.z_dim, codes)
    assert torch.equal(again.codes.appearance.up, faces.codes.appearance.up)
    assert torch.allclose(again.appearance[:20], faces.appearance[:20], atol=1e-5)


def test_a_generator_without_its_checkpoint_goes_on_with_its_codes(tmp_path: Path, faces: Faces) -> None:
    arguments = command.Arguments(tmp_path, out=tmp_path / "none", init=tmp_path / "g.safetensors")
    assert command.known_codes(arguments) is None
    save_codes(faces, tmp_path / "g-codes.safetensors")
    codes = command.known_codes(arguments)
    assert codes is not None and codes.keys() == faces.tensors().keys()
    for name, tensor in faces.tensors().items():
        assert torch.allclose(codes[name], tensor, rtol=1e-3, atol=1e-4)
    other = {name: -tensor for name, tensor in faces.tensors().items()}
    (tmp_path / "none").mkdir()
    save_checkpoint(begun(), SimpleNamespace(tensors=lambda: dict(other)), tmp_path / "none" / "checkpoint.safetensors")
    codes = command.known_codes(arguments)
    assert codes is not None and all(torch.equal(codes[name], other[name]) for name in other)  # the checkpoint's first


def test_a_discriminator_without_its_checkpoint_goes_on(tmp_path: Path, faces: Faces) -> None:
    config, path = replace(QUICK, warm=0, ramp=4), tmp_path / "g-heads.safetensors"
    first = begun(config)
    trained(first, faces, 16, config)
    save_heads(first.heads, path, "mobilenet-v2")
    again, twice = begun(config).heads, Discriminator([6, 6, 6, 6], views=2)
    assert load_heads(again, path, "mobilenet-v2")
    assert load_heads(twice, path, "mobilenet-v2")
    shown = given(torch.randn(4, 3, 32, 32))
    for heads in (first.heads, again, twice):
        heads.eval()
    for one, same, two in zip(first.heads(*shown), again(*shown), twice(*shown), strict=True):
        torch.testing.assert_close(same, one, rtol=0.02, atol=0.02)  # kept in half precision
        torch.testing.assert_close(two, by_views(same, two))
    save_file({"other": torch.zeros(1)}, path)
    with pytest.raises(BadCheckpoint, match="no discriminator"):
        load_heads(again, path, "mobilenet-v2")


def test_a_discriminator_that_looks_through_other_features_is_left_alone(tmp_path: Path) -> None:
    known, fresh = Discriminator([6, 6, 6, 6]), Discriminator([6, 6, 6, 6], seed=1)
    before = {name: tensor.clone() for name, tensor in fresh.state_dict().items()}
    save_heads(known, tmp_path / "heads", "efficientnet-lite1")
    assert not load_heads(fresh, tmp_path / "heads", "mobilenet-v2")
    torch.testing.assert_close(fresh.state_dict(), before, rtol=0, atol=0)
    assert load_heads(fresh, tmp_path / "heads", "efficientnet-lite1")
    save_file({name: tensor.half() for name, tensor in known.state_dict().items()}, tmp_path / "old")
    assert load_heads(fresh, tmp_path / "old", "mobilenet-v2")  # which did not say so yet


def test_a_loss_that_is_no_number_stops_the_run(faces: Faces) -> None:
    training = begun()
    with torch.no_grad():
        training.generator.synthesis.b4.const.fill_(float("nan"))  # type: ignore[union-attr]
    with pytest.raises(FloatingPointError, match="step 1"):
        trained(training, faces, 8)


def test_a_loss_is_averaged_over_the_steps_that_have_it() -> None:
    assert means([{"heads": 1.0}, {"heads": 2.0, "coarse": 0.5}]) == {"heads": 1.5, "coarse": 0.5}


# --- growth and files ----------------------------------------------------------------------------------------


def test_growth_changes_nothing_that_is_drawn() -> None:
    torch.manual_seed(0)
    network = StyleGAN2(SMALL)
    z = torch.randn(2, 12)
    small = network.synthesis(network.mapping(z))
    wide = grown(network, replace(SMALL, channel_base=256, channel_max=24))
    torch.testing.assert_close(wide.synthesis(wide.mapping(z)), small, atol=1e-4, rtol=1e-4)
    large = grown(network, replace(SMALL, img_resolution=32))
    drawn = large.synthesis(large.mapping(z))
    assert drawn.shape[-1] == 32
    assert (F.avg_pool2d(drawn, 2) - small).abs().mean() < 0.1 * small.abs().mean()


def trained_and_grown(folder: Path, faces: Faces, config: TrainConfig, **larger: int) -> tuple[Training, Training]:
    """A training of 16 pictures, and what comes of its checkpoint in a larger network."""
    small, path = begun(config), folder / "checkpoint.safetensors"
    trained(small, faces, 16, config)
    save_checkpoint(small, faces, path)
    return small, load_checkpoint(path, replace(SMALL, **larger), toy_features, config)


def test_a_grown_training_goes_on_with_its_discriminator(tmp_path: Path, faces: Faces) -> None:
    small, large = trained_and_grown(tmp_path, faces, replace(QUICK, warm=4, ramp=4), img_resolution=32)
    assert large.drawn == 16
    torch.testing.assert_close(large.heads.state_dict(), small.heads.state_dict())
    z = torch.randn(1, 12)
    before = small.average.synthesis(small.average.mapping(z))
    after = large.average.synthesis(large.average.mapping(z))
    assert (F.avg_pool2d(after, 2) - before).abs().mean() < 0.1 * before.abs().mean()


def test_what_pictures_are_like_is_kept_where_they_stay_as_large(tmp_path: Path, faces: Faces) -> None:
    config = replace(QUICK, warm=0, moments=1)
    small, wide = trained_and_grown(tmp_path, faces, config, channel_base=256, channel_max=24)
    assert small.moments and wide.moments and small.moments.known
    torch.testing.assert_close(wide.moments.state_dict(), small.moments.state_dict())
    _, large = trained_and_grown(tmp_path, faces, config, img_resolution=32)
    assert large.moments and not large.moments.known


def test_grown_beyond_the_features_it_begins_both_views_with_the_heads_of_the_one(tmp_path: Path, faces: Faces) -> None:
    small, large = trained_and_grown(tmp_path, faces, replace(QUICK, warm=0, ramp=4), img_resolution=64)
    shown = given(torch.randn(4, 3, 32, 32))
    small.heads.eval(), large.heads.eval()
    for one, two in zip(small.heads(*shown), large.heads(*shown), strict=True):
        torch.testing.assert_close(two, by_views(one, two))


def test_each_view_has_heads_of_its_own() -> None:
    heads = Discriminator([6, 6, 6, 6], views=2).eval()
    shown = given(torch.randn(6, 3, 32, 32))
    first, second = heads(*shown)[0].split(3)
    with torch.no_grad():
        for parameter in heads.heads[4].parameters():  # those of the second view, at the finest scale
            parameter.mul_(-1)
    assert torch.equal(first, heads(*shown)[0][:3])
    assert not torch.equal(second, heads(*shown)[0][3:])


def test_the_discriminator_sees_dots_that_the_features_let_pass() -> None:
    """A grid finer than the features' pixels, on the near half of the pictures."""
    torch.manual_seed(0)
    heads, blobs = Discriminator([6] * 4, views=2).eval(), F.interpolate(torch.rand(4, 3, 4, 4), size=(32, 32))
    dots = blobs + 0.1 * (torch.arange(32) % 2 - 0.5)
    before, after = heads(toy_features(blobs), blobs), heads(toy_features(blobs), dots)
    assert all(torch.equal(a, b) for a, b in zip(before[:4], after[:4], strict=True))
    assert before[4].shape == (2, 1, 8, 8)
    adam = torch.optim.Adam(heads.train().parameters(), 3e-3)
    for _ in range(60):
        loss = heads_loss(heads(toy_features(blobs), blobs)[4:], heads(toy_features(blobs), dots)[4:])
        adam.zero_grad()
        loss.backward()
        adam.step()
    assert loss.item() < 0.5


@pytest.mark.parametrize("other", [{"channel_max": 8}, {"img_resolution": 8}, {"w_dim": 8}])
def test_a_checkpoint_that_cannot_grow_is_refused(tmp_path: Path, faces: Faces, other: dict[str, int]) -> None:
    save_checkpoint(begun(), faces, tmp_path / "checkpoint.safetensors")
    with pytest.raises(BadCheckpoint):
        load_checkpoint(tmp_path / "checkpoint.safetensors", replace(SMALL, **other), toy_features, QUICK)


def test_an_export_is_a_generator_with_the_right_mean_latent(tmp_path: Path) -> None:
    export(StyleGAN2(SMALL), tmp_path / "g.safetensors", Prior(12))
    generator = load_generator(tmp_path / "g.safetensors")
    assert (generator.sample(4000, 1)[:, 0].mean(0) - generator.mean_latent[0]).abs().max() < 0.1


def test_the_mean_of_generators_has_their_mean_weights_and_what_lies_beside_the_last(
    tmp_path: Path, faces: Faces, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [tmp_path / f"{name}.safetensors" for name in ("first", "last", "out")]
    networks = [begun().generator for _ in range(2)]
    networks[1].synthesis.b4.const.data += 1  # type: ignore[operator, union-attr]
    for network, path in zip(networks, paths, strict=False):
        export(network, path, Prior(12), faces.moving)
    save_codes(faces, codes_path(paths[1]))
    monkeypatch.setattr(sys, "argv", ["mean", *map(str, (paths[2], *paths[:2]))])
    mean_command.main()
    const = "synthesis.b4.const"
    found, first, last = (load_network(path).state_dict() for path in (paths[2], *paths[:2]))
    torch.testing.assert_close(found[const], (first[const] + last[const]) / 2, atol=1e-3, rtol=1e-3)
    assert codes_path(paths[2]).read_bytes() == codes_path(paths[1]).read_bytes()
    expected = axes_of(load_network(paths[2]), Prior(12), faces.moving)
    torch.testing.assert_close(load_generator(str(paths[2])).axes, expected, atol=1e-2, rtol=1e-2)
    other = tmp_path / "other.safetensors"
    save_generator(StyleGAN2(replace(SMALL, mapping_layers=1)), other)
    for wrong, complaint in ((paths[:1], "two generators"), ([paths[0], other], "sizes")):
        monkeypatch.setattr(sys, "argv", ["mean", *map(str, (paths[2], *wrong))])
        with pytest.raises(SystemExit, match=complaint):
            mean_command.main()


def test_an_export_keeps_the_axes_of_what_moves(tmp_path: Path) -> None:
    """A mapping that is one matrix: while z's first numbers vary, W varies as that matrix's first columns say."""
    network = StyleGAN2(SMALL)
    linear = torch.nn.Linear(12, SMALL.w_dim, bias=False)
    network.mapping.forward = lambda z, psi=1.0: linear(z)[:, None]  # type: ignore[method-assign]
    for moving in (3, 12):
        axes, known = axes_of(network, None, moving), linear.weight[:, :moving].detach()
        varies = known @ known.T
        assert (axes.T @ axes - varies).abs().max() < 0.05 * varies.abs().max()
        lengths = axes.norm(dim=1)
        assert (lengths[:-1] >= lengths[1:]).all()
        assert lengths[moving:].max() < 1e-3 * lengths[0]
    save_generator(network, tmp_path / "known.safetensors", torch.float32, moving=3)
    torch.testing.assert_close(load_generator(tmp_path / "known.safetensors").axes, axes_of(network, moving=3))
    assert load_generator(tmp_path / "known.safetensors").network.state_dict().keys() == network.state_dict().keys()
    load_network(tmp_path / "known.safetensors")  # a training may start from it
    save_generator(network, tmp_path / "unknown.safetensors", torch.float32)
    torch.testing.assert_close(load_generator(tmp_path / "unknown.safetensors").axes, axes_of(network))  # all of W
    tensors = load_file(tmp_path / "unknown.safetensors")
    del tensors["axes"]  # as files were before
    save_file(tensors, tmp_path / "old.safetensors", SMALL.to_metadata())
    old = load_generator(tmp_path / "old.safetensors")
    torch.testing.assert_close(old.axes, axes_of(old.network))


def test_sheets_are_written(tmp_path: Path, subject: Subject) -> None:
    save_sheets(StyleGAN2(SMALL).requires_grad_(False), Prior(12), subject, tmp_path, 7)
    names = {path.name for path in tmp_path.iterdir()}
    assert {"samples-00000007.png", "codes.png"} <= names
    assert Image.open(tmp_path / "samples-00000007.png").size == (8 * 16, 8 * 16)


def test_batch_normalisation_is_folded_exactly() -> None:
    torch.manual_seed(0)
    conv, norm = torch.nn.Conv2d(3, 5, 3, padding=1, bias=False), torch.nn.BatchNorm2d(5).eval()
    for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
        assert tensor is not None
        torch.nn.init.uniform_(tensor, 0.5, 2)
    parameters = [t.detach() for t in list(norm.state_dict().values())[:4]]
    folded = Conv(3, 5, 3, relu=True)
    folded.fold(conv.weight.detach(), parameters, norm.eps)
    x = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(folded(x), F.relu6(norm(conv(x))), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "channels", "convolutions"),
    [
        ("mobilenet-v2", [24, 32, 96, 320], 51),
        ("efficientnet-lite1", [24, 40, 112, 320], 63),
        ("efficientnet-lite2", [24, 48, 120, 352], 63),
    ],
)
def test_features_are_of_four_scales(name: str, channels: list[int], convolutions: int) -> None:
    """Of the published chains: 17, 21 and 21 blocks of three convolutions, the first of two, behind a stem."""
    trunk = Trunk(SOURCES[name].layout).eval()
    with torch.no_grad():
        maps = trunk(torch.zeros(1, 3, 64, 96))
    assert [tuple(m.shape[1:]) for m in maps] == [
        (c, 64 // s, 96 // s) for c, s in zip(channels, (4, 8, 16, 32), strict=True)
    ]
    assert len(list(trunk.convolutions())) == convolutions


# --- the command ---------------------------------------------------------------------------------------------


def test_the_command_trains_stops_and_goes_on(
    tmp_path: Path, pictures: Tensor, points: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "load_features", lambda source: SimpleNamespace(to=lambda device: toy_features))
    monkeypatch.setattr("weights.training.command.LOG_EVERY", 2)
    monkeypatch.setattr("weights.training.command.stop_on_signals", lambda: None)
    export(StyleGAN2(SMALL), tmp_path / "init.safetensors", Prior(12))
    np.savez(tmp_path / "landmarks.npz", points=points.numpy())
    arguments = command.Arguments(
        data=write_pictures(tmp_path / "pictures", pictures),
        out=tmp_path / "out",
        init=tmp_path / "init.safetensors",
        resolution=16,
        until=8,
        z_dim=12,
        w_dim=16,
        channel_base=128,
        channel_max=16,
        device="cpu",
        config=QUICK,
    )
    command.run(arguments)
    command.run(replace(arguments, until=16))
    log = [json.loads(line) for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
    assert [line["pictures"] for line in log] == [8, 16]
    exported = tmp_path / "out" / "generator.safetensors"
    assert load_network(exported).config == SMALL
    elsewhere = replace(arguments, out=tmp_path / "new", init=exported)
    kept = load_file(tmp_path / "out" / "generator-heads.safetensors")
    begun_with = command.prepared(elsewhere, toy_features, torch.device("cpu")).heads.state_dict()
    torch.testing.assert_close(begun_with, {name: tensor.float() for name, tensor in kept.items()})
    with pytest.raises(BadCheckpoint, match="begun without --landmarks"):
        command.run(replace(arguments, landmarks=tmp_path / "landmarks.npz"))


def test_codes_of_another_length_than_z_has_are_refused(tmp_path: Path, pictures: Tensor) -> None:
    folder = write_pictures(tmp_path / "pictures", pictures)
    codes = fit_pictures(pictures, SMALL.z_dim).tensors()
    load_subject(folder, None, 16, SMALL.z_dim, codes, torch.device("cpu"))
    with pytest.raises(BadCheckpoint, match="codes of 11 numbers: go on with --z-dim 12"):
        load_subject(folder, None, 16, SMALL.z_dim - 1, codes, torch.device("cpu"))


def test_the_command_says_in_one_line_what_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "load_features", lambda source: SimpleNamespace(to=lambda device: toy_features))
    monkeypatch.setattr("weights.training.command.stop_on_signals", lambda: None)
    monkeypatch.setattr("sys.argv", ["training", str(tmp_path), "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as stop:
        command.main()
    assert "holds no pictures" in str(stop.value)
    assert "\n" not in str(stop.value)


def test_stopped_while_it_loads_the_command_ends_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(source: Source) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "load_features", stopped)
    monkeypatch.setattr("weights.training.command.stop_on_signals", lambda: None)
    monkeypatch.setattr("sys.argv", ["training", str(tmp_path), "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit, match=r"^stopped before there was anything to keep$"):
        command.main()
    assert not list((tmp_path / "out").iterdir())
