"""The training's distance between how drawn and real pictures are spread: known answers, and what it asks for."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from weights.training.variety import Variety, distance, pooled, whitening


def flat_maps(values: Tensor) -> list[Tensor]:
    """Two scales of n even pictures: [n] -> maps [n, 1, 4, 4] and, ten times as large, [n, 1, 2, 2]."""
    return [values.view(-1, 1, 1, 1).expand(-1, 1, 4, 4), 10 * values.view(-1, 1, 1, 1).expand(-1, 1, 2, 2)]


def test_the_distance_is_to_the_picture_of_the_same_rank() -> None:
    drawn, real = torch.tensor([[3.0], [0.0], [1.0], [2.0]]), torch.tensor([[16.0], [10.0], [14.0], [12.0]])
    # 0 is the least, and asked to 10; 3 is the last, and asked to 16. The pictures' variance is 20/3.
    found = distance(drawn[:2], torch.tensor([0, 1]), drawn, real, torch.ones(1, 1))
    assert found.item() == pytest.approx((10**2 + 13**2) / 2 / (20 / 3))


def test_in_a_direction_only_what_lies_along_it_counts() -> None:
    drawn = torch.tensor([[0.0, 5.0], [1.0, -3.0]])
    real, along = torch.tensor([[0.0, 70.0], [1.0, 80.0]]), torch.tensor([[1.0], [0.0]])
    across = distance(drawn, torch.tensor([0, 1]), drawn, real, along)
    assert across.item() == 0


def test_features_are_pooled_over_the_picture() -> None:
    picture = torch.arange(16.0).view(1, 1, 4, 4)
    assert pooled([picture, picture[..., :2, :2]]).tolist() == [[7.5, 2.5]]


def test_nothing_is_asked_before_enough_pictures_are_known() -> None:
    variety, rng = Variety([1, 1], kept=32), torch.Generator().manual_seed(0)
    asked = [float(variety(flat_maps(torch.randn(4) + 9), flat_maps(torch.randn(4)), rng)) for _ in range(3)]
    assert asked[0] == 0 and asked[1] > 1 and asked[2] > 1  # from a quarter of what is kept


def test_pictures_as_varied_as_the_real_ones_are_left_alone() -> None:
    variety, rng = Variety([1, 1], kept=8), torch.Generator().manual_seed(0)
    for _ in range(3):
        maps = flat_maps(torch.randn(4, generator=rng))
        asked = variety(maps, [m.flip(0) for m in maps], rng)
    assert float(asked) < 1e-9


def test_what_collapsed_to_the_middle_is_asked_apart() -> None:
    """The real are of two kinds; each drawn one alone could be either, and all lie between."""
    variety, rng = Variety([1, 1], kept=64), torch.Generator().manual_seed(0)
    values = torch.nn.Parameter(0.01 * torch.randn(16, generator=rng))
    adam = torch.optim.Adam([values], 0.05)
    for _ in range(100):
        kinds = torch.tensor([-1.0, 1.0]).repeat(8) + 0.05 * torch.randn(16, generator=rng)
        loss = variety(flat_maps(kinds), flat_maps(values), rng)
        adam.zero_grad()
        loss.backward()
        adam.step()
    assert values.detach().sort().values.sign().tolist() == [-1.0] * 8 + [1.0] * 8
    assert values.detach().abs().sub(1).abs().max() < 0.15


def test_whitened_points_vary_by_one_along_each_axis() -> None:
    torch.manual_seed(0)
    points = torch.randn(500, 4) @ torch.randn(4, 4) * torch.tensor([1.0, 1.0, 100.0, 100.0]) + 7
    white = points @ whitening(points, [2, 2], 4)
    torch.testing.assert_close(torch.cov(white.T), torch.eye(4), atol=1e-3, rtol=0)


def test_the_strongest_axis_is_of_all_scales_alike() -> None:
    """Two scales, one of values a hundred times as large; a third direction varies less."""
    torch.manual_seed(0)
    common, little = torch.randn(2, 500)
    points = torch.stack([common, 100 * common + little], 1)
    one = points @ whitening(points, [1, 1], 1)
    assert abs(torch.corrcoef(torch.stack([one[:, 0], common]))[0, 1]) > 0.999


def test_what_varies_little_among_the_pictures_is_asked_for_as_well() -> None:
    """Of two features of one scale the second varies by a tenth, and is not drawn."""
    variety, rng = Variety([2], kept=4096), torch.Generator().manual_seed(0)
    real = torch.randn(4096, 2, generator=rng) * torch.tensor([1.0, 0.1])
    drawn = real * torch.tensor([1.0, 0.0])
    asked = sum(float(variety([real[..., None, None]], [drawn[..., None, None]], rng)) for _ in range(8)) / 8
    # Along an axis turned by t, one of which is missing, drawn pictures lie within |cos t| instead of 1.
    assert asked == pytest.approx(1.5 - 4 / torch.pi, abs=0.05)
    blind = distance(drawn, torch.arange(4096), drawn, real, torch.randn(2, 64, generator=rng))
    assert float(blind) < 0.05


def test_a_memory_that_was_kept_goes_on() -> None:
    rng = torch.Generator().manual_seed(0)
    first, second = Variety([1, 1], kept=16), Variety([1, 1], kept=16)
    first(flat_maps(torch.randn(8, generator=rng)), flat_maps(torch.randn(8, generator=rng)), rng)
    second.load_state_dict(first.state_dict())
    maps = flat_maps(torch.randn(4, generator=rng)), flat_maps(torch.randn(4, generator=rng))
    one, two = (float(v(*maps, torch.Generator().manual_seed(1))) for v in (first, second))
    assert one == two > 0
