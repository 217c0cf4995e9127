"""`photodrag web`: what it serves, and to whom it refuses to."""

import socket
from pathlib import Path

import pytest
from conftest import DATA

from align import PhotoError
from pipeline import StaleResult
from pipeline.commands.common import BadAddress
from pipeline.commands.web import Web, _listen


@pytest.fixture
def served(monkeypatch) -> list[tuple[str, int]]:
    """The addresses that would have been served."""
    uvicorn = pytest.importorskip("uvicorn")
    addresses: list[tuple[str, int]] = []
    monkeypatch.setattr(
        uvicorn.Server, "run", lambda self, sockets: addresses.extend(s.getsockname()[:2] for s in sockets)
    )
    return addresses


def test_a_photo_is_served_to_this_machine_only(tmp_path: Path, served, capsys) -> None:
    (tmp_path / "me.jpg").write_bytes((DATA / "lisa1.jpg").read_bytes())
    for what in (tmp_path / "me.jpg", tmp_path / "me-edited.session"):
        Web(what=what, port=0, browser=False, sessions=tmp_path / "sessions").run()
    assert [host for host, _ in served] == ["127.0.0.1"] * 2
    said = capsys.readouterr().out
    tokens = {line.partition("token=")[2].partition("#")[0] for line in said.splitlines() if "token=" in line}
    assert len(tokens) == 2 and all(len(token) >= 20 for token in tokens)


@pytest.mark.parametrize("token", [None, "", "short"])
def test_an_open_address_needs_a_token(token: str | None, served, tmp_path: Path) -> None:
    with pytest.raises(BadAddress, match="give --token"):
        Web(host="0.0.0.0", token=token, browser=False, sessions=tmp_path).run()
    assert served == []
    Web(host="0.0.0.0", token="long enough", port=0, browser=False, sessions=tmp_path).run()
    assert served[0][0] == "0.0.0.0"


def test_what_cannot_be_served_is_told(tmp_path: Path, served) -> None:
    (tmp_path / "text.jpg").write_text("hello")
    with pytest.raises(PhotoError, match="not a photo"):
        Web(what=tmp_path / "text.jpg", browser=False).run()
    with pytest.raises(PhotoError, match="there is no file"):
        Web(what=tmp_path / "nothing.jpg", browser=False).run()
    (tmp_path / "folder").mkdir()
    with pytest.raises(StaleResult, match="holds no photo"):
        Web(what=tmp_path / "folder", browser=False).run()
    with pytest.raises(BadAddress, match=r"cannot serve 192\.0\.2\.1"):
        Web(host="192.0.2.1", token="long enough", browser=False, sessions=tmp_path).run()
    assert served == [] and not (tmp_path / "text-edited.session").exists()


def test_a_port_that_is_taken_gives_way_to_a_free_one() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with _listen("127.0.0.1", taken.getsockname()[1]) as other:
            assert other.getsockname()[1] != taken.getsockname()[1]
