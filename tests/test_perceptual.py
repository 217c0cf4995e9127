"""The perceptual distances: equal to the lpips package, sane where only figures are known, honest about their names."""

import pytest
import torch
import torch.nn.functional as F
from conftest import lisa_face

from weights import WeightsMissing, load_perceptual, to_image
from weights.perceptual import _lpips_package, from_lpips


@pytest.fixture(scope="module")
def image() -> torch.Tensor:
    return to_image(lisa_face(64).pixels)


@pytest.mark.parametrize("net", ["alex", "vgg", "squeeze"])
@pytest.mark.filterwarnings("ignore:The parameter 'pretrained'", "ignore:Arguments other than a weight enum")
def test_same_figure_as_the_lpips_package(net: str, image: torch.Tensor) -> None:
    """With random trunks, since the trained ones are not in the package; its trained heads are."""
    torch.manual_seed(0)
    model = _lpips_package().LPIPS(net=net, pnet_rand=True, verbose=False)
    other = image.flip(3)
    ours = from_lpips(model, "test")(image, other)
    torch.testing.assert_close(ours, model(image, other).flatten())
    assert ours > 0


@pytest.mark.parametrize("name", ["st-lpips-vgg", "st-lpips-alex"])
def test_st_lpips_grows_with_noise_and_forgives_a_shift(name: str, image: torch.Tensor) -> None:
    perceptual = load_perceptual(name)
    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(0))
    little, more = (perceptual(image + amount * noise, image).item() for amount in (0.02, 0.2))
    assert perceptual(image, image).item() == 0
    assert 0 < 4 * little < more
    assert perceptual(image.roll(1, 3), image).item() < more / 4


def test_large_images_are_averaged_down(image: torch.Tensor) -> None:
    small = load_perceptual("st-lpips-alex", size=32)
    halved = F.interpolate(image, size=(32, 32), mode="area")
    torch.testing.assert_close(small(image, image.flip(3)), small(halved, halved.flip(3)))


def test_auto_falls_back_and_says_so(tmp_path, monkeypatch, caplog) -> None:
    monkeypatch.setenv("PHOTODRAG_CACHE", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with caplog.at_level("INFO"):
        perceptual = load_perceptual("auto", offline=True)
    assert perceptual.name == "ST-LPIPS (vgg)"
    assert "LPIPS is not at hand" in caplog.text and "alexnet" in caplog.text


def test_asked_for_by_name_it_does_not_fall_back(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("PHOTODRAG_CACHE", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(WeightsMissing, match="get it from"):
        load_perceptual("lpips-alex", offline=True)
