"""The encoder: its file beside the generator's, its first latents, and its training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import small_generator

from inversion import PivotConfig, first_latent, pivot
from weights import Generator, WeightsCorrupt, load_generator, load_perceptual, save_generator
from weights.encoder import Encoder, encoder_path, save_encoder
from weights.training.command import has_compiler
from weights.training.encoder import (
    Arguments,
    EncoderConfig,
    Known,
    begun,
    draw_known,
    encoder_losses,
    painted,
    train_encoder,
)
from weights.training.files import BadCheckpoint
from weights.training.pictures import Pictures, fit_pictures


@pytest.fixture(scope="module")
def generator() -> Generator:
    return small_generator(16)


@pytest.fixture(scope="module")
def pictures(generator: Generator) -> Pictures:
    return pictures_of(generator)


def pictures_of(generator: Generator) -> Pictures:
    drawn = generator.render(generator.sample(12, seed=0))
    return fit_pictures((drawn * 127.5 + 127.5).clamp(0, 255).to(torch.uint8), generator.network.config.z_dim)


def saved(generator: Generator, folder: Path, sha256: str | None = None) -> Path:
    """A generator's file with an untrained encoder beside it."""
    path = folder / "small.safetensors"
    save_generator(generator.network, path, torch.float32)
    torch.manual_seed(0)
    save_encoder(Encoder(generator.network.config), encoder_path(path), sha256 or load_generator(path).sha256)
    return path


def test_a_generator_without_encoder_has_no_first_latent(generator: Generator) -> None:
    assert first_latent(generator, torch.zeros(1, 3, 16, 16)) is None


def test_an_encoder_beside_the_generator_gives_the_first_latent(generator: Generator, tmp_path: Path) -> None:
    loaded = load_generator(saved(generator, tmp_path))
    assert loaded.encoder is not None
    target = generator.render(generator.sample(1, seed=1))
    latent = first_latent(loaded, target)
    assert latent is not None and latent.shape == (generator.num_ws, generator.w_dim)
    z, offsets = loaded.encoder(target)
    assert not offsets.any()  # untrained: nothing but the mapped latent
    torch.testing.assert_close(latent, loaded.network.mapping(z)[0])


def test_offsets_are_in_units_of_the_spread(generator: Generator, tmp_path: Path) -> None:
    loaded = load_generator(saved(generator, tmp_path))
    assert loaded.encoder is not None
    loaded.encoder.offsets.bias.fill_(1.0)
    target = torch.zeros(1, 3, 16, 16)
    latent, (z, _) = first_latent(loaded, target), loaded.encoder(target)
    assert latent is not None
    torch.testing.assert_close(latent - loaded.network.mapping(z)[0], torch.full_like(latent, loaded.spread))


def test_another_generators_encoder_is_refused(generator: Generator, tmp_path: Path) -> None:
    with pytest.raises(WeightsCorrupt, match="another generator"):
        load_generator(saved(generator, tmp_path, sha256="0" * 64))


def test_a_damaged_encoder_is_refused(generator: Generator, tmp_path: Path) -> None:
    path = saved(generator, tmp_path)
    data = encoder_path(path).read_bytes()
    encoder_path(path).write_bytes(data[:1000])
    with pytest.raises(WeightsCorrupt, match="is no encoder"):
        load_generator(path)


def test_known_latents_draw_the_samples(
    generator: Generator, pictures: Pictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("weights.precision.multiplies_bfloat16", lambda: False)
    config = EncoderConfig(batch=16, mixing=0.5, beside=0.0)
    known = draw_known(generator, pictures, config, torch.Generator().manual_seed(0))
    assert known.images.shape == (16, 3, 16, 16) and known.ws.shape == (16, generator.num_ws, generator.w_dim)
    torch.testing.assert_close(generator.render(known.ws[8:]).clamp(-1, 1), known.images[8:])
    mixed = [bool((rows != rows[0]).any()) for rows in known.ws]
    assert not any(mixed[:8]) and 0 < sum(mixed[8:]) < 8


def test_samples_are_drawn_from_beside_their_latents(generator: Generator, pictures: Pictures) -> None:
    """The same ones, each farther off than another; what is known of them is nearer to the mean by as much."""
    at, beside = (
        draw_known(generator, pictures, EncoderConfig(batch=16, beside=far), torch.Generator().manual_seed(0))
        for far in (0.0, 0.5)
    )
    torch.testing.assert_close(beside.ws[:8], at.ws[:8])
    torch.testing.assert_close(beside.images[:8], at.images[:8])
    left = ((beside.ws - generator.mean_latent) / (at.ws - generator.mean_latent))[8:]  # of the way from the mean
    assert left.min() > 0.5 - 1e-3 and left.max() < 1
    torch.testing.assert_close(left, left[:, :1, :1].expand_as(left), atol=1e-2, rtol=0)
    off = (beside.images - at.images)[8:].abs().mean((1, 2, 3))
    assert off.min() > 0 and off.max() > 2 * off.min()


def test_training_starts_from_an_earlier_encoder(generator: Generator, tmp_path: Path) -> None:
    earlier = encoder_path(saved(generator, tmp_path))
    encoder = begun(Arguments(Path("pictures"), init=earlier), generator)
    kept = load_generator(tmp_path / "small.safetensors").encoder
    assert kept is not None
    for name, tensor in encoder.state_dict().items():
        assert torch.equal(tensor, kept.state_dict()[name])


@torch.no_grad()
def test_training_starts_from_the_encoder_of_a_smaller_generator(generator: Generator, tmp_path: Path) -> None:
    """What it says of the rows that there were stays; new rows have no offset yet. The other way is refused."""
    path, grown = saved(generator, tmp_path), small_generator(32)
    earlier = load_generator(path).encoder
    assert earlier is not None
    earlier.offsets.bias.copy_(torch.arange(1, len(earlier.offsets.bias) + 1) / 8)
    save_encoder(earlier, encoder_path(path), "0" * 64)
    encoder = begun(Arguments(Path("pictures"), init=encoder_path(path)), grown)
    images = torch.rand(2, 3, 32, 32) * 2 - 1
    (z, offsets), (old_z, old_offsets) = encoder(images), earlier(images)
    torch.testing.assert_close(z, old_z)
    torch.testing.assert_close(offsets[:, : generator.num_ws], old_offsets)
    assert grown.num_ws == generator.num_ws + 2 and not offsets[:, generator.num_ws :].any()
    save_encoder(encoder, encoder_path(path), "0" * 64)
    with pytest.raises(BadCheckpoint, match="is no encoder for this generator"):
        begun(Arguments(Path("pictures"), init=encoder_path(path)), generator)


def test_what_is_taught_is_the_pivots_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its first score, of one picture, from the latent that the encoder gives of it: the weights are written twice."""
    monkeypatch.setattr("weights.precision.multiplies_bfloat16", lambda: False)
    generator, config = small_generator(32), EncoderConfig(noise=0.0)
    torch.manual_seed(0)
    encoder, perceptual = Encoder(generator.network.config), load_perceptual("st-lpips-alex")
    target = generator.render(generator.sample(1, seed=1)).clamp(-1, 1)
    with torch.no_grad():
        z, offsets = encoder(target)
        start = (generator.network.mapping(z) + offsets * generator.spread)[0]
        known = Known(target.repeat(2, 1, 1, 1), start.repeat(2, 1, 1))
        rng = torch.Generator().manual_seed(0)
        losses = encoder_losses(encoder, generator, known, perceptual, config, rng)
    taught = losses["perceptual"] + config.pixel_weight * losses["pixels"] + config.mean_weight * losses["mean"]
    first = next(pivot(generator, target, perceptual, PivotConfig(), start))
    assert first.score == pytest.approx(float(taught), rel=1e-4)


@pytest.mark.skipif(not has_compiler(), reason="no C++ compiler here")
def test_a_compiled_generator_draws_the_same(generator: Generator) -> None:
    latents = generator.sample(3, seed=0).requires_grad_(True)
    slopes = []
    for compiled in (False, True):
        drawn = painted(generator, latents, EncoderConfig(compiled=compiled))
        torch.testing.assert_close(drawn, generator.render(latents), rtol=0, atol=0.05)  # in bfloat16
        slopes.append(torch.autograd.grad(drawn.square().mean(), latents)[0])
    torch.testing.assert_close(slopes[1], slopes[0], rtol=0, atol=0.05 * slopes[0].abs().max().item())


def means(losses: list[dict[str, float]], name: str) -> tuple[float, float]:
    """At the start and at the end."""
    values = [loss[name] for loss in losses]
    return sum(values[:3]) / 3, sum(values[-3:]) / 3


def test_training_brings_latents_nearer_and_the_weight_on_offsets_holds_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("weights.encoder.SIZE", 32)  # sixteen times faster
    generator = small_generator(32)  # the perceptual distance knows no smaller pictures
    pictures = pictures_of(generator)
    config, perceptual = EncoderConfig(batch=8, pictures=8 * 40, lr=3e-3), load_perceptual("st-lpips-alex")

    def run(config: EncoderConfig) -> list[dict[str, float]]:
        torch.manual_seed(0)
        encoder = Encoder(generator.network.config)
        return list(train_encoder(encoder, generator, pictures, perceptual, config))

    free, held = run(config), run(replace(config, offset_weight=100.0, latent_weight=1.0))
    for losses, name in ((free, "perceptual"), (free, "pixels"), (held, "latent")):
        first, last = means(losses, name)
        assert last < 0.9 * first, name
    assert held[-1]["offsets"] < 0.1 * free[-1]["offsets"]
