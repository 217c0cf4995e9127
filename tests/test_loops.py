"""The rules that all three loops keep."""

from collections.abc import Callable, Iterator

import pytest
import torch
from conftest import small_generator

from drag import DragConfig, DragEdit, drag
from inversion import PivotConfig, TuneConfig, pivot, tune
from pipeline import Step, finish, keep_last
from weights import Generator, load_perceptual

STEPS = 4


def run_pivot(generator: Generator, latent: torch.Tensor, target: torch.Tensor) -> Iterator[Step]:
    return pivot(generator, target, load_perceptual("st-lpips-alex"), PivotConfig(steps=STEPS))


def run_tune(generator: Generator, latent: torch.Tensor, target: torch.Tensor) -> Iterator[Step]:
    return tune(generator, latent, target, load_perceptual("st-lpips-alex"), TuneConfig(steps=STEPS, enough=0))


def run_drag(generator: Generator, latent: torch.Tensor, target: torch.Tensor) -> Iterator[Step]:
    return drag(generator, latent, DragEdit([[10, 10]], [[20, 12]]), DragConfig(steps=STEPS))


Loop = Callable[[Generator, torch.Tensor, torch.Tensor], Iterator[Step]]
every_loop = pytest.mark.parametrize("loop", [run_pivot, run_tune, run_drag])


@pytest.fixture
def arguments() -> tuple[Generator, torch.Tensor, torch.Tensor]:
    generator = small_generator()
    target = generator.render(generator.sample(1, seed=5)).clamp(-1, 1)
    return generator, generator.sample(1, seed=6)[0], target


def value(step: Step) -> list[torch.Tensor]:
    return list(step.weights.values()) if hasattr(step, "weights") else [step.latent]


@every_loop
def test_step_0_is_the_start_and_the_last_is_the_limit(loop: Loop, arguments) -> None:
    steps = list(loop(*arguments))
    assert [step.index for step in steps] == list(range(STEPS + 1))
    assert all(step.limit == STEPS for step in steps)
    again = next(loop(*arguments))
    assert all(torch.equal(a, b) for a, b in zip(value(steps[0]), value(again), strict=True))


@every_loop
def test_a_step_stays_what_it_was(loop: Loop, arguments) -> None:
    steps = loop(*arguments)
    first = next(steps)
    before = [tensor.clone() for tensor in value(first)]
    last = finish(steps)
    assert all(torch.equal(a, b) for a, b in zip(value(first), before, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(value(last), before, strict=True))


@every_loop
def test_arguments_are_never_changed(loop: Loop, arguments) -> None:
    generator, latent, target = arguments
    before = [t.clone() for t in (latent, target, *generator.network.state_dict().values())]
    finish(loop(*arguments))
    after = [latent, target, *generator.network.state_dict().values()]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


@every_loop
def test_a_loop_repeats_itself(loop: Loop, arguments) -> None:
    first, second = (value(finish(loop(*arguments))) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@every_loop
def test_a_callers_modes_neither_stop_a_loop_nor_leak(loop: Loop, arguments) -> None:
    expected = value(finish(loop(*arguments)))
    with torch.inference_mode():
        steps = loop(*arguments)
        next(steps)
        assert torch.is_inference_mode_enabled()
        found = value(finish(steps))
    assert not torch.is_inference_mode_enabled() and torch.is_grad_enabled()
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


@every_loop
def test_leaving_early_keeps_the_last_step(loop: Loop, arguments) -> None:
    saved: list[Step] = []
    steps = keep_last(loop(*arguments), saved.append)
    next(steps), next(steps)
    steps.close()
    assert [step.index for step in saved] == [1]


def test_ctrl_c_inside_a_step_keeps_the_one_before() -> None:
    def steps() -> Iterator[Step]:
        yield from list(run_drag(small_generator(), small_generator().sample(1, 0)[0], torch.zeros(0)))[:2]
        raise KeyboardInterrupt

    saved: list[Step] = []
    with pytest.raises(KeyboardInterrupt):
        finish(keep_last(steps(), saved.append))
    assert [step.index for step in saved] == [1]


@pytest.mark.parametrize(("cost", "expected"), [(1 / 8, [0, 1, 2, 3, 4]), (1 / 4, [0, 2, 4]), (4.0, [0])])
def test_saving_on_the_way_takes_a_fifth_of_the_time_at_most(monkeypatch, cost: float, expected: list[int]) -> None:
    clock, saved, last = [0.0], [], []
    monkeypatch.setattr("pipeline.progress.time.monotonic", lambda: clock[0])

    def steps() -> Iterator[Step]:  # each takes a second
        for step in list(run_drag(small_generator(), small_generator().sample(1, 0)[0], torch.zeros(0))):
            yield step
            clock[0] += 1.0

    def save(step: Step) -> None:
        saved.append(step.index)
        clock[0] += cost

    finish(keep_last(steps(), last.append, on_the_way=save))
    assert saved == expected and [step.index for step in last] == [STEPS]


def test_nothing_is_saved_where_nothing_was_done() -> None:
    saved: list[Step] = []
    with pytest.raises(ValueError, match="no step"):
        finish(keep_last(iter([]), saved.append))
    assert saved == []
