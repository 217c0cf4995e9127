"""weights.prior and its training, on codes that no normal distribution has."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from weights import WeightsCorrupt, load_generator
from weights.generator import random_z, save_generator
from weights.prior import Prior, lengthened, tensors_of
from weights.stylegan2 import StyleGAN2, StyleGAN2Config
from weights.training import __main__ as training
from weights.training import prior as command
from weights.training.files import BadCheckpoint, export, load_network, load_prior
from weights.training.prior import PriorConfig, calibrate, train_prior
from weights.training.train import TrainConfig

SMALL = StyleGAN2Config(16, z_dim=5, w_dim=16, mapping_layers=2, channel_base=128, channel_max=16)


def corners(n: int, rng: torch.Generator) -> Tensor:
    """Codes [n, 4], each near one of two opposite corners."""
    return torch.where(torch.rand(n, 1, generator=rng) < 0.5, 1.0, -1.0).repeat(1, 4)


def strange_prior() -> Prior:
    """One that is not the identity."""
    prior = Prior(5)
    with torch.no_grad():
        prior.layers[-1].bias.add_(1.0)
    return prior


def test_it_begins_as_the_identity_and_ends_in_a_constant() -> None:
    z = torch.randn(5, 5)
    torch.testing.assert_close(Prior(5)(z), torch.cat([z[:, :4], torch.full((5, 1), 4.0)], 1))


def test_a_mapping_sees_how_long_a_code_is() -> None:
    """Of 16 numbers, all alike: the constant is twice the root of 16, and twice as long a code is seen as longer."""
    codes = torch.ones(1, 16) * torch.tensor([[1.0], [2.0], [-2.0]])
    z = lengthened(codes)
    assert z[:, -1].tolist() == [8, 8, 8]
    direction = z / z.norm(dim=1, keepdim=True)
    # 1 of the root of 16 + 64, 2 of the root of 64 + 64.
    torch.testing.assert_close(direction[:, 0], torch.tensor([80**-0.5, 2 * 128**-0.5, -2 * 128**-0.5]))


def test_it_learns_codes_that_are_not_normal() -> None:
    """Both corners in equal shares, with the noise around them; normal z lie anywhere between."""
    prior = Prior(5)
    assert len(list(train_prior(prior, corners, PriorConfig(steps=1000, batch=128, lr=2e-3, heads_lr=4e-3)))) == 1000
    codes = prior.codes(torch.randn(1000, 4, generator=torch.Generator().manual_seed(9)))
    side = codes.mean(1)  # 1, -1 in the corners
    assert (side.abs() > 0.5).float().mean() > 0.6  # of the codes with their noise: 0.98; of normal numbers 0.32
    assert codes.std(1).mean() < 0.65  # 0.45; 0.92
    assert 0.3 < (side > 0).float().mean() < 0.7


def test_calibrated_codes_have_the_mean_and_covariance_of_real_ones() -> None:
    mix = torch.tensor([[2.0, 0, 0, 0], [1, 1, 0, 0], [0, 0, 3, 0], [0, 1, 0, 0.5]])
    shift = torch.tensor([1.0, -2, 0, 3])
    prior = strange_prior()
    calibrate(prior, lambda n, rng: torch.randn(n, 4, generator=rng) @ mix + shift, noise=0.5)
    codes = prior.codes(torch.randn(100_000, 4, generator=torch.Generator().manual_seed(9)))
    torch.testing.assert_close(codes.mean(0), shift, atol=0.1, rtol=0)
    torch.testing.assert_close(torch.cov(codes.T), mix.T @ mix + 0.25 * torch.eye(4), atol=0.3, rtol=0)


def test_a_generator_with_a_prior_draws_its_samples_through_it(tmp_path: Path) -> None:
    network, prior = StyleGAN2(SMALL), strange_prior()
    export(network, tmp_path / "plain.safetensors", Prior(5))
    plain = load_generator(tmp_path / "plain.safetensors")
    export(network, tmp_path / "g.safetensors", prior)
    generator = load_generator(tmp_path / "g.safetensors")
    expected = generator.network.mapping(prior(random_z(network, None, 3, 1)))
    torch.testing.assert_close(generator.sample(3, 1), expected, atol=2e-2, rtol=2e-2)  # it is kept in half precision
    assert (generator.sample(3, 1) - plain.sample(3, 1)).abs().max() > 0.1
    assert (generator.sample(4000, 1)[:, 0].mean(0) - generator.mean_latent[0]).abs().max() < 0.1
    assert load_network(tmp_path / "g.safetensors").config == SMALL  # without it


def test_a_prior_of_another_z_is_refused(tmp_path: Path) -> None:
    save_generator(StyleGAN2(SMALL), tmp_path / "g.safetensors", prior=strange_prior())
    tensors = load_file(tmp_path / "g.safetensors")
    tensors |= tensors_of(Prior(4))  # as priors were before codes were lengthened
    save_file(tensors, tmp_path / "old.safetensors", SMALL.to_metadata())
    with pytest.raises(WeightsCorrupt, match="prior is for z of 4 numbers, its network for 5"):
        load_generator(tmp_path / "old.safetensors")


def test_the_command_gives_a_training_its_prior(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    features = SimpleNamespace(to=lambda device: lambda images: [images] * 4)
    monkeypatch.setattr("weights.training.command.stop_on_signals", lambda: None)
    monkeypatch.setattr(training, "load_features", lambda source: features)
    (tmp_path / "pictures").mkdir()
    for i, pixels in enumerate(np.random.default_rng(0).integers(0, 256, (8, 16, 16, 3), np.uint8)):
        Image.fromarray(pixels).save(tmp_path / "pictures" / f"{i}.png")
    shape = {"resolution": 16, "z_dim": 5, "w_dim": 16, "channel_base": 128, "channel_max": 16, "device": "cpu"}
    config = TrainConfig(batch=4, feature_size=16)
    first = training.Arguments(tmp_path / "pictures", tmp_path / "out", until=4, config=config, **shape)
    teach = command.Arguments(tmp_path / "pictures", tmp_path / "out", config=PriorConfig(steps=20, batch=16))
    with pytest.raises(BadCheckpoint, match="holds no training"):
        command.run(teach)
    training.run(first)
    command.run(teach)
    generator = load_generator(tmp_path / "out" / "generator.safetensors")
    assert generator.prior is not None
    training.run(replace(first, until=8))  # which keeps it
    training.run(
        replace(first, out=tmp_path / "other", init=tmp_path / "out" / "generator.safetensors")
    )  # so does this
    for out in ("out", "other"):
        prior = load_generator(tmp_path / out / "generator.safetensors").prior
        assert prior is not None
        torch.testing.assert_close(prior.state_dict(), generator.prior.state_dict())


def test_a_file_without_one_has_none(tmp_path: Path) -> None:
    save_generator(StyleGAN2(SMALL), tmp_path / "g.safetensors")
    assert load_prior(tmp_path / "g.safetensors") is None
    assert load_prior(tmp_path / "no-file.safetensors") is None
