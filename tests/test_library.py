"""Generators by name: imported once, then no pickle is opened; and `photodrag weights`."""

import dataclasses
import sys
import threading
from pathlib import Path

import pytest
import torch
from conftest import small_generator
from layouts import dump, persistent, rosinality, save
from local_server import Server
from safetensors import SafetensorError

import weights
from pipeline.cli import main
from weights import (
    KNOWN,
    BadName,
    KnownFile,
    NotSaved,
    WeightsCorrupt,
    WeightsMissing,
    generator_file,
    import_generator,
    imported,
    load_generator,
    save_generator,
    sha256_of,
    verify_generator,
)  # fmt: skip
from weights.encoder import Encoder, save_encoder

pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture
def pickled(tmp_path: Path) -> Path:
    return dump({"G_ema": persistent(small_generator(16).network)}, tmp_path / "cats.pkl")


def same(generator: weights.Generator, resolution: int = 16) -> bool:
    expected = small_generator(resolution)
    latents = expected.sample(1, seed=0)
    return torch.equal(generator.render(latents), expected.render(latents))


def test_an_imported_generator_is_known_by_its_name(pickled: Path, monkeypatch) -> None:
    path = import_generator(pickled, "my-cats")
    pickled.unlink()
    monkeypatch.setattr(weights.library, "read_checkpoint", None)
    assert imported() == ["my-cats"] and same(load_generator("my-cats"))
    assert verify_generator("my-cats") == sha256_of(path)
    with pytest.raises(BadName, match="is a my-cats already"):
        import_generator(path, "my-cats")


def test_a_path_to_a_pickle_is_converted_once(pickled: Path, monkeypatch) -> None:
    assert same(load_generator(pickled))
    monkeypatch.setattr(weights.library, "read_checkpoint", None)
    assert same(load_generator(str(pickled)))
    assert imported() == []


def test_our_own_files_are_imported_too(tmp_path: Path) -> None:
    save_generator(small_generator(16).network, tmp_path / "ours.pkl", torch.float32)  # its name says nothing
    assert same(load_generator(tmp_path / "ours.pkl"))
    import_generator(tmp_path / "ours.pkl", "ours")
    assert same(load_generator("ours"))


def test_an_encoder_comes_along(tmp_path: Path) -> None:
    network = small_generator(16).network
    save_generator(network, tmp_path / "ours.safetensors")
    digest = sha256_of(tmp_path / "ours.safetensors")
    save_encoder(Encoder(network.config), tmp_path / "ours-encoder.safetensors", digest)
    import_generator(tmp_path / "ours.safetensors", "ours")
    generator = load_generator("ours")
    assert generator.encoder is not None and generator.sha256 == digest and imported() == ["ours"]
    assert len(weights.remove("ours")) == 3 and imported() == []


@pytest.mark.parametrize("name", ["", "../up", "a/b", "embedded", "x.pkl", "-x", "a b", "ü"])
def test_names_that_are_none(pickled: Path, name: str) -> None:
    with pytest.raises(BadName, match="is no name"):
        import_generator(pickled, name)


def test_what_is_not_there_is_told(tmp_path: Path, pickled: Path) -> None:
    with pytest.raises(WeightsMissing, match="photodrag weights fetch ffhq-1024"):
        load_generator("ffhq-1024")
    import_generator(pickled, "cats")
    with pytest.raises(WeightsMissing, match=r'"embedded", cats, the path of .*weights list'):
        load_generator("dogz")
    with pytest.raises(WeightsMissing, match="no file"):
        import_generator(tmp_path / "none.pkl", "x")


def test_a_known_name_is_for_the_known_file(pickled: Path) -> None:
    with pytest.raises(WeightsCorrupt, match="not the ffhq-1024 that is known"):
        import_generator(pickled, "ffhq-1024")
    import_generator(pickled, "dogs")  # whose sum nobody published
    generator = load_generator("dogs")
    assert generator.alignment == "square" and generator.tuned({}).alignment == "square"


def test_a_changed_file_does_not_verify(pickled: Path) -> None:
    path = import_generator(pickled, "cats")
    save_generator(small_generator(16, seed=1).network, path)
    with pytest.raises(WeightsCorrupt, match="has changed since it was imported"):
        verify_generator("cats")


def test_a_failed_import_leaves_nothing(tmp_path: Path) -> None:
    dump({"D": 1}, tmp_path / "d.pkl")
    with pytest.raises(WeightsCorrupt, match="discriminator only"):
        import_generator(tmp_path / "d.pkl", "d")
    assert imported() == []


def test_a_cache_that_cannot_be_written_is_told(pickled: Path, monkeypatch, tmp_path: Path) -> None:
    def full(tensors, path, metadata):
        Path(path).write_bytes(b"half")
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(weights.hub, "save_file", full)
    with pytest.raises(NotSaved, match=r"No space left.*PHOTODRAG_CACHE"):
        import_generator(pickled, "cats")
    assert imported() == [] and not list(generator_file("cats").parent.glob("*.part"))
    (tmp_path / "a-file").write_bytes(b"")
    monkeypatch.setenv("PHOTODRAG_CACHE", str(tmp_path / "a-file"))
    with pytest.raises(NotSaved, match="move the cache with PHOTODRAG_CACHE"):
        import_generator(pickled, "cats")


# --- the commands -------------------------------------------------------------------------------------------------


def run(monkeypatch, capsys, *arguments: object) -> tuple[int, str]:
    monkeypatch.setattr(sys, "argv", ["photodrag", "weights", *map(str, arguments)])
    code: object = 0
    try:
        main()
    except SystemExit as end:
        code = end.code or 0
    told = capsys.readouterr().out
    return (1, told + code) if isinstance(code, str) else (int(str(code)), told)


def test_import_list_show_verify_where_remove(monkeypatch, capsys, tmp_path: Path) -> None:
    source = save({"g_ema": rosinality(small_generator(16).network)}, tmp_path / "550000.pt")
    assert run(monkeypatch, capsys, "import", source, "--name", "churches")[0] == 0
    code, listed = run(monkeypatch, capsys, "list")
    assert code == 0 and all(name in listed for name in ("embedded", "churches  ", *KNOWN))
    assert "rosinality" in run(monkeypatch, capsys, "show", "churches")[1]
    assert "licence: CC BY 4.0" in run(monkeypatch, capsys, "show", "lions")[1]
    assert "as it should be" in run(monkeypatch, capsys, "verify")[1]
    assert run(monkeypatch, capsys, "where", "churches")[1].strip() == str(generator_file("churches"))
    assert run(monkeypatch, capsys, "remove", "churches")[0] == 0
    for command in ("remove", "verify", "show", "where"):
        code, told = run(monkeypatch, capsys, command, "churches")
        assert code == 1 and told.count("\n") <= 1


def test_fetch_tells_the_terms_checks_and_imports(monkeypatch, capsys, tmp_path: Path) -> None:
    content = dump({"G_ema": persistent(small_generator(16).network)}, tmp_path / "g.pkl").read_bytes()
    with Server(content) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        known = KnownFile("lynx", server.known.url, "", "CC0", "lynx.pkl", len(content), "", 16, "lynxes", "square")
        monkeypatch.setitem(KNOWN, "lynx", known)
        code, told = run(monkeypatch, capsys, "fetch", "lynx")
        server.shutdown()
    assert code == 0 and told.startswith("lynx: 0 MB, CC0") and "--generator lynx" in told
    assert load_generator("lynx").alignment == "square" and same(load_generator("lynx"))
    assert "here already" in run(monkeypatch, capsys, "fetch", "lynx")[1] and len(server.ranges) == 1
    monkeypatch.setitem(KNOWN, "lynx", dataclasses.replace(known, sha256="0" * 64))
    code, told = run(monkeypatch, capsys, "verify", "lynx")
    assert code == 1 and "set aside" in told


def test_fetch_without_network_and_unknown_names(monkeypatch, capsys) -> None:
    assert "weights list" in run(monkeypatch, capsys, "fetch", "nothing")[1]
    assert "put it at" in run(monkeypatch, capsys, "fetch", "lions", "--offline")[1]
    code, told = run(monkeypatch, capsys, "fetch", "human-512")
    assert code == 1 and "weights import FILE --name human-512" in told and "non-commercial" in told
