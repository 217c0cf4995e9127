"""weights.training on toy pictures and toy features: no package of frozen weights is needed."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors import safe_open
from torch import Tensor

from weights.stylegan2 import StyleGAN2, StyleGAN2Config
from weights.training import __main__ as command
from weights.training.augment import draw_augmentation
from weights.training.codes import align_signs, fit_codes
from weights.training.data import BadPictures, load_pictures, to_float
from weights.training.features import Conv
from weights.training.files import BadCheckpoint, export, inherit, load_checkpoint, load_network, save_checkpoint
from weights.training.growth import grown
from weights.training.measure import frechet, share_within
from weights.training.train import TrainConfig, Training, begin, draw_latents, regression_weight, train

SMALL = StyleGAN2Config(32, z_dim=8, w_dim=16, mapping_layers=2, channel_base=256, channel_max=16)
QUICK = TrainConfig(batch=4, feature_size=32, lr=3e-3)


def toy_features(images: Tensor) -> list[Tensor]:
    """Fixed random features at strides 2, 4, 8 and 16, in place of the ImageNet ones."""
    rng = torch.Generator().manual_seed(0)
    kernel = torch.randn(6, 3, 3, 3, generator=rng) / 27**0.5
    x = torch.tanh(F.conv2d(images, kernel, padding=1))
    return [F.avg_pool2d(x, stride) for stride in (2, 4, 8, 16)]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """For networks so small, threads cost more than they bring."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def pictures() -> Tensor:
    """24 pictures uint8 [24, 3, 32, 32] of smooth blobs."""
    rng = torch.Generator().manual_seed(1)
    coarse = torch.rand(24, 3, 4, 4, generator=rng) * 255
    return F.interpolate(coarse, size=(32, 32), mode="bicubic").clamp(0, 255).to(torch.uint8)


def begun(pictures: Tensor, config: TrainConfig = QUICK) -> Training:
    torch.manual_seed(0)
    return begin(StyleGAN2(SMALL), fit_codes(pictures, SMALL.z_dim), toy_features, config)


def write_pictures(folder: Path, pictures: Tensor) -> Path:
    folder.mkdir(exist_ok=True)
    for i, picture in enumerate(pictures):
        Image.fromarray(picture.permute(1, 2, 0).numpy()).save(folder / f"{i:03d}.png")
    return folder


def randomised(config: StyleGAN2Config) -> StyleGAN2:
    """A network none of whose parameters still has its starting value, as after training."""
    torch.manual_seed(3)
    network = StyleGAN2(config).requires_grad_(False)
    for parameter in network.parameters():
        parameter += 0.1 * torch.randn_like(parameter)
    return network


# Pictures


def test_a_zip_holds_the_same_pictures_as_its_folder(tmp_path: Path, pictures: Tensor) -> None:
    folder = write_pictures(tmp_path / "pictures", pictures)
    with zipfile.ZipFile(tmp_path / "pictures.zip", "w") as archive:
        for path in folder.iterdir():
            archive.write(path, f"00000/{path.name}")
    assert torch.equal(load_pictures(folder, 32), pictures)
    assert torch.equal(load_pictures(tmp_path / "pictures.zip", 32), pictures)


def test_larger_pictures_are_averaged_down(tmp_path: Path, pictures: Tensor) -> None:
    folder = write_pictures(tmp_path, pictures[:1])
    expected = F.avg_pool2d(pictures[:1].float(), 2)
    assert (load_pictures(folder, 16).float() - expected).abs().max() <= 1  # rounded once an axis


@pytest.mark.parametrize(
    ("name", "size", "complaint"),
    [
        ("wide.png", (64, 32), "square"),
        ("tiny.png", (8, 8), "too small"),
        ("note.txt", (32, 32), "no pictures"),
    ],
)
def test_pictures_that_cannot_be_used(tmp_path: Path, name: str, size: tuple[int, int], complaint: str) -> None:
    Image.new("RGB", size).save(tmp_path / name, format="PNG")
    with pytest.raises(BadPictures, match=complaint):
        load_pictures(tmp_path, 32)


def test_broken_pictures_and_missing_folders(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"\x89PNG and then nothing")
    with pytest.raises(BadPictures, match=r"broken\.png cannot be read"):
        load_pictures(tmp_path, 32)
    with pytest.raises(BadPictures, match="neither a folder nor a zip"):
        load_pictures(tmp_path / "nowhere", 32)


# Codes


def test_codes_are_white(pictures: Tensor) -> None:
    codes = fit_codes(pictures, 8)
    both = torch.cat([pictures, pictures.flip(3)])
    z = codes.encode(to_float(both))
    torch.testing.assert_close(z.mean(0), torch.zeros(8), atol=1e-3, rtol=0)
    torch.testing.assert_close(z.T @ z / len(z), torch.eye(8), atol=1e-2, rtol=0)


def test_too_few_pictures_for_a_code(pictures: Tensor) -> None:
    with pytest.raises(BadPictures, match="5 at least"):
        fit_codes(pictures[:4], 8)


def test_signs_are_those_the_generator_learned(pictures: Tensor) -> None:
    codes = fit_codes(pictures, 8)
    signs = torch.tensor([1.0, -1, 1, 1, -1, -1, 1, -1])
    inverse = torch.linalg.pinv(codes.basis * signs)
    generator = SimpleNamespace(
        mapping=lambda z: z, synthesis=lambda z: (z @ inverse + codes.mean).reshape(-1, 3, 32, 32)
    )
    found = align_signs(codes, cast(StyleGAN2, generator), samples=256)
    torch.testing.assert_close(found.basis, codes.basis * signs)


# Growth


def test_more_channels_draw_the_same_picture() -> None:
    old = randomised(SMALL)
    new = grown(old, replace(SMALL, channel_base=512, channel_max=24))
    z = torch.randn(3, SMALL.z_dim)
    torch.testing.assert_close(new.synthesis(new.mapping(z)), old.synthesis(old.mapping(z)), atol=1e-4, rtol=1e-4)


def test_another_resolution_draws_the_same_picture_enlarged() -> None:
    from weights.stylegan2 import fir_filter, upsample

    old = randomised(SMALL)
    new = grown(old, replace(SMALL, img_resolution=64))
    z = torch.randn(3, SMALL.z_dim)
    expected = upsample(old.synthesis(old.mapping(z)), fir_filter())
    torch.testing.assert_close(new.synthesis(new.mapping(z)), expected, atol=1e-4, rtol=1e-4)


def test_new_channels_and_blocks_learn() -> None:
    new = grown(randomised(SMALL), replace(SMALL, img_resolution=64, channel_max=24))
    new.synthesis(new.mapping(torch.randn(2, SMALL.z_dim))).square().mean().backward()
    weights = dict(new.named_parameters())
    for name in ("synthesis.b64.torgb.weight", "synthesis.b8.conv1.weight"):
        gradient = weights[name].grad
        assert gradient is not None
        assert gradient[:, -1].abs().sum() > 0


# Augmentation and features


def test_augmentation_is_differentiable_and_repeatable(pictures: Tensor) -> None:
    images = to_float(pictures).requires_grad_()
    change = draw_augmentation(len(images), torch.Generator().manual_seed(0))
    seen = change(images)
    assert seen.shape == images.shape
    assert torch.equal(seen, change(images))
    seen.square().sum().backward()
    assert images.grad is not None
    touched = (images.grad.abs().sum((1, 2, 3)) > 0).float().mean()
    assert touched == 1


def test_augmentation_moves_by_whole_pixels_and_cuts_squares() -> None:
    change = draw_augmentation(1, torch.Generator().manual_seed(0))
    ones = torch.ones(1, 1, 1, 1)
    plain = replace(change, brightness=0 * ones, saturation=ones, contrast=ones, cutout=torch.full((1, 2), 9.0))
    image = torch.zeros(1, 3, 32, 32)
    image[..., 10, 20] = 1
    moved = replace(plain, shift=torch.tensor([[2 / 32, -3 / 32]]))(image)
    assert moved[0, 0].nonzero().tolist() == [[7, 22]]
    cut = replace(plain, shift=torch.zeros(1, 2), cutout=torch.tensor([[0.25, 0.25]]))(torch.ones(1, 3, 32, 32))
    assert cut.sum() == 3 * (32 * 32 - 16 * 16)
    assert cut[0, 0, 0, 0] == 0


def test_batch_normalisation_is_folded_exactly() -> None:
    torch.manual_seed(0)
    conv, norm = torch.nn.Conv2d(3, 5, 3, padding=1, bias=False), torch.nn.BatchNorm2d(5).eval()
    for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
        assert tensor is not None
        torch.nn.init.uniform_(tensor, 0.5, 2)
    parameters = [t.detach() for t in list(norm.state_dict().values())[:4]]
    folded = Conv(conv.weight.detach(), parameters, norm.eps, relu=True, stride=1, same=False)
    x = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(folded(x), F.relu6(norm(conv(x))), atol=1e-5, rtol=1e-5)


# The loop


def test_the_regression_falls(pictures: Tensor) -> None:
    config = replace(QUICK, adversarial=0.0, code_share=1.0, code_jitter=0.0, regression_half_life=1e9, batch=8)
    steps = train(begun(pictures, config), pictures, toy_features, config, until=640)
    losses = [step.figures["regression"] for step in steps]
    assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:5])


def test_the_warm_start_falls(pictures: Tensor) -> None:
    config = replace(QUICK, warm=320, batch=8)
    steps = train(begun(pictures, config), pictures, toy_features, config, until=320)
    losses = [step.figures["regression"] for step in steps]
    assert np.mean(losses[-5:]) < 0.9 * np.mean(losses[:5])


def test_the_regression_weight_halves_and_stops_at_its_floor() -> None:
    config = replace(QUICK, warm=100, heads_first=50, regression=1.0, regression_half_life=10, regression_floor=0.3)
    assert [regression_weight(config, pictures) for pictures in (0, 150, 160, 1000)] == [1.0, 1.0, 0.5, 0.3]


def test_styles_are_mixed_among_random_latents_only(pictures: Tensor) -> None:
    config = replace(QUICK, batch=16, style_mixing=1.0)
    training = begun(pictures, config)
    ws = draw_latents(training, to_float(pictures[:8]), config, torch.Generator().manual_seed(0))
    mixed = [bool((row != row[0]).any()) for row in ws]
    assert mixed == [False] * 8 + [True] * 8


def test_heads_learn_first_if_asked(pictures: Tensor) -> None:
    config = replace(QUICK, heads_first=40)
    training = begun(pictures, config)
    before = [p.clone() for p in training.generator.parameters()]
    losses = [s.figures["heads"] for s in train(training, pictures, toy_features, config, 40)]
    assert all(torch.equal(a, b) for a, b in zip(before, training.generator.parameters(), strict=True))
    assert losses[-1] < losses[0]


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path: Path, pictures: Tensor) -> None:
    whole = begun(pictures)
    for _ in train(whole, pictures, toy_features, QUICK, 24):
        pass
    first, second = begun(pictures), begun(pictures)
    for step in train(first, pictures, toy_features, QUICK, 24):
        if step.pictures == 12:
            break
    save_checkpoint(first, tmp_path / "checkpoint.safetensors")
    load_checkpoint(second, tmp_path / "checkpoint.safetensors")
    assert (second.step, second.pictures) == (3, 12)
    for _ in train(second, pictures, toy_features, QUICK, 24):
        pass
    for part in ("generator", "average", "heads"):
        expected = getattr(whole, part).state_dict()
        torch.testing.assert_close(getattr(second, part).state_dict(), expected, atol=1e-6, rtol=1e-5)


def test_a_larger_network_inherits_heads_and_codes(tmp_path: Path, pictures: Tensor) -> None:
    small, path = begun(pictures), tmp_path / "checkpoint.safetensors"
    for _ in train(small, pictures, toy_features, QUICK, 8):
        pass
    save_checkpoint(small, path)
    larger = grown(load_network(path), replace(SMALL, img_resolution=64))
    config = replace(QUICK, seed=1)
    training = begin(larger, fit_codes(pictures, SMALL.z_dim), toy_features, config)
    assert inherit(training, path)
    torch.testing.assert_close(training.heads.state_dict(), small.heads.state_dict())
    assert torch.equal(training.codes.basis, small.codes.basis)
    export(small.average, tmp_path / "generator.safetensors")
    assert not inherit(training, tmp_path / "generator.safetensors")


def test_a_checkpoint_of_another_network_is_refused(tmp_path: Path, pictures: Tensor) -> None:
    save_checkpoint(begun(pictures), tmp_path / "checkpoint.safetensors")
    other = begin(StyleGAN2(replace(SMALL, channel_max=24)), fit_codes(pictures, 8), toy_features, QUICK)
    with pytest.raises(BadCheckpoint, match="another --out"):
        load_checkpoint(other, tmp_path / "checkpoint.safetensors")


# Measurement


def test_frechet_distance_of_known_gaussians() -> None:
    rng = torch.Generator().manual_seed(0)
    a = torch.randn(20_000, 4, generator=rng).double()
    assert frechet(a, a) == pytest.approx(0, abs=1e-6)
    # Means 3 apart, standard deviations 1 and 2 in four dimensions: 3^2 + 4 * (2 - 1)^2.
    shift = torch.tensor([3.0, 0, 0, 0])
    assert frechet(a, 2 * a + shift) == pytest.approx(13, rel=0.05)


def test_precision_counts_points_near_the_cloud() -> None:
    cloud = torch.arange(10.0)[:, None]  # the third neighbour is 2 or, at the ends, 3 away
    points = torch.tensor([[4.5], [-2.5], [-3.5], [50.0]])
    assert share_within(points, cloud) == 0.5


# Files and the command


def test_an_export_loads_strictly_and_draws_the_same(tmp_path: Path) -> None:
    network = randomised(SMALL)
    export(network, tmp_path / "generator.safetensors")
    with safe_open(tmp_path / "generator.safetensors", "pt") as file:
        metadata = file.metadata()
        assert file.get_tensor("synthesis.b4.const").dtype == torch.float16
        assert set(file.keys()) == set(network.state_dict())
    assert StyleGAN2Config.from_metadata(metadata) == SMALL
    assert float(metadata["w_std"]) > 0
    again, z = load_network(tmp_path / "generator.safetensors"), torch.randn(2, SMALL.z_dim)
    difference = again.synthesis(again.mapping(z)) - network.synthesis(network.mapping(z))
    assert difference.abs().max() < 0.05


def test_the_command_trains_stops_and_goes_on(
    tmp_path: Path, pictures: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "load_features", lambda: SimpleNamespace(to=lambda device: toy_features))
    export(randomised(SMALL), tmp_path / "init.safetensors")
    arguments = command.Arguments(
        data=write_pictures(tmp_path / "pictures", pictures),
        out=tmp_path / "out",
        init=tmp_path / "init.safetensors",
        resolution=32,
        until=80,
        save_every=40,
        device="cpu",
        config=QUICK,
    )
    command.run(arguments)
    command.run(replace(arguments, until=160))
    log = [json.loads(line) for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
    assert [line["pictures"] for line in log] == [80, 160]
    assert len(list((tmp_path / "out").glob("grid-*.png"))) == 4
    assert load_network(tmp_path / "out" / "generator.safetensors").config == SMALL


def test_the_command_says_in_one_line_what_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["training", str(tmp_path), "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as stop:
        command.main()
    assert "holds no pictures" in str(stop.value)
    assert "\n" not in str(stop.value)
