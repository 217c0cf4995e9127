"""Fetching files, from a server on this machine."""

import hashlib
import http.server
import threading
from functools import partial
from pathlib import Path

import pytest

from weights import KnownFile, WeightsCorrupt, WeightsMissing, fetch

CONTENT = b"some weights" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(tmp_path):
    folder = tmp_path / "server"
    folder.mkdir()
    (folder / "weights.bin").write_bytes(CONTENT)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("PHOTODRAG_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize("sha256", [SHA256, SHA256[:8]])
def test_a_file_is_fetched_checked_and_kept(server: str, cache: Path, sha256: str) -> None:
    known = KnownFile("weights.bin", f"{server}/weights.bin", sha256, "")
    assert fetch(known) == cache / "weights.bin"
    assert (cache / "weights.bin").read_bytes() == CONTENT
    assert fetch(KnownFile("weights.bin", "http://127.0.0.1:9/none", sha256, "")) == cache / "weights.bin"


def test_a_file_of_another_sum_is_refused_and_not_kept(server: str, cache: Path) -> None:
    with pytest.raises(WeightsCorrupt, match="should have 00000000"):
        fetch(KnownFile("weights.bin", f"{server}/weights.bin", "0" * 64, ""))
    assert list(cache.iterdir()) == []


def test_a_damaged_file_in_the_cache_is_not_used(server: str, cache: Path) -> None:
    cache.mkdir()
    (cache / "weights.bin").write_bytes(b"damaged")
    with pytest.raises(WeightsCorrupt, match="remove it"):
        fetch(KnownFile("weights.bin", f"{server}/weights.bin", SHA256, ""))


def test_what_is_nowhere_is_missing(server: str, cache: Path) -> None:
    with pytest.raises(WeightsMissing, match="could not be fetched"):
        fetch(KnownFile("other.bin", f"{server}/other.bin", SHA256, ""))
    with pytest.raises(WeightsMissing, match="get it from"):
        fetch(KnownFile("other.bin", f"{server}/other.bin", SHA256, ""), offline=True)


def test_another_programs_cache_is_looked_into(tmp_path, cache: Path) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "weights.bin").write_bytes(CONTENT)
    found = fetch(KnownFile("weights.bin", "", SHA256, ""), also_in=(tmp_path / "theirs",), offline=True)
    assert found == tmp_path / "theirs" / "weights.bin"
