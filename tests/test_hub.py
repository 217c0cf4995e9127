"""Fetching files, from a server on this machine that fails in every way."""

import dataclasses
import errno
import hashlib
import random
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from local_server import Server, early_close, failing, serve

from weights import KNOWN, KnownFile, WeightsCorrupt, WeightsMissing, cache_folder, download, fetch, hub

CONTENT = random.Random(0).randbytes(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
KNOWN_FILE = KnownFile("weights.bin", "", SHA256, "")


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(CONTENT) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture(autouse=True)
def quick(cache, monkeypatch) -> None:
    monkeypatch.setattr(hub, "WAITS", (0.0, 0.0))


def get(known: KnownFile) -> Path:
    for _ in download(known, waits=(0.0, 0.0)):
        pass
    return cache_folder() / known.file_name


def left(cache: Path) -> set[str]:
    return {path.name for path in cache.iterdir() if path.suffix != ".lock"}


@pytest.mark.parametrize("sha256", [SHA256, SHA256[:8]])
def test_a_file_is_fetched_checked_and_kept(server: Server, cache: Path, sha256: str) -> None:
    known = dataclasses.replace(server.known, sha256=sha256)
    assert fetch(known) == cache / "weights.bin"
    assert (cache / "weights.bin").read_bytes() == CONTENT and left(cache) == {"weights.bin"}
    assert fetch(dataclasses.replace(known, url="http://127.0.0.1:9/none")) == cache / "weights.bin"


def test_how_far_it_has_come_is_told(server: Server, monkeypatch) -> None:
    monkeypatch.setattr(hub, "CHUNK", 100_000)
    assert [(r.index, r.limit) for r in download(server.known)] == [(n, 300_000) for n in (100_000, 200_000, 300_000)]


def test_a_broken_download_goes_on(server: Server) -> None:
    server.failures += [early_close, early_close]
    assert get(server.known).read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=100000-", "bytes=200000-"]


def test_the_next_call_goes_on_too(server: Server, cache: Path) -> None:
    server.failures += [early_close, failing(503), failing(503)]
    with pytest.raises(WeightsMissing, match=r"503.*goes on where it stopped"):
        get(server.known)
    assert (cache / "weights.bin.part").stat().st_size == 100_000
    assert get(server.known).read_bytes() == CONTENT
    assert server.ranges[-1] == "bytes=100000-" and left(cache) == {"weights.bin"}


def test_a_closed_generator_keeps_its_part(server: Server, cache: Path, monkeypatch) -> None:
    monkeypatch.setattr(hub, "CHUNK", 100_000)
    steps = download(server.known)
    next(steps)
    steps.close()  # as Ctrl-C does
    assert (cache / "weights.bin.part").stat().st_size == 100_000


def test_a_server_without_ranges_begins_again(server: Server) -> None:
    server.failures += [early_close, lambda request: serve(request, ranges=False)]
    assert get(server.known).read_bytes() == CONTENT


def test_a_file_that_changed_in_between_is_fetched_anew(server: Server) -> None:
    other = bytes(300_000)
    server.failures += [lambda request: serve(request, other, sent=100_000)]
    assert get(server.known).read_bytes() == CONTENT


def test_a_part_longer_than_the_file_begins_again(server: Server, cache: Path) -> None:
    cache.mkdir()
    (cache / "weights.bin.part").write_bytes(bytes(400_000))
    (cache / "weights.bin.part.tag").write_text(f'"{SHA256}"')
    assert get(server.known).read_bytes() == CONTENT


def test_a_busy_server_is_asked_again(server: Server) -> None:
    server.failures += [failing(503), failing(429)]
    assert get(server.known).read_bytes() == CONTENT


def test_a_server_that_always_stops_early_is_given_up(server: Server) -> None:
    server.failures += [lambda request: serve(request, sent=0, length=500_000)] * 3
    with pytest.raises(WeightsMissing, match="stopped after 0 of 500,000 bytes"):
        get(server.known)


def test_a_server_that_says_too_little(server: Server, cache: Path) -> None:
    server.failures += [lambda request: serve(request, length=100_000)]
    with pytest.raises(WeightsCorrupt, match=r"should have .*set aside as .*weights.bin.rejected"):
        get(server.known)
    assert left(cache) == {"weights.bin.rejected"}


def test_a_server_that_says_no_length(server: Server) -> None:
    server.failures += [lambda request: serve(request, length=-1)]
    assert get(server.known).read_bytes() == CONTENT


def test_another_file_is_set_aside(server: Server, cache: Path) -> None:
    server.failures += [lambda request: serve(request, b"something else")]
    with pytest.raises(WeightsCorrupt, match=f"should have {SHA256[:12]}"):
        get(server.known)
    assert left(cache) == {"weights.bin.rejected"}
    assert get(server.known).read_bytes() == CONTENT


def test_another_size_is_not_even_fetched(server: Server, cache: Path) -> None:
    with pytest.raises(WeightsCorrupt, match=r"has 300,000 bytes, weights\.bin should have 5: another file"):
        get(dataclasses.replace(server.known, bytes=5))
    assert left(cache) == set()


def test_a_web_page_is_no_file(server: Server, cache: Path) -> None:
    server.failures += [lambda request: serve(request, b"<html>quota</html>", kind="text/html; charset=utf-8")]
    with pytest.raises(WeightsCorrupt, match="a web page instead"):
        get(dataclasses.replace(server.known, sha256=""))
    assert left(cache) == set()


def test_an_unknown_sum_is_kept_and_checked_from_then_on(server: Server, cache: Path, caplog) -> None:
    caplog.set_level("INFO")
    known = dataclasses.replace(server.known, sha256="")
    get(known)
    assert f"{SHA256[:12]}... is kept, and checked from now on" in caplog.text
    (cache / "weights.bin").unlink()
    server.failures += [lambda request: serve(request, b"something else")]
    with pytest.raises(WeightsCorrupt, match=f"should have {SHA256[:12]}"):
        get(known)
    assert get(known).read_bytes() == CONTENT


def test_a_damaged_file_in_the_cache_is_set_aside(server: Server, cache: Path) -> None:
    cache.mkdir()
    (cache / "weights.bin").write_bytes(b"damaged")
    with pytest.raises(WeightsCorrupt, match="set aside"):
        fetch(server.known)
    assert fetch(server.known).read_bytes() == CONTENT


def test_what_is_nowhere_is_missing(server: Server) -> None:
    server.failures += [failing(404)]
    with pytest.raises(WeightsMissing, match=r"could not be fetched.*404"):
        get(server.known)
    assert len(server.ranges) == 1  # asking again would not help
    with pytest.raises(WeightsMissing, match="get it from"):
        fetch(server.known, offline=True)
    with pytest.raises(WeightsMissing, match="refused"):
        get(dataclasses.replace(server.known, url="http://127.0.0.1:9/none"))
    with pytest.raises(WeightsMissing, match="there is no network"):
        next(download(dataclasses.replace(server.known, url="http://nowhere.invalid/none"), waits=(60.0,)))


def test_a_full_disk_is_told_and_what_came_is_kept(server: Server, cache: Path, monkeypatch) -> None:
    usage = type("Usage", (), {"free": 200_000})
    monkeypatch.setattr(hub.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(WeightsMissing, match="no room on its disk"):
        get(server.known)
    monkeypatch.undo()
    monkeypatch.setenv("PHOTODRAG_CACHE", str(cache))

    def full(answer, file, have):
        file.write(answer.read(1000))
        yield have + 1000
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(hub, "_copy", full)
    with pytest.raises(WeightsMissing, match="no room on its disk"):
        get(server.known)
    assert (cache / "weights.bin.part").stat().st_size == 1000


def test_two_at_once_fetch_it_once(server: Server) -> None:
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(get(server.known))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4 and len(server.ranges) == 1 and found[0].read_bytes() == CONTENT


def test_a_file_for_browsers_says_how() -> None:
    with pytest.raises(WeightsMissing, match=r"drive.google.com/\S+ .*photodrag weights import FILE --name human-512"):
        get(KNOWN["human-512"])


def test_another_programs_cache_is_looked_into(tmp_path, cache: Path) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "weights.bin").write_bytes(CONTENT)
    found = fetch(KNOWN_FILE, also_in=(tmp_path / "theirs",), offline=True)
    assert found == tmp_path / "theirs" / "weights.bin"
    (tmp_path / "theirs" / "weights.bin").write_bytes(b"damaged")
    with pytest.raises(WeightsCorrupt, match="remove it"):
        fetch(KNOWN_FILE, also_in=(tmp_path / "theirs",), offline=True)


def test_what_is_known_is_whole() -> None:
    wanted = {"ffhq-256", "ffhq-512", "ffhq-1024", "ffhq-config-f", "afhq-cat", "afhq-dog", "afhq-wild", "metfaces",
              "lsun-car", "lsun-cat", "lsun-church", "lsun-horse", "lions", "dogs", "elephants", "horses", "giraffes",
              "parrots", "lhq-256", "human-1024", "e4e", "lpips-vgg", "gfpgan", "dlib-68-points"}  # fmt: skip
    assert wanted <= KNOWN.keys()
    assert len({known.file_name for known in KNOWN.values()}) == len(KNOWN)
    for known in KNOWN.values():
        assert known.url.startswith(("https://", "http://dlib.net/")) and known.licence and known.domain
        assert len(known.sha256) in (0, 8, 64) and known.size != "size unknown"
        assert known.kind == "other" or (known.resolution and known.alignment)
