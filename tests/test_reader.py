"""Features near points are those of the whole network, wherever the points are and however many layers move."""

import pytest
import torch
from conftest import small_generator

from drag import sample
from drag.points import cells_of
from weights import Generator, StyleGAN2, StyleGAN2Config, Windows
from weights.reader import cut


def noisy_generator(**settings: int) -> Generator:
    """Small, with biases and noise, so that what is added to the windows is seen."""
    torch.manual_seed(0)
    config = StyleGAN2Config(64, z_dim=8, w_dim=8, mapping_layers=2, channel_base=256, channel_max=8, **settings)
    generator = Generator(StyleGAN2(config).eval().requires_grad_(False), "small", "0" * 64)
    for name, parameter in generator.network.synthesis.named_parameters():
        if name.endswith(("noise_strength", ".bias")) and "affine" not in name:
            parameter.normal_()
    return generator


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 6, 9, 10])
@pytest.mark.parametrize(
    "points",
    [
        [[14.3, 9.0]],
        [[0.0, 0.0], [31.0, 31.0]],  # reaching over the rim
        [[12.0, 20.0], [13.5, 20.0], [12.0, 21.0]],  # so near each other that one window holds them
        [[3.0, 28.0], [28.2, 3.1], [29.0, 29.0], [16.0, 16.0]],
    ],
)
def test_windows_hold_what_the_whole_map_holds(rows: int, points: list[list[float]]) -> None:
    generator, reach = noisy_generator(), 2.5
    latent = generator.sample(1, seed=1)[0]
    whole = generator.features(latent[None], 32)
    reader = generator.reader(latent, rows, 32)
    windows = reader.near(reader.shape(latent[:rows]), torch.tensor(points), reach)
    side = windows.values.shape[-1]
    torch.testing.assert_close(windows.values, cut(whole, windows.corners, side), atol=1e-4, rtol=1e-4)
    first, last = windows.corners, windows.corners + side - 1
    for point in torch.tensor(points):
        # Some window holds all cells of the map within reach.
        low, high = (point - reach).clamp(0, 31), (point + reach).clamp(0, 31)
        assert ((first <= low) & (last >= high)).all(1).any()


def test_a_narrow_network_is_read_as_its_features_are() -> None:
    """Its maps are 16 wide and 32 high in a square of 32; beside them stand their outer columns."""
    generator = noisy_generator(img_width=32, conv_clamp=1)
    latent = generator.sample(1, seed=1)[0]
    points = torch.tensor([[31.0, 20.0], [14.0, 40.0], [1.0, 63.0], [47.2, 1.0]])[:, None]
    reader = generator.reader(latent, 4, 32)
    windows = reader.near(reader.shape(latent[:4]), cells_of(points[:, 0], 64, 32), 2.0)
    whole = Windows.whole(generator.features(latent[None], 32))
    assert whole.values.abs().max() == 1  # clamped
    seen = sample(whole, points.transpose(0, 1), 64).transpose(0, 1)
    torch.testing.assert_close(sample(windows, points, 64), seen, atol=1e-4, rtol=1e-4)


def test_gradients_are_those_of_the_whole_network() -> None:
    generator = noisy_generator()
    latent = generator.sample(1, seed=1)[0]
    points = torch.tensor([[14.3, 9.0], [2.0, 30.0]])
    rows = latent[:6].clone().requires_grad_(True)
    reader = generator.reader(latent, 6, 32)
    windows = reader.near(reader.shape(rows), points, 2.5)
    (near,) = torch.autograd.grad(windows.values.square().sum(), rows)
    whole = latent.clone().requires_grad_(True)
    features = cut(generator.features(whole[None], 32), windows.corners, windows.values.shape[-1])
    (full,) = torch.autograd.grad(features.square().sum(), whole)
    torch.testing.assert_close(near, full[:6], atol=1e-3, rtol=1e-3)


def test_near_points_share_a_window_and_far_ones_do_not() -> None:
    generator = small_generator(64)
    latent = generator.sample(1, seed=1)[0]
    reader = generator.reader(latent, 3, 32)
    shape = reader.shape(latent[:3])
    assert len(reader.near(shape, torch.tensor([[12.0, 20.0], [13.5, 20.0], [12.0, 21.0]]), 2.0).values) == 1
    assert len(reader.near(shape, torch.tensor([[2.0, 2.0], [30.0, 30.0]]), 2.0).values) == 2


def test_a_cut_is_zero_beyond_the_rim() -> None:
    values = torch.arange(1.0, 10.0).reshape(1, 1, 3, 3)
    assert cut(values, torch.tensor([[-1, -1], [1, 1]]), 2)[:, 0].tolist() == [[[0, 0], [0, 1]], [[5, 6], [8, 9]]]
    assert Windows.whole(values).corners.tolist() == [[0, 0]]
