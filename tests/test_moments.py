"""Where drawings should lie to be spread as the pictures are: known answers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from weights.prior import lengthened
from weights.training.gaussians import transport
from weights.training.moments import DRAWN, GRID, NOISE, WIDEST, Beyond, Moments, row_of

CODE_NOISE = 0.25  # variance


def maps_of(rows: Tensor) -> list[Tensor]:
    """[n, 2] -> the maps of n even pictures in two networks, of one channel each."""
    return [rows[:, i].view(-1, 1, 1, 1).expand(-1, 1, 4, 4) for i in range(2)]


def of_two() -> Moments:
    return Moments(3, maps_of(torch.zeros(1, 2)))


def gaussian(covariance: list[list[float]], n: int = DRAWN) -> Tensor:
    """n points [n, 2] around 0, with exactly that covariance."""
    points = torch.randn(n, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    points -= points.mean(0)
    white = points @ torch.linalg.inv(torch.linalg.cholesky(points.T.cov())).T
    return (white @ torch.linalg.cholesky(torch.tensor(covariance, dtype=torch.float64)).T).float()


def learned(pictures: Tensor, drawn: Tensor) -> Moments:
    moments = of_two()
    assert not moments.known
    moments.learn(pictures, torch.zeros(len(pictures), 2), CODE_NOISE)
    assert moments.known
    moments.ask(torch.arange(3.0).repeat(DRAWN, 1), drawn, drawn, 0)
    return moments


def test_features_are_pooled_over_the_picture() -> None:
    picture = torch.arange(16.0).view(1, 1, 4, 4)
    assert row_of([picture, picture + 1]).tolist() == [[7.5, 8.5]]


def test_features_half_way_are_told_apart_by_where_they_are() -> None:
    """Neither the finest maps nor those eight times as coarse; the others by the means of 4 x 4 places."""
    maps = [torch.zeros(2, 1, size, size) for size in (32, 16, 8, 4)]
    maps[1][0, 0, 2:4, 14:] = 8  # in the second row of places and the last column, a half of its 4 x 4 pixels
    maps[1][0, 0, 2:4, 12:14] = 4
    row = row_of(maps)
    assert row.shape == (2, 4 + 2 * GRID**2) and not row[1].any()
    assert row[0].nonzero().flatten().tolist() == [1, 4 + 3]
    assert row[0, 1] == pytest.approx(48 / 256) and row[0, 7] == pytest.approx(48 / 16)


def test_what_is_spread_like_the_pictures_stays() -> None:
    pictures = gaussian([[4.0, 3.0], [3.0, 9.0]]) + torch.tensor([5.0, -1.0])
    moments = learned(pictures, pictures.flip(0))
    index = torch.arange(8)
    assert moments(maps_of(pictures.flip(0)[:8]), index).item() == pytest.approx(0, abs=1e-8)


def test_what_lies_to_a_side_is_asked_to_move_by_that() -> None:
    """By 4 of a deviation of 2 in the one feature of a scale."""
    pictures = gaussian([[4.0, 0.0], [0.0, 9.0]])
    drawn = pictures + torch.tensor([4.0, 0.0])
    moments = learned(pictures, drawn)
    assert moments(maps_of(drawn[:5]), torch.arange(5)).item() == pytest.approx(2**2)
    assert moments.ask(moments.z, drawn, drawn, 0)["off"] == pytest.approx(2**2)


def test_what_lies_too_near_together_is_asked_to_spread() -> None:
    """Half as far apart as pictures in one feature: on, by a factor in which both variances have the noise."""
    pictures = gaussian([[4.0, 0.0], [0.0, 9.0]])
    drawn = pictures * torch.tensor([0.5, 1.0])
    wanted = learned(pictures, drawn).wanted
    factor = ((1 + NOISE) / (0.25 + NOISE)) ** 0.5
    expected = drawn / torch.tensor([2.0, 3.0]) * torch.tensor([factor, 1.0])
    assert torch.allclose(wanted, expected, atol=1e-4)


def test_what_codes_say_of_pictures_is_asked_of_drawings() -> None:
    """Of a feature that is twice the first number of a code, and a drawing that knows nothing of it; random codes have
    noise, which is why the slope is less than 2. Of the other feature, which codes say nothing of, as before."""
    codes = gaussian([[1.0, 0.0], [0.0, 1.0]])
    pictures = torch.stack([2 * codes[:, 0], gaussian([[1.0, 0.0], [0.0, 1.0]]).flip(0)[:, 1]], 1)
    z = lengthened(gaussian([[1 + CODE_NOISE, 0.0], [0.0, 1 + CODE_NOISE]]))
    drawn = torch.tensor([3.0, 0.0]).repeat(DRAWN, 1)
    moments = of_two()
    moments.learn(pictures, codes, CODE_NOISE)
    moments.ask(z, drawn, drawn, 0)
    asked = moments.wanted * moments.spread + moments.mean
    assert torch.allclose(asked[:, 0], 2 / (1 + CODE_NOISE) * z[:, 0], atol=1e-3)
    assert asked[:, 1].abs().max() < 0.3  # by chance both are a little alike


def test_what_codes_say_of_a_place_is_asked_there() -> None:
    """A feature is twice the first number of a code in one place of pictures, and drawings are alike everywhere."""
    codes = gaussian([[1.0, 0.0], [0.0, 1.0]])
    pictures = torch.zeros(DRAWN, 2 + GRID**2)
    pictures[:, 2 + 5] = 2 * codes[:, 0]
    moments = Moments(3, [torch.zeros(1, 1, size, size) for size in (8, 4)])
    moments.learn(pictures, codes, 0.0)
    drawn = torch.zeros(DRAWN, 2 + GRID**2)
    moments.ask(lengthened(codes), drawn, drawn, 0)
    asked = moments.wanted * moments.spread + moments.mean
    assert torch.allclose(asked[:, 7], 2 * codes[:, 0], atol=1e-3)
    asked[:, 7] = 0
    assert not asked.any()


def test_what_varies_too_little_in_a_place_is_asked_to_vary_more_each_time() -> None:
    """One place has nine tenths of the pictures' spread, which is asked for, another half: by a quarter more."""
    pictures = torch.zeros(DRAWN, 2 + GRID**2)
    pictures[:, 7:9] = gaussian([[4.0, 0.0], [0.0, 4.0]])
    drawn = pictures.clone()
    drawn[:, 7], drawn[:, 8] = 0.9 * pictures[:, 7], 0.5 * pictures[:, 8]
    moments = Moments(3, [torch.zeros(1, 1, size, size) for size in (8, 4)])
    moments.learn(pictures, torch.zeros(DRAWN, 2), CODE_NOISE)
    moments.ask(torch.arange(3.0).repeat(DRAWN, 1), drawn, drawn, 0)
    asked = moments.wanted * moments.spread + moments.mean
    assert torch.allclose(asked[:, 7], pictures[:, 7], atol=1e-3)
    assert torch.allclose(asked[:, 8], WIDEST * drawn[:, 8], atol=1e-3)


def test_each_part_of_the_way_may_be_asked_for_several_times() -> None:
    """Of two features, one the first number of a code, twice that in pictures, and one of which codes say nothing,
    which is 1 off and half as spread: each of the three ways is asked so often, and how far off all is stays."""
    codes = gaussian([[1.0, 0.0], [0.0, 1.0]])
    alone = gaussian([[1.0, 0.0], [0.0, 1.0]]).flip(0)[:, 1]
    known = codes - codes.mean(0)
    alone -= known @ torch.linalg.lstsq(known, alone).solution
    pictures = torch.stack([2 * codes[:, 0], alone], 1)
    drawn = torch.stack([codes[:, 0], 0.5 * alone + 1], 1)
    wider = 0.5 * ((1 + NOISE) / (0.25 + NOISE)) ** 0.5 - 0.5
    off = []
    for beyond in (Beyond(), Beyond(mean=3), Beyond(told=0), Beyond(rest=5), Beyond(mean=2, told=1.5, rest=4)):
        moments = of_two()
        moments.learn(pictures, codes, 0.0)
        off.append(moments.ask(lengthened(codes), drawn, drawn, 0, beyond))
        way = moments.wanted * moments.spread + moments.mean - drawn
        assert torch.allclose(way[:, 0], beyond.told * codes[:, 0], atol=1e-3)
        assert torch.allclose(way[:, 1], -beyond.mean + beyond.rest * wider * alone, atol=0.02)
    parts = {"off_mean": 1.0, "off_told": 0.5**2, "off_rest": wider**2}
    assert all(each == pytest.approx(parts | {"off": sum(parts.values())}, rel=0.01) for each in off)


def test_what_drawings_show_of_codes_is_no_reason_to_show_more() -> None:
    """Of features that codes say nothing of, what codes make of drawings is taken from them."""
    z = lengthened(gaussian([[1 + CODE_NOISE, 0.0], [0.0, 1 + CODE_NOISE]]))
    pictures = gaussian([[4.0, 0.0], [0.0, 9.0]])
    drawn = z[:, :2] + 0
    moments = of_two()
    moments.learn(pictures, torch.zeros(DRAWN, 2), CODE_NOISE)
    moments.ask(z, drawn, drawn, 0)
    assert moments.wanted.abs().max() < 1e-3


def test_asked_anew_drawings_keep_what_they_have_by_then() -> None:
    """Spread as the pictures are, but each elsewhere than before, they are asked to stay."""
    pictures = gaussian([[4.0, 3.0], [3.0, 9.0]])
    moments = learned(pictures, pictures)
    assert moments(maps_of(pictures.flip(0)), torch.arange(DRAWN)).item() > 1
    assert moments.ask(moments.z, pictures.flip(0), pictures.flip(0), 7)["off"] == pytest.approx(0, abs=1e-8)
    assert moments.asked_at == 7


def test_the_way_found_through_the_codec_is_asked_of_what_is_drawn() -> None:
    """Through a codec that adds 1 to both features, and something of its own to each drawing, 4 too much remain."""
    pictures = gaussian([[4.0, 0.0], [0.0, 9.0]])
    stored = pictures.flip(0) + torch.tensor([4.0, 0.0])
    drawn = stored - 1 - torch.rand(DRAWN, 2, generator=torch.Generator().manual_seed(1))
    moments = of_two()
    moments.learn(pictures, torch.zeros(DRAWN, 2), CODE_NOISE)
    moments.ask(torch.zeros(DRAWN, 3), drawn, stored, 0)
    asked = moments.wanted * moments.spread + moments.mean
    assert torch.allclose(asked, drawn - torch.tensor([4.0, 0.0]), atol=1e-3)


def test_each_is_asked_for_its_own() -> None:
    pictures = gaussian([[1.0, 0.0], [0.0, 1.0]])
    moments = learned(pictures, pictures)
    drawn = torch.zeros(2, 2, requires_grad=True)
    index = torch.tensor([7, 3])
    loss = moments(maps_of(drawn), index)
    loss.backward()
    assert loss.item() == pytest.approx(pictures[index].square().mean(0).sum().item(), rel=1e-4)
    assert drawn.grad is not None
    assert torch.allclose(drawn.grad, -2 * pictures[index] / 2, atol=1e-4)  # the mean is over two pictures


def test_a_scale_of_many_features_counts_as_much_as_one_of_few() -> None:
    moments = Moments(1, [torch.zeros(1, channels, 1, 1) for channels in (1, 3)])
    pictures = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    drawn = pictures.repeat(DRAWN // 50 + 1, 1)[:DRAWN]
    moments.learn(pictures, torch.zeros(50, 0), CODE_NOISE)
    moments.ask(torch.zeros(DRAWN, 1), drawn, drawn, 0)
    at = (moments.wanted[:1] + torch.tensor([1.0, 1.0, 1.0, 1.0])) * moments.spread + moments.mean
    maps = [part[:, :, None, None] for part in at.split([1, 3], 1)]
    assert moments(maps, torch.zeros(1, dtype=torch.long)).item() == pytest.approx(2, rel=1e-4)


def test_the_map_gives_points_the_other_covariance() -> None:
    ours, theirs = torch.tensor([[4.0, -1.0], [-1.0, 49.0]]), torch.tensor([[25.0, 18.0], [18.0, 16.0]])
    noise = NOISE * torch.eye(2)
    way = transport(ours + noise, theirs + noise)
    assert torch.allclose(way @ (ours + noise) @ way, theirs + noise, atol=1e-3)
    assert torch.allclose(way, way.T, atol=1e-5)
    assert (torch.linalg.eigvalsh(way) > 0).all()  # it turns nothing around: the shortest such way


def test_features_that_never_vary_ask_for_nothing_endless() -> None:
    rows = torch.stack([torch.linspace(0, 1, DRAWN), torch.zeros(DRAWN)], 1)
    assert torch.isfinite(learned(rows, rows)(maps_of(torch.ones(1, 2)), torch.zeros(1, dtype=torch.long)))
