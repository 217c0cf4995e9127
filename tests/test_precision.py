"""bfloat16 in the loops: only where it is fast, and good enough there. Every processor can do it, fast or not."""

from __future__ import annotations

import pytest
import torch
from conftest import lisa_face, small_generator
from torch import nn

import weights.precision
from inversion import PivotConfig, TuneConfig, pivot, tune
from pipeline import finish
from weights import Perceptual, channels_last, fast_copy, fast_products, load_perceptual, product_type, to_image
from weights.perceptual import _lpips_package, from_lpips
from weights.precision import multiplies_bfloat16


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights.precision, "multiplies_bfloat16", lambda: True)


@pytest.fixture
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights.precision, "multiplies_bfloat16", lambda: False)


@pytest.mark.parametrize(
    ("told", "expected"),
    [({"avx512_bf16": True}, True), ({"amx_bf16": True}, True), ({"avx2": True, "avx512_bf16": False}, False)],
)
def test_the_processor_is_asked(told: dict[str, bool], expected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: told, raising=False)
    assert multiplies_bfloat16.__wrapped__() == expected


def test_a_torch_that_cannot_tell_says_no(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert not multiplies_bfloat16.__wrapped__()


def test_elsewhere_all_stays_as_it_is(wide: None) -> None:
    cpu, layer, perceptual = torch.device("cpu"), nn.Conv2d(4, 4, 3), load_perceptual("st-lpips-alex", size=32)
    assert product_type("cpu") == torch.float32 and perceptual.fast() is perceptual
    with fast_products(cpu):
        assert layer(torch.zeros(1, 4, 8, 8)).dtype == torch.float32
    assert fast_copy(layer, cpu).weight.is_contiguous() and fast_copy(layer, cpu) is not layer


def test_gpus_keep_single_precision(narrow: None) -> None:
    assert product_type("cuda") == torch.float32


def test_what_is_fast_is_laid_channels_last_and_multiplies_in_bfloat16(narrow: None) -> None:
    cpu, layer = torch.device("cpu"), nn.Conv2d(4, 4, 3)
    twin = fast_copy(layer, cpu)
    assert twin.weight.is_contiguous(memory_format=torch.channels_last) and layer.weight.is_contiguous()
    assert torch.equal(twin.weight, layer.weight) and twin.weight.dtype == torch.float32
    with fast_products(cpu):
        assert twin(torch.zeros(1, 4, 8, 8)).dtype == torch.bfloat16
    assert channels_last(layer) is layer


def distance_of(name: str) -> Perceptual:
    """LPIPS with a random trunk, since the trained ones are not in the package."""
    if name.startswith("st-"):
        return load_perceptual(name, size=64)
    torch.manual_seed(0)
    return from_lpips(_lpips_package().LPIPS(net=name.split("-")[1], pnet_rand=True, verbose=False), name)


@pytest.mark.parametrize("name", ["st-lpips-vgg", "st-lpips-alex", "lpips-alex"])
@pytest.mark.filterwarnings("ignore:The parameter 'pretrained'", "ignore:Arguments other than a weight enum")
def test_a_fast_distance_is_the_same_to_two_digits(name: str, narrow: None) -> None:
    exact, fast = (found := distance_of(name)), found.fast()
    image = to_image(lisa_face(64).pixels).requires_grad_(True)
    other = image.detach().flip(3)
    gradients = [torch.autograd.grad(distance(image, other).sum(), image)[0] for distance in (exact, fast)]
    torch.testing.assert_close(fast(image, other), exact(image, other), rtol=0.01, atol=0)
    assert torch.cosine_similarity(*(gradient.flatten() for gradient in gradients), dim=0) > 0.98
    assert fast.fast() is fast and fast.name == exact.name


@torch.no_grad()
def test_a_picture_is_summed_up_in_single_precision(narrow: None) -> None:
    """Of blocks that add their bias alone: bfloat16 would round 0.123 to 0.123047, and what comes of it likewise."""
    generator = small_generator()
    for block in generator.network.synthesis.children():
        block.torgb.weight.zero_()
        block.torgb.bias.copy_(torch.tensor([0.123, -0.456, 0.789]))
    ws = generator.sample(1, seed=0)
    exact = generator.network.synthesis(ws)
    with fast_products(generator.device):
        fast = generator.network.synthesis(ws)
    assert fast.dtype == torch.float32
    torch.testing.assert_close(fast, exact, rtol=0, atol=1e-6)


def test_loops_come_as_far_and_give_single_precision(narrow: None, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = small_generator()
    perceptual: Perceptual = load_perceptual("st-lpips-alex", size=32)
    target = generator.render(generator.sample(1, seed=5, psi=0.7)).clamp(-1, 1)
    scores = []
    for answer in (True, False):
        monkeypatch.setattr(weights.precision, "multiplies_bfloat16", lambda answer=answer: answer)
        found = finish(pivot(generator, target, perceptual, PivotConfig(steps=25)))
        tuned = finish(tune(generator, found.latent, target, perceptual, TuneConfig(steps=40, enough=0)))
        assert found.latent.dtype == torch.float32
        assert all(t.dtype == torch.float32 and t.is_contiguous() for t in tuned.weights.values())
        picture = generator.tuned(tuned.weights).render(found.latent[None])
        scores.append((picture - target).square().mean().item())
    assert scores[0] < 1.2 * scores[1]
