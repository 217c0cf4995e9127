"""The pivot and the tuning, on small networks and on the real one."""

import sys

import numpy as np
import pytest
import torch
from conftest import lisa_face, small_generator

from inversion import PivotConfig, TuneConfig, pivot, tune
from inversion.tune import _middle, _pixel_weight, falling
from pipeline import finish
from weights import Perceptual, load_generator, load_perceptual, to_image


@pytest.fixture(scope="module")
def perceptual() -> Perceptual:
    return load_perceptual("st-lpips-alex", size=32)


def test_a_rate_falls_in_its_last_share() -> None:
    assert falling(0.0, 0.25) == 1 and falling(0.75, 0.25) == 1 and falling(1.0, 0.25) == pytest.approx(0)
    assert falling(0.875, 0.25) == pytest.approx(0.5)  # halfway down a cosine
    assert falling(0.9, 0.0) == 1


def test_the_pivot_first_moves_a_tenth_of_the_spread_and_is_the_best_so_far(perceptual: Perceptual) -> None:
    generator = small_generator()
    target = generator.render(generator.sample(1, seed=5))
    steps = list(pivot(generator, target, perceptual, PivotConfig(steps=20)))
    moved = (steps[1].latent - steps[0].latent).square().mean().sqrt().item()
    assert moved == pytest.approx(0.1 * generator.spread, rel=1e-3)
    scores = [step.score for step in steps]
    assert scores == sorted(scores, reverse=True) and scores[20] < 0.5 * scores[0]
    assert [step.index for step in steps] == list(range(21))


@pytest.mark.parametrize("space", ["w", "w+"])
def test_the_pivot_finds_a_picture_of_the_generators_own(space, perceptual: Perceptual) -> None:
    generator = small_generator()
    target = generator.render(generator.sample(1, seed=5, psi=0.7))
    config = PivotConfig(space=space, steps=120, mean_weight=0.0)
    steps = list(pivot(generator, target, perceptual, config))
    first, last = (generator.render(step.latent[None]) for step in (steps[0], steps[-1]))
    assert (last - target).square().mean() < 0.1 * (first - target).square().mean()
    torch.testing.assert_close(steps[0].latent, generator.mean_latent)
    rows_alike = torch.equal(steps[-1].latent, steps[-1].latent[:1].expand_as(steps[-1].latent))
    assert rows_alike == (space == "w")


@pytest.mark.parametrize("space", ["w", "w+"])
def test_the_pivot_starts_where_it_is_told_and_takes_half_the_steps(space, perceptual: Perceptual) -> None:
    generator = small_generator()
    start = generator.sample(1, seed=5)[0]
    target = generator.render(start[None])
    steps = list(pivot(generator, target, perceptual, PivotConfig(space=space), start))
    torch.testing.assert_close(steps[0].latent, start)
    assert steps[-1].limit == 25
    assert next(pivot(generator, target, perceptual, PivotConfig())).limit == 50


def test_the_pull_keeps_the_pivot_near_the_mean(perceptual: Perceptual) -> None:
    generator = small_generator()
    target = generator.render(generator.sample(1, seed=5))
    far = {
        weight: (finish(pivot(generator, target, perceptual, config)).latent - generator.mean_latent).norm()
        for weight in (0.0, 3.0)
        if (config := PivotConfig(steps=40, mean_weight=weight))
    }
    assert far[3.0] < 0.7 * far[0.0]


def test_tuning_stops_when_it_is_near_enough(perceptual: Perceptual) -> None:
    generator = small_generator()
    target = generator.render(generator.sample(1, seed=5)).clamp(-1, 1)
    latent = generator.sample(1, seed=6)[0]
    start = next(tune(generator, latent, target, perceptual, TuneConfig())).score
    last = finish(tune(generator, latent, target, perceptual, TuneConfig(enough=start / 2, near=0)))
    assert last.arrived and last.index < last.limit and last.score <= start / 2
    untuned = list(tune(generator, latent, target, perceptual, TuneConfig(steps=0)))
    assert len(untuned) == 1 and untuned[0].score == start
    already = list(tune(generator, latent, target, perceptual, TuneConfig(enough=start + 1, near=0)))
    assert len(already) == 1 and already[0].arrived  # tested before the first update
    far = next(tune(generator, latent, target, perceptual, TuneConfig(enough=start + 1, near=100.0)))
    assert not far.arrived  # alike as the perceptual distance sees it, but not near


def test_tuning_goes_on_where_the_drawing_is_still_far_from_the_face(
    perceptual: Perceptual, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["inversion.tune"], "STEPS", 20)
    generator = small_generator()
    target = generator.render(generator.sample(1, seed=5)).clamp(-1, 1)
    latent = generator.sample(1, seed=6)[0]

    def limits(config: TuneConfig) -> list[int]:
        return [step.limit for step in tune(generator, latent, target, perceptual, config)]

    assert limits(TuneConfig(enough=0, near=100.0)) == [20] * 17 + [40] * 24  # told as the rate is about to fall
    assert limits(TuneConfig(enough=0, near=5.0)) == [20] * 21
    assert limits(TuneConfig(enough=0, near=100.0, steps=20)) == [20] * 21  # who asks for 20 gets 20


def test_locality_holds_the_generator_away_from_the_pivot(perceptual: Perceptual) -> None:
    generator = small_generator()
    target = generator.render(generator.sample(1, seed=5)).clamp(-1, 1)
    latent = generator.sample(1, seed=6)[0]
    elsewhere = generator.sample(8, seed=7)
    before = generator.render(elsewhere)
    changed = []
    for weight in (0.0, 10.0):
        config = TuneConfig(steps=40, enough=0, locality_weight=weight, locality_distance=5.0)
        last = finish(tune(generator, latent, target, perceptual, config))
        changed.append((generator.tuned(last.weights).render(elsewhere) - before).square().mean().item())
    assert changed[1] < 0.7 * changed[0]


def test_a_real_face_is_drawn_better_by_each_stage() -> None:
    """The embedded generator on lisa1, with a third of the usual steps."""
    generator, perceptual = load_generator(), load_perceptual("st-lpips-vgg", size=64)
    target = to_image(lisa_face(generator.resolution).pixels)

    def psnr(image: torch.Tensor) -> float:
        return 10 * np.log10(4 / (image - target).square().mean().item())

    latent = finish(pivot(generator, target, perceptual, PivotConfig(steps=35))).latent
    last = finish(tune(generator, latent, target, perceptual, TuneConfig(steps=40)))
    stages = [
        psnr(generator.render(generator.mean_latent[None])),
        psnr(generator.render(latent[None])),
        psnr(generator.tuned(last.weights).render(latent[None])),
    ]
    assert stages[0] + 2 < stages[1] < stages[2] - 2
    assert stages[2] > 22


def test_the_middle_of_a_picture_and_the_weights_of_a_face() -> None:
    picture = torch.arange(64.0).reshape(1, 1, 8, 8)
    assert torch.equal(_middle(picture, 0.75), picture[..., 1:7, 1:7]) and torch.equal(_middle(picture, 1.0), picture)
    weight = _pixel_weight(torch.zeros(1, 3, 200, 200), 4.0)
    assert weight.mean().item() == pytest.approx(1)
    at = {"middle": (105, 100), "beside": (105, 142), "corner": (0, 0)}  # row, column
    times = {name: (weight[place] / weight[at["corner"]]).item() for name, place in at.items()}
    assert times["middle"] == pytest.approx(5, rel=0.01)
    assert times["beside"] == pytest.approx(1 + 4 / np.e, rel=0.01)
    assert torch.equal(_pixel_weight(torch.zeros(1, 3, 8, 8), 0.0), torch.ones(8, 8))


def test_coarse_convolutions_move_less(perceptual: Perceptual) -> None:
    generator = load_generator()
    target = to_image(lisa_face(generator.resolution).pixels)
    last = finish(tune(generator, generator.mean_latent, target, perceptual, TuneConfig(steps=1)))
    before = generator.network.synthesis.state_dict()

    def moved(name: str) -> float:
        """By Adam's first step every value moves by its learning rate."""
        return (last.weights[name] - before[name]).abs().max().item()

    assert moved("b32.conv1.weight") == pytest.approx(0.3 * 3e-3, rel=0.01)
    assert moved("b64.conv0.weight") == pytest.approx(3e-3, rel=0.01)
    assert moved("b32.torgb.weight") == pytest.approx(3e-3, rel=0.01)


def test_tuning_draws_the_face_before_what_is_around_it(perceptual: Perceptual) -> None:
    generator = load_generator()
    target = to_image(lisa_face(generator.resolution).pixels)
    size = generator.resolution

    def error(face_weight: float) -> tuple[float, float]:
        config = TuneConfig(steps=20, view=1.0, coarse_rate=1.0, face_weight=face_weight)
        last = finish(tune(generator, generator.mean_latent, target, perceptual, config))
        wrong = (generator.tuned(last.weights).render(generator.mean_latent[None]) - target).square()
        face = wrong[..., size * 3 // 8 : size * 5 // 8, size * 3 // 8 : size * 5 // 8].mean().item()
        return face, wrong[..., : size // 8, :].mean().item()

    (face, rim), (weighed_face, weighed_rim) = error(0.0), error(20.0)
    assert weighed_face < 0.8 * face
    assert weighed_rim > rim
