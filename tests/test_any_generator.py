"""Generators of every size, and photos without a face, the whole way: the network says its rows and sizes."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import DATA
from PIL import Image

from align import Photo
from drag import DragConfig
from inversion import PivotConfig, TuneConfig
from pipeline import Config, EditSession, StaleResult, finish
from pipeline.cli import main
from weights import StyleGAN2, StyleGAN2Config, save_generator

CONFIG = Config(
    perceptual="st-lpips-alex", perceptual_size=64,
    pivot=PivotConfig(steps=1), tune=TuneConfig(steps=1), drag=DragConfig(steps=2),
)  # fmt: skip
FEW = ["--perceptual", "st-lpips-alex", "--pivot.steps", "1", "--tune.steps", "1", "--drag.steps", "2"]


def saved(path: Path, resolution: int, w_dim: int = 8, width: int = 0, **facts: str) -> str:
    """A random network of few channels."""
    torch.manual_seed(0)
    config = StyleGAN2Config(resolution, 8, w_dim, mapping_layers=2, channel_base=2048, channel_max=4, img_width=width)
    save_generator(StyleGAN2(config), path, facts=facts)
    return str(path)


@pytest.mark.parametrize(
    ("resolution", "w_dim", "rows"), [(64, 8, 10), (128, 12, 12), (256, 8, 14), (512, 6, 16), (1024, 8, 18)]
)
def test_any_resolution_goes_the_whole_way(tmp_path: Path, resolution: int, w_dim: int, rows: int) -> None:
    generator = saved(tmp_path / "g.safetensors", resolution, w_dim)
    session = EditSession(tmp_path / "s", CONFIG)
    session.add_photo(DATA / "lisa1.jpg")
    session.align(kind="square")
    finish(session.invert(generator))
    last = finish(session.drag(np.array([[300.0, 400.0]]), np.array([[320.0, 380.0]])))
    assert last is not None and last.latent.shape == session.inversion.latent.shape == (rows, w_dim)
    assert session.draw(last.latent).shape == (resolution, resolution, 3)


def photodrag(monkeypatch, *arguments: object) -> str | int:
    monkeypatch.setattr(sys, "argv", ["photodrag", *map(str, arguments)])
    try:
        main()
    except SystemExit as end:
        return end.code or 0
    return 0


@pytest.fixture
def landscape(tmp_path: Path) -> Path:
    """A photo of 240 x 160 px without a face in it."""
    y, x = np.mgrid[:160, :240]
    pixels = np.stack([x, 255 - y, 128 + 60 * np.sin(x / 9)], -1).clip(0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def test_a_generator_says_how_its_photos_are_cut(monkeypatch, tmp_path: Path, landscape: Path) -> None:
    generator = saved(tmp_path / "cars.safetensors", 64, alignment="none")
    options = ["--generator", generator, "--drag", "100,80:110,70", "--session", tmp_path / "s", *FEW]
    assert photodrag(monkeypatch, "edit", landscape, *options, "-o", tmp_path / "out.png") == 0
    session = EditSession(tmp_path / "s")
    assert session.alignment == "none" and session.face(240).scale == 1
    assert Photo.load(tmp_path / "out.png").pixels.shape == (160, 240, 3)


def test_a_narrow_network_edits_too(monkeypatch, tmp_path: Path, landscape: Path) -> None:
    generator = saved(tmp_path / "people.safetensors", 64, width=32, alignment="none")
    options = ["--generator", generator, "--drag", "120,80:110,70", *FEW]
    assert photodrag(monkeypatch, "edit", landscape, *options, "-o", tmp_path / "out.png") == 0


def test_a_box_by_hand_and_what_contradicts_itself(monkeypatch, tmp_path: Path, landscape: Path) -> None:
    align = ["align", tmp_path / "s", "--photo", landscape]
    assert photodrag(monkeypatch, *align, "--align", "square", "--box", "20,10,100,100") == 0
    session = EditSession(tmp_path / "s")
    assert session.alignment == "square" and session.face(100).scale == 1
    np.testing.assert_array_equal(session.face(100).pixels, session.photo.pixels[10:110, 20:120])
    for options, message in [
        (["--box", "20,10,100"], "is not x,y,w,h"),
        (["--box", "200,10,100,100"], "must lie in the photo"),
        (["--align", "none", "--box", "20,10,100,100"], "goes with --align square"),
        (["--align", "square", "--face", "2"], "looks for none"),
    ]:
        assert message in str(photodrag(monkeypatch, *align, *options))


def test_a_face_is_nothing_for_cats(small_session: EditSession, tmp_path: Path) -> None:
    cats = saved(tmp_path / "cats.safetensors", 64, alignment="square")
    with pytest.raises(StaleResult, match=r'knows pictures cut as "square".*--align square` first'):
        finish(small_session.invert(cats))
