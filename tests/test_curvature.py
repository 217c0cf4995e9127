"""How steep an inversion's loss is: from gradients, of a generator, and in the encoder's file."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import DATA, small_generator

from align import AlignedFace, Photo, choose_face, ffhq_quad, find_faces
from inversion import PivotConfig, first_latent, pivot
from pipeline import finish
from weights import WeightsCorrupt, load_generator, load_perceptual, save_generator, to_image
from weights.curvature import Curvature
from weights.encoder import Encoder, encoder_path, save_encoder
from weights.training.curvature import fitted, measure_curvature


def test_gradients_tell_the_second_derivatives() -> None:
    """Of half of x A x, whose steepest ways are the first three numbers turned by 45 degrees in a plane."""
    turn = torch.eye(6)
    turn[:2, :2] = torch.tensor([[1.0, -1.0], [1.0, 1.0]]) / 2**0.5
    steep = torch.tensor([9.0, 4.0, 2.0, 0.5, 0.5, 0.5])
    square = turn @ torch.diag(steep) @ turn.T
    ways = 0.2 * torch.randn(20_000, 6, generator=torch.Generator().manual_seed(0))
    curvature = fitted(ways @ square, 0.2, 1.0)
    torch.testing.assert_close(curvature.values, steep, rtol=0.03, atol=0)
    torch.testing.assert_close((curvature.ways @ turn).abs()[:3], torch.eye(6)[:3], rtol=0, atol=0.03)
    gradient = torch.tensor([1.0, 2.0, -1.0, 0.5, 0.0, 3.0])
    torch.testing.assert_close(curvature.inverse(gradient), torch.linalg.solve(square, gradient), rtol=0, atol=0.1)


def test_beside_the_ways_each_number_has_a_curvature_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("weights.training.curvature.WAYS", 2)
    steep = torch.tensor([0.5, 9.0, 0.25, 4.0, 1.0])
    curvature = fitted(torch.randn(20_000, 5, generator=torch.Generator().manual_seed(0)) @ torch.diag(steep), 1.0, 1.0)
    torch.testing.assert_close(curvature.values, torch.tensor([9.0, 4.0]), rtol=0.03, atol=0)
    torch.testing.assert_close(curvature.rest[[0, 2, 4]], steep[[0, 2, 4]], rtol=0.03, atol=0)
    torch.testing.assert_close(curvature.inverse(steep), torch.ones(5), rtol=0.03, atol=0)


def test_what_takes_a_gradient_is_symmetric_and_exact_along_a_way() -> None:
    """So that the search, whose formulas ask for it, may begin with it. The way is askew, the rest unlike."""
    curvature = Curvature(1, 3)
    curvature.ways.copy_(torch.tensor([[0.6, 0.8, 0.0]]))
    curvature.values.fill_(10.0)
    curvature.rest.copy_(torch.tensor([1.0, 2.0, 4.0]))
    matrix = torch.stack([curvature.inverse(row) for row in torch.eye(3)])
    torch.testing.assert_close(matrix, matrix.T)
    torch.testing.assert_close(curvature.ways[0] @ matrix, curvature.ways[0] / 10)
    # Across it in the plane, by hand: the way (0.8, -0.6), whose mean of 1/1 and 1/2 is 0.64 / 1 + 0.36 / 2 = 0.82.
    across = torch.tensor([0.8, -0.6, 0.0])
    torch.testing.assert_close(across @ matrix, 0.82 * across)


def test_a_generators_loss_is_as_steep_as_measured() -> None:
    """The mean loss a little way along the steepest way is that of a parabola, and many times that of a random way."""
    generator, perceptual = small_generator(32), load_perceptual("st-lpips-alex")
    curvature = measure_curvature(generator, perceptual, 3.0, pictures=400)
    ws = generator.sample(64, seed=1)
    target = generator.render(ws)

    def loss(way: torch.Tensor) -> float:
        drawn = generator.render(ws + 0.2 * generator.spread * way.reshape(ws.shape[1:]))
        return (perceptual(drawn, target) + 3 * (drawn - target).square().mean((1, 2, 3))).mean().item()

    way = torch.randn(curvature.ways.shape[1], generator=torch.Generator().manual_seed(0))
    steepest = loss(curvature.ways[0])
    assert 0.4 < steepest / (curvature.values[0].item() * 0.2**2 / 2) < 2.5
    assert steepest > 3 * loss(way / way.norm())
    assert (curvature.values[:-1] >= curvature.values[1:]).all()


def test_it_lies_in_the_encoders_file(tmp_path: Path) -> None:
    path = tmp_path / "small.safetensors"
    generator = small_generator(16)
    save_generator(generator.network, path, torch.float32)
    encoder = Encoder(generator.network.config)
    save_encoder(encoder, encoder_path(path), load_generator(path).sha256)
    before = load_generator(path).encoder
    assert before is not None and before.curvature is None  # as files of before have none
    encoder.curvature = Curvature(3, generator.num_ws * generator.w_dim)
    encoder.curvature.values.copy_(torch.tensor([4.0, 2.0, 0.5]))
    save_encoder(encoder, encoder_path(path), load_generator(path).sha256)
    loaded = load_generator(path).encoder
    assert loaded is not None and loaded.curvature is not None
    for name in ("ways", "values", "rest"):
        assert torch.equal(getattr(loaded.curvature, name), getattr(encoder.curvature, name))
    del encoder.curvature.rest  # as in files of before, where the rest counted as the last of the ways
    save_encoder(encoder, encoder_path(path), load_generator(path).sha256)
    earlier = load_generator(path).encoder
    assert earlier is not None and earlier.curvature is not None
    assert (earlier.curvature.rest == 0.5).all()
    encoder.curvature = Curvature(3, 5)  # of latents that this generator does not have
    save_encoder(encoder, encoder_path(path), load_generator(path).sha256)
    with pytest.raises(WeightsCorrupt, match="is no encoder"):
        load_generator(path)


def test_the_pivot_of_a_real_face_is_nearer_with_it() -> None:
    """The embedded generator on lisa3, after a third of the usual steps. (On lisa1 it helps least.)"""
    generator, perceptual = load_generator(), load_perceptual("st-lpips-vgg", size=64)
    photo = Photo.load(DATA / "lisa3.jpg").pixels
    face = AlignedFace.crop(photo, ffhq_quad(choose_face(find_faces(photo)).points), generator.resolution)
    target = to_image(face.pixels)
    start = first_latent(generator, target)
    unknown = copy.deepcopy(generator.encoder)
    assert unknown is not None and unknown.curvature is not None
    unknown.curvature = None
    with_it, without = (
        finish(pivot(one, target, perceptual, PivotConfig(steps=8), start)).score
        for one in (generator, replace(generator, encoder=unknown))
    )
    assert with_it < 0.95 * without  # 0.84 in single precision, 0.89 in bfloat16
