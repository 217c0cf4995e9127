"""weights.training.widen, on drawings whose features are known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from weights.prior import Prior
from weights.stylegan2 import StyleGAN2, StyleGAN2Config
from weights.training import widen as command
from weights.training.files import BadCheckpoint, codes_path, export, load_prior
from weights.training.prior import recode
from weights.training.widen import widening

SMALL = StyleGAN2Config(16, z_dim=5, w_dim=16, mapping_layers=2, channel_base=128, channel_max=16)


def normal(n: int, k: int, seed: int) -> torch.Tensor:
    return torch.randn(n, k, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_what_codes_tell_is_stretched_until_drawings_vary_as_pictures_do() -> None:
    """Features are codes 0 and 1 with a rest of variance 0.25; the pictures' variances are 2.5 and 1.25.

    So the first is to be stretched by the root of 2.25, and the second stays; codes 2 and 3 tell nothing.
    """
    codes = normal(50_000, 4, 0) @ torch.diag(torch.tensor([1.0, 1, 3, 1], dtype=torch.float64)) + 2
    rest = 0.5 * normal(50_000, 2, 1)
    theirs = normal(50_000, 2, 2) * torch.tensor([2.5, 1.25], dtype=torch.float64).sqrt()
    # As many directions as there are codes are looked at: two features more, which tell of the others.
    ours, theirs = (torch.cat([x, y], 1) for x, y in ((codes[:, :2] + rest, codes[:, 2:]), (theirs, codes[:, 2:])))
    change = widening(codes, ours, theirs)
    expected = torch.diag(torch.tensor([1.5, 1, 1, 1], dtype=torch.float64))
    torch.testing.assert_close(change, expected, atol=0.05, rtol=0)
    half = widening(codes, ours, theirs, share=0.5)
    torch.testing.assert_close(half, (expected + torch.eye(4, dtype=torch.float64)) / 2, atol=0.05, rtol=0)


def test_drawings_vary_as_pictures_do_whatever_codes_are_like() -> None:
    """Of codes that are correlated, and features each of which several tell of."""
    mix = torch.tensor([[1.0, 0.8, 0], [0, 0.6, 0.5], [0, 0, 2]], dtype=torch.float64)
    told = torch.tensor([[1.0, 0.5, 0], [0, 1, -0.5], [0.3, 0, 0.4]], dtype=torch.float64)
    codes, rest = normal(50_000, 3, 0) @ mix + 1, 0.5 * normal(50_000, 3, 1)
    centred = codes - codes.mean(0)
    ours = centred @ told + rest
    theirs = 1.2 * (centred @ told) @ torch.diag(torch.tensor([1.1, 1, 1.1], dtype=torch.float64)) + rest
    widened = centred @ widening(codes, ours, theirs).T @ told + rest
    torch.testing.assert_close(widened.T.cov(), theirs.T.cov(), atol=0.05, rtol=0)
    assert (ours.T.cov() - theirs.T.cov()).abs().max() > 0.3


def test_it_stretches_only_so_far() -> None:
    codes = normal(10_000, 2, 0)
    change = widening(codes, codes, 10 * normal(10_000, 2, 1))
    torch.testing.assert_close(change, 1.8 * torch.eye(2, dtype=torch.float64), atol=0.05, rtol=0)


def test_a_widened_prior_keeps_its_mean() -> None:
    prior = Prior(5)
    with torch.no_grad():
        prior.layers[-1].bias.add_(3.0)
        before = prior.codes(torch.randn(1000, 4, generator=torch.Generator().manual_seed(0)))
        recode(prior, torch.diag(torch.tensor([2.0, 1, 1, 1])), before.mean(0), before.mean(0))
        after = prior.codes(torch.randn(1000, 4, generator=torch.Generator().manual_seed(0)))
    torch.testing.assert_close(after.mean(0), before.mean(0), atol=1e-3, rtol=0)
    torch.testing.assert_close(after.std(0) / before.std(0), torch.tensor([2.0, 1, 1, 1]), atol=1e-3, rtol=0)


def test_the_command_writes_the_generator_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("weights.training.command.stop_on_signals", lambda: None)
    networks = iter([lambda images, x=x: [images[..., x : x + 8]] for x in (0, 4, 8)])  # each sees a part
    monkeypatch.setattr(command, "load_features", lambda source: next(networks))
    (tmp_path / "pictures").mkdir()
    for i, pixels in enumerate(np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3), np.uint8)):
        Image.fromarray(pixels).save(tmp_path / "pictures" / f"{i}.png")
    path = tmp_path / "generator.safetensors"
    torch.manual_seed(0)
    export(StyleGAN2(SMALL), path, Prior(5))
    arguments = command.Arguments(path, tmp_path / "pictures", samples=40, share=1.0)
    with pytest.raises(BadCheckpoint):
        command.run(replace(arguments, generator=tmp_path / "none.safetensors"))
    with pytest.raises(BadCheckpoint, match=r"generator-codes\.safetensors is missing"):
        command.run(arguments)
    monkeypatch.setattr("weights.training.files.load_codes", lambda path: {})
    codes_path(path).touch()
    with pytest.raises(BadCheckpoint, match="5 samples tell nothing of 5 numbers"):
        command.run(replace(arguments, samples=5))
    before = load_prior(path)
    command.run(arguments)
    after = load_prior(path)
    assert before and after
    assert "times as far" in capsys.readouterr().out
    normals = torch.randn(500, 4, generator=torch.Generator().manual_seed(1))
    assert (after.codes(normals).std(0) / before.codes(normals).std(0)).max() > 1.1
