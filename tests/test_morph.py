"""Shape and appearance of training pictures: warps, codes and a few steps, on drawn blobs."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from weights.stylegan2 import StyleGAN2, StyleGAN2Config
from weights.training.growth import grown
from weights.training.morph import (
    Faces,
    MorphConfig,
    begin,
    export,
    load_checkpoint,
    load_codes,
    prepare,
    save_checkpoint,
    train,
)
from weights.training.shapes import BORDER, MIRROR, apart, fit_basis, grid, mirrored, moves, warped

SMALL = StyleGAN2Config(16, z_dim=12, w_dim=16, mapping_layers=2, channel_base=128, channel_max=16)


def face() -> Tensor:
    """68 points [68, 2] that are their own mirror image."""
    points = torch.rand(68, 2, generator=torch.Generator().manual_seed(0)) * 0.5 + 0.25
    points = (points + mirrored(points[None])[0]) / 2
    for above, below, _ in [(61, 67, 0), (62, 66, 0), (63, 65, 0), (37, 41, 0), (38, 40, 0), (43, 47, 0), (44, 46, 0)]:
        points[below] = points[above] + torch.tensor([0, 0.03])
    return points


@pytest.fixture(scope="module")
def faces() -> Faces:
    rng = torch.Generator().manual_seed(1)
    points = face() + 0.02 * torch.randn(40, 68, 2, generator=rng)
    pictures = torch.nn.functional.interpolate(torch.rand(40, 3, 4, 4, generator=rng), size=(16, 16), mode="bicubic")
    return prepare((pictures * 255).clamp(0, 255).to(torch.uint8), points, 12, 6, face_weight=2.0)


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


def test_a_few_steps_lower_the_loss_and_a_checkpoint_goes_on(faces: Faces, tmp_path) -> None:  # type: ignore[no-untyped-def]
    torch.manual_seed(0)
    config = MorphConfig(batch=16, lr=5e-3, feature_size=16)
    morph = begin(StyleGAN2(SMALL), config)
    losses = [step["full"] for step in train(morph, faces, lambda x: [x, x, x], config, until=16 * 40)]
    assert sum(losses[-10:]) < 0.8 * sum(losses[:10])
    save_checkpoint(morph, faces.codes, tmp_path / "checkpoint.safetensors")
    codes = load_codes(tmp_path / "checkpoint.safetensors")
    assert torch.equal(codes.appearance.up, faces.codes.appearance.up)
    again = load_checkpoint(tmp_path / "checkpoint.safetensors", SMALL, config)
    assert next(train(again, faces, lambda x: [x, x, x], config, 10**9)) == next(
        train(morph, faces, lambda x: [x, x, x], config, 10**9)
    )


def test_growth_changes_nothing_and_the_mean_latent_is_right(tmp_path) -> None:  # type: ignore[no-untyped-def]
    from weights.generator import load_generator

    network = StyleGAN2(SMALL)
    large = grown(network, StyleGAN2Config(32, 12, 16, 2, 128, 16))
    z = torch.randn(2, 12)
    small = network.synthesis(network.mapping(z))
    assert torch.allclose(
        torch.nn.functional.avg_pool2d(large.synthesis(large.mapping(z)), 2).mean(), small.mean(), atol=0.05
    )
    export(network, tmp_path / "g.safetensors")
    generator = load_generator(tmp_path / "g.safetensors")
    assert (generator.sample(4000, 1)[:, 0].mean(0) - generator.mean_latent[0]).abs().max() < 0.1
