"""The editor's host and its web server, without a browser: who is let in, what comes back, what is kept."""

from __future__ import annotations

import io
import json
import queue
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from conftest import DATA, QUICK
from fastapi.testclient import TestClient
from local_server import Server, serve
from PIL import Image
from starlette.websockets import WebSocketDisconnect

from align import Photo
from drag import DragConfig
from pipeline import Config, EditSession
from pipeline.editor import server
from pipeline.editor import worker as worker_module
from pipeline.editor.host import Host, Outbox
from pipeline.editor.protocol import Message, Sketch
from pipeline.editor.server import Doorman, Sessions, make_app
from pipeline.editor.sketch import SketchPad
from pipeline.editor.worker import Job, Worker
from weights import KNOWN, hub

TOKEN = "the-right-token"
HOME = "http://127.0.0.1:8765"
KEY = {"Authorization": f"Bearer {TOKEN}"}
LONG = Config(QUICK.perceptual, 64, QUICK.pivot, QUICK.tune, DragConfig(steps=100_000, patience=100_000))
PULL = {"type": "drag", "points": [{"handle": [260, 610], "target": [330, 540]}]}
WAIT = 30  # seconds until a test gives up


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < end, f"nothing came for {WAIT} s"
        time.sleep(0.01)


def free(host: Host) -> None:
    """Waits until a host has nothing to do."""
    until(lambda: host._job is None)


def bytes_of(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


class Editor:
    """A client of a web socket that keeps what it was told."""

    def __init__(self, socket):
        self.socket, self.told = socket, []
        self._came: queue.Queue[bytes] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        with suppress(Exception):  # the line ends
            while True:
                self._came.put(self.socket.receive_bytes())

    def say(self, **request) -> None:
        self.socket.send_text(json.dumps(request))

    def pull_until(self, index: int) -> None:
        """Drags, and listens until that step has come."""
        self.say(**PULL)
        self.hear("step", lambda step: step["index"] >= index)

    def hear(self, kind: str, fits: Callable[[dict], bool] = lambda message: True) -> tuple[dict, bytes]:
        """The next message of a kind that fits."""
        while True:
            packed = self._came.get(timeout=WAIT)
            length = int.from_bytes(packed[:4], "little")
            message = json.loads(packed[4 : 4 + length])
            self.told.append(message)
            if message["type"] == kind and fits(message):
                return message, packed[4 + length :]

    def silent(self, seconds: float) -> bool:
        """Whether nothing more comes for so long."""
        try:
            self._came.get(timeout=seconds)
        except queue.Empty:
            return True
        return False

    def done(self) -> dict:
        return self.hear("job", lambda job: job["kind"] is None)[0]


class Place:
    """A server without a network."""

    def __init__(self, root: Path, small: Path, config: Config = QUICK):
        self.root = root
        self.sessions = Sessions(root, TOKEN, lambda folder: EditSession(folder, config), [str(small)])
        self.web = TestClient(make_app(self.sessions, Doorman(TOKEN, ["127.0.0.1"])), base_url=HOME)

    def upload(self, photo: bytes, **headers):
        return self.web.post("/photo", content=photo, headers=KEY | headers)

    def look(self, name: str, token: str = TOKEN, **headers):
        return self.web.websocket_connect(f"ws{HOME[4:]}/session/{name}?token={token}", headers=headers)


@pytest.fixture
def small(small_session_folder: Path) -> Path:
    return small_session_folder.parent / "small.safetensors"


@pytest.fixture
def place(tmp_path: Path, small: Path) -> Iterator[Place]:
    made = Place(tmp_path / "sessions", small)
    yield made
    made.sessions.close()


@pytest.fixture
def slow(tmp_path: Path, small: Path, small_session: EditSession) -> Iterator[tuple[Place, str]]:
    """A place with a session whose drags do not end by themselves."""
    made = Place(tmp_path / "sessions", small, LONG)
    yield made, made.sessions.add(small_session.folder)
    made.sessions.close()


# --- who is let in -----------------------------------------------------------------------------------------


def test_the_page_needs_the_token_and_allows_nothing_foreign(place: Place) -> None:
    assert place.web.get("/").status_code == 403
    assert place.web.get("/?token=guessed").status_code == 403
    page = place.web.get(f"/?token={TOKEN}")
    assert page.status_code == 200 and "editor.js" in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "script-src 'self';" in page.headers["content-security-policy"]
    for name in ("editor.js", "editor.css"):
        content = place.web.get(f"/{name}")
        assert content.status_code == 200
        assert (
            "http://" not in content.text.replace("http://www.w3.org/2000/svg", "") and "https://" not in content.text
        )
    for path in ("/docs", "/openapi.json", "/server.py", "/..%2fserver.py", "/%2e%2e/server.py"):
        assert place.web.get(path).status_code == 404


def test_other_hosts_and_origins_are_sent_away(place: Place) -> None:
    assert place.web.get(f"/?token={TOKEN}", headers={"Host": "evil.example"}).status_code == 403
    assert place.upload(b"x", Origin="http://evil.example").status_code == 403
    assert place.upload(b"x", Origin="http://127.0.0.1:9999").status_code == 403
    assert place.upload(b"x", Origin=HOME).status_code == 422  # let in, but no photo
    for headers in ({"Origin": "http://evil.example"}, {"Host": "evil.example"}):
        with pytest.raises(WebSocketDisconnect) as left, place.look("0" * 32, **headers) as socket:
            socket.receive_bytes()
        assert left.value.code == 4403


@pytest.mark.parametrize(
    ("names", "host", "known"),
    [
        (["127.0.0.1"], "localhost:1", True),
        (["127.0.0.1"], "[::1]:80", True),
        (["127.0.0.1"], "127.0.0.1", True),
        (["127.0.0.1"], "10.0.0.5:80", False),
        (["127.0.0.1"], "", False),
        (["127.0.0.1"], "127.0.0.1.evil.example", False),
        (["0.0.0.0"], "10.0.0.5:80", True),
        (["0.0.0.0"], "evil.example:80", False),
        (["0.0.0.0", "lab"], "LAB:80", True),
    ],
)
def test_which_hosts_are_known(names: list[str], host: str, known: bool) -> None:
    assert Doorman(TOKEN, names).knows_host(host) is known


def test_a_session_needs_the_token_and_its_name(place: Place) -> None:
    for name, token, code in (("0" * 32, "wrong", 4403), ("0" * 32, TOKEN, 4404), ("x", TOKEN, 4404)):
        with place.look(name, token) as socket, pytest.raises(WebSocketDisconnect) as left:
            socket.receive_bytes()
        assert left.value.code == code
    assert place.web.post("/photo", content=b"x", headers={"Authorization": "Bearer wrong"}).status_code == 403
    place.root.mkdir()
    for name in ("..", ".", "", "/", str(place.root), "../sessions"):
        with pytest.raises(LookupError):
            place.sessions.get(name)


# --- uploads -----------------------------------------------------------------------------------------------


def bomb() -> bytes:
    """A small PNG that says it is 16,000 x 16,000 pixels."""
    data = bytearray(bytes_of(np.zeros((1, 1, 3), np.uint8)))
    data[16:24] = (16_000).to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    return bytes(data)


@pytest.mark.parametrize(
    ("photo", "message"),
    [
        (b"hello", "not a photo"),
        (b"", "empty"),
        (bomb(), "at most 64 million"),
        ((DATA / "lisa1.jpg").read_bytes()[:3000], "damaged or cut short"),
        (b"\x89PNG\r\n\x1a\n", "damaged or cut short"),
    ],
    ids=["text", "nothing", "bomb", "half", "head"],
)
def test_what_is_no_photo_is_refused_and_leaves_nothing(place: Place, photo: bytes, message: str) -> None:
    answer = place.upload(photo)
    assert answer.status_code == 422 and message in answer.json()["detail"]
    assert list(place.root.iterdir()) == []


def test_an_upload_ends_at_the_limit(place: Place, monkeypatch) -> None:
    monkeypatch.setattr(server, "LARGEST_UPLOAD", 1000)
    assert place.upload(b"x" * 1001).status_code == 413
    sent = []

    def endless() -> Iterator[bytes]:
        for _ in range(100):
            sent.append(1)
            yield b"x" * 500

    assert place.upload(endless()).status_code == 413  # its length is not said
    assert list(place.root.iterdir()) == []


# --- the whole way -----------------------------------------------------------------------------------------


def test_from_an_upload_to_the_export(place: Place) -> None:
    photo = (DATA / "lisa1.jpg").read_bytes()
    name = place.upload(photo).json()["session"]
    session = EditSession(place.root / name, QUICK)
    assert session.files.photo.read_bytes() == photo
    with place.look(name) as socket:
        editor = Editor(socket)
        shown, picture = editor.hear("photo")
        assert (shown["width"], shown["height"]) == Image.open(io.BytesIO(picture)).size == (600, 800)
        editor.done()  # with one face and one generator the inversion begins by itself
        assert {"pivot", "tune"} & {message["stage"] for message in editor.told if message["type"] == "step"}
        faces = [(len(told["boxes"]), told["current"]) for told in editor.told if told["type"] == "faces"]
        assert faces == [(1, None), (1, 1)]  # found, then cut out

        editor.say(**PULL)
        told, _ = editor.hear("session", lambda message: message["current"] == 1)
        editor.hear("note")
        editor.done()
        assert np.allclose(told["edits"][0]["handles"], [[260, 610]], atol=0.1)
        assert told["edits"][0]["thumb"].startswith("data:image/jpeg;base64,")

        editor.say(type="export", format="png")
        file, content = editor.hear("file")
        editor.done()
        assert (file["suffix"], file["mime"]) == (".png", "image/png")
        assert np.array_equal(np.array(Image.open(io.BytesIO(content))), session.result().pixels)

        for move, current in (("undo", 0), ("redo", 1)):
            editor.say(type=move)
            assert editor.hear("session")[0]["current"] == current == session.tree.current
            editor.done()
        editor.say(type="goto", number=0)
        assert editor.hear("result")[0]["number"] == 0


def test_what_is_shown_is_what_is_exported(place: Place, small_session: EditSession) -> None:
    with place.look(place.sessions.add(small_session.folder)) as socket:
        editor = Editor(socket)
        editor.done()
        editor.say(**PULL)
        shown, picture = editor.hear("result", lambda message: message["number"] == 1)
        editor.done()
    (left, top), (_, bottom), (right, _) = (np.array(corner) + 0.5 for corner in shown["corners"])
    result = small_session.result().pixels
    assert (result != small_session.photo.pixels).any()
    part = result[int(top) : int(bottom), int(left) : int(right)]
    pixels = np.array(Image.open(io.BytesIO(picture)))
    assert pixels.shape == part.shape
    assert np.abs(pixels.astype(int) - part).mean() < 1.5  # JPEG


def test_frames_show_the_photo_with_the_face_in_it(slow: tuple[Place, str]) -> None:
    place, name = slow
    with place.look(name) as socket:
        editor = Editor(socket)
        editor.done()
        editor.say(**PULL)
        first, picture = editor.hear("frame")
        editor.say(type="shown")
        second, other = editor.hear("frame")
        editor.say(type="stop")
        editor.done()
        assert first["serial"] == second["serial"] and picture != other
    photo, (left, top), (_, bottom), (right, _) = (
        EditSession(place.sessions._elsewhere[name]).photo.pixels,
        *(np.array(corner) + 0.5 for corner in first["corners"]),
    )
    frame = Image.open(io.BytesIO(picture))
    cut = Image.fromarray(photo[int(top) : int(bottom), int(left) : int(right)]).resize(frame.size)
    rim = np.s_[:6]  # the paste fades out before the crop ends
    assert np.abs(np.array(cut)[rim].astype(int) - np.array(frame)[rim]).mean() < 4


# --- steering ----------------------------------------------------------------------------------------------


def test_stop_keeps_what_was_done(slow: tuple[Place, str], small_session: EditSession) -> None:
    place, name = slow
    with place.look(name) as socket:
        editor = Editor(socket)
        editor.done()
        editor.pull_until(3)
        editor.say(type="stop")
        note, _ = editor.hear("note")
        editor.done()
    assert note["text"].startswith("stopped after")
    assert small_session.current_edit is not None and small_session.current_edit.outcome.stopped == "cancelled"


def test_pause_holds_the_steps_and_a_new_client_sees_them(slow: tuple[Place, str]) -> None:
    place, name = slow
    with place.look(name) as socket:
        editor = Editor(socket)
        editor.done()
        editor.pull_until(2)
        editor.say(type="pause")
        editor.hear("job", lambda job: job["status"] == "paused")
        until(lambda: editor.silent(0.5))  # the step under way ends
        with place.look(name) as other:
            second = Editor(other)
            held = second.hear("step")[0]["index"]
            assert {"photo", "session"} <= {message["type"] for message in second.told}
            time.sleep(0.3)
        with place.look(name) as other:
            second = Editor(other)
            assert second.hear("step")[0]["index"] == held
            second.say(type="resume")
            second.hear("step", lambda step: step["index"] > held)
            second.say(type="stop")
            assert second.done() == editor.done()


def test_mistakes_are_told_and_change_nothing(slow: tuple[Place, str], small_session: EditSession) -> None:
    place, name = slow
    empty, thin = ({"width": 4, "height": 4, "runs": [16]}, {"width": 4, "height": 4, "runs": [1, 2]})
    mistakes = [
        ({"type": "stop"}, "nothing is under way"),
        ({"type": "pause"}, "nothing is under way"),
        ({"type": "undo"}, "nothing to undo"),
        ({"type": "redo"}, "nothing to redo"),
        ({"type": "goto", "number": 9}, "no edit 9"),
        ({"type": "drag", "points": []}, "nothing to drag"),
        ({"type": "drag", "points": [{"handle": [5, 5], "target": [-900, 5]}]}, "outside the face's square"),
        ({"type": "drag", "points": [{"handle": [260, 610], "target": [260, 610]}]}, "already at its target"),
        ({**PULL, "mask": empty}, "the mask is empty"),
        ({**PULL, "mask": thin}, "add up to 3"),
        ({"type": "begin", "face": 1, "generator": "/etc/passwd"}, "no generator"),
        ({"type": "export", "format": "../../x"}, "wrong shape"),
        ({"type": "drag", "points": "all"}, "wrong shape"),
    ]
    with place.look(name) as socket:
        editor = Editor(socket)
        editor.done()
        for request, message in mistakes:
            editor.say(**request)
            assert message in editor.hear("problem")[0]["text"]
            free(place.sessions.get(name))
        editor.pull_until(2)
        editor.say(**PULL)
        assert "at work" in editor.hear("problem")[0]["text"]
        editor.say(type="undo")
        assert "at work" in editor.hear("problem")[0]["text"]
        editor.say(type="stop")
        editor.hear("note")
        editor.done()
    assert len(small_session.history()) == 1


def test_a_client_that_never_answers_gets_one_frame_and_the_steps_go_on(slow: tuple[Place, str]) -> None:
    place, name = slow
    with place.look(name) as socket:
        editor = Editor(socket)
        editor.done()
        editor.say(**PULL)
        editor.hear("step", lambda step: step["index"] > 60)
        editor.say(type="stop")
        editor.done()
        assert sum(message["type"] == "frame" for message in editor.told) == 1


# --- faces -------------------------------------------------------------------------------------------------


def test_a_photo_without_a_face_is_told_and_the_photo_stays(place: Place) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (90, 120, 3), np.uint8)
    with place.look(place.upload(bytes_of(noise)).json()["session"]) as socket:
        editor = Editor(socket)
        assert "no face found" in editor.hear("problem")[0]["text"]
        editor.done()
        editor.say(type="begin", face=1, generator=place.sessions.generators[0])
        assert editor.hear("problem")[0]["text"]


def test_twelve_faces_wait_for_a_choice(place: Place, lisa: np.ndarray) -> None:
    face = np.array(Image.fromarray(lisa[150:690, 60:600]).resize((150, 150)))
    crowd = np.tile(face, (3, 4, 1))
    with place.look(place.upload(bytes_of(crowd)).json()["session"]) as socket:
        editor = Editor(socket)
        boxes = editor.hear("faces")[0]["boxes"]
        editor.done()
        assert len(boxes) == 12
        editor.say(type="begin", face=13, generator=place.sessions.generators[0])
        assert "face 13 of 12" in editor.hear("problem")[0]["text"]
        editor.done()
        editor.say(type="begin", face=7, generator=place.sessions.generators[0])
        told, _ = editor.hear("session", lambda message: message["stage"] == "ready")
        left, top, right, bottom = boxes[6]
        assert np.abs(np.mean(told["quad"], 0) - [(left + right) / 2, (top + bottom) / 2]).max() < 30


@pytest.fixture
def pair(lisa: np.ndarray) -> bytes:
    """A photo of two."""
    face = np.array(Image.fromarray(lisa[150:690, 60:600]).resize((300, 300)))
    return bytes_of(np.tile(face, (1, 2, 1)))


def test_another_face_is_edited_and_the_first_found_as_it_was(place: Place, pair: bytes) -> None:
    name, generator = place.upload(pair).json()["session"], place.sessions.generators[0]
    pulls = [
        {**PULL, "points": [{"handle": [x, 260], "target": [x + 30, 230]}]} for x in (115, 415)
    ]  # mouths, below both cheeks
    with place.look(name) as socket:
        editor = Editor(socket)
        assert editor.hear("faces")[0]["current"] is None
        editor.done()
        for face, pull in enumerate(pulls, 1):
            editor.say(type="begin", face=face, generator=generator)
            editor.hear("faces", lambda told, face=face: told["current"] == face)
            assert editor.hear("session", lambda told: told["stage"] == "ready")[0]["edits"] == []
            editor.done()
            editor.say(**pull)
            editor.hear("session", lambda told: told["current"] == 1)
            editor.done()
        editor.say(type="export", format="png")
        both = np.array(Image.open(io.BytesIO(editor.hear("file")[1])))
        editor.done()
        editor.say(type="begin", face=1, generator=generator)
        beside, _ = editor.hear("beside", lambda told: "corners" in told)
        told, _ = editor.hear("session", lambda told: told["current"] == 1)
        assert len(told["edits"]) == 1 and beside["corners"][0][0] > 0  # the other one's is on the right
        editor.done()
        assert not any(message["type"] == "step" and message["stage"] != "drag" for message in editor.told[-8:])
    changed = (both != np.array(Image.open(io.BytesIO(pair)))).any(2)
    assert changed[:, :250].any() and changed[:, 350:].any()
    again = Host(EditSession(place.root / name, QUICK), Worker(), [generator])  # another day
    free(again)
    assert again._last["faces"].body["current"] == 1 and len(again._last["faces"].body["boxes"]) == 2
    assert "corners" in again._last["beside"].body
    again.worker.close()


# --- what is set and not yet dragged -----------------------------------------------------------------------

SET = {"points": [{"handle": [260, 610], "target": [330, 540], "held": False}], "gestures": {"smile": 0.5}}
PAINTED = {"width": 4, "height": 4, "runs": [4, 8, 4]}


def test_what_is_set_is_told_to_all_and_kept(slow: tuple[Place, str], small_session: EditSession) -> None:
    place, name = slow
    with place.look(name) as socket, place.look(name) as second:
        editor, other = Editor(socket), Editor(second)
        editor.done()
        editor.say(type="sketch", by="a", said=1, face=1, **SET, mask=PAINTED)
        heard, _ = other.hear("sketch", lambda told: told["points"])
        assert heard["mask"] == PAINTED and heard["gestures"] == {"smile": 0.5} and heard["heard"] == {"a": 1}
        other.say(type="sketch", by="b", said=1, face=2, points=[])  # of a face that was left meanwhile
        heard, _ = editor.hear("sketch", lambda told: "b" in told["heard"])
        assert len(heard["points"]) == 1
    host = Host(EditSession(small_session.folder), Worker())  # after a restart
    kept = host._pad.told()
    assert kept["points"][0]["handle"] == (260, 610) and kept["mask"]["runs"] == [4, 8, 4]
    host.worker.close()


def test_a_drag_and_an_undo_move_what_is_set(slow: tuple[Place, str]) -> None:
    place, name = slow
    with place.look(name) as socket:
        editor = Editor(socket)
        editor.done()
        editor.say(type="sketch", by="a", said=1, face=1, **SET)
        editor.say(**PULL)
        assert editor.hear("sketch", lambda told: told["points"] and not told["gestures"])  # they are being made
        editor.hear("step", lambda step: step["index"] >= 3)
        editor.say(type="stop")
        (point,) = editor.hear("sketch")[0]["points"]
        editor.done()
        assert point["target"] == [330, 540] and point["handle"] != [260, 610]
        editor.say(type="undo")
        (point,) = editor.hear("sketch")[0]["points"]
        assert (point["handle"], point["target"]) == ([260, 610], [330, 540])
        editor.done()
        editor.say(type="drag", points=[], gestures={"smile": 0.5})
        editor.hear("step", lambda step: step["index"] >= 3)
        editor.say(type="stop")
        editor.done()
        editor.say(type="undo")
        told, _ = editor.hear("sketch", lambda told: told["gestures"])
        assert told["gestures"] == {"smile": 0.5} and told["points"] == []  # not the landmarks that it moved


def test_a_damaged_sketch_is_an_empty_one(tmp_path: Path) -> None:
    (tmp_path / "sketch.json").write_text("{")
    assert SketchPad(tmp_path).sketch == Sketch()


# --- a generator that has to be downloaded -----------------------------------------------------------------


@pytest.fixture
def remote(small: Path, cache: Path, monkeypatch) -> Iterator[Server]:
    """A server that has a small generator which is known as "far"."""
    server = Server(small.read_bytes())
    monkeypatch.setitem(KNOWN, "far", replace(server.known, name="far", alignment="face"))
    monkeypatch.setattr(hub, "CHUNK", 1000)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


def test_a_download_is_watched_stopped_and_gone_on_with(place: Place, remote: Server) -> None:
    go_on = threading.Event()

    def slowly(request) -> None:
        serve(request, sent=5000)
        go_on.wait(WAIT)

    remote.failures.append(slowly)
    place.sessions.generators = ("far",)
    with place.look(place.upload((DATA / "lisa1.jpg").read_bytes()).json()["session"]) as socket:
        editor = Editor(socket)
        told, _ = editor.hear("session")
        assert told["generators"][0]["name"] == "far" and "KB" not in told["generators"][0]["size"]
        editor.done()  # a download has to be asked for
        editor.say(type="begin", face=1, generator="far")
        step, _ = editor.hear("step", lambda step: step["waiting"])
        assert step["stage"] == "download" and step["limit"] == round(len(remote.content) / 1e6, 1)
        editor.say(type="pause")
        assert "only be stopped" in editor.hear("problem")[0]["text"]
        editor.say(type="stop")
        assert "goes on from there" in editor.hear("note")[0]["text"]
        editor.done()
        go_on.set()
        editor.say(type="begin", face=1, generator="far")
        told, _ = editor.hear("session", lambda told: told["stage"] == "ready")
        assert told["generator"] == "far" and told["generators"][0]["size"] == ""
        editor.done()
    assert remote.ranges[0] is None and remote.ranges[-1]  # from where it was left


def test_edits_are_not_given_up_for_another_generator(slow: tuple[Place, str], remote: Server) -> None:
    place, name = slow
    place.sessions.generators = [*place.sessions.generators, "far"]
    with place.look(name) as socket:
        editor = Editor(socket)
        editor.done()
        editor.pull_until(2)
        editor.say(type="stop")
        editor.done()
        editor.say(type="begin", face=1, generator="far")
        assert "would make its edits useless" in editor.hear("problem")[0]["text"]
    assert remote.ranges == []


def test_without_a_network_a_download_says_so(place: Place, remote: Server, monkeypatch) -> None:
    monkeypatch.setitem(KNOWN, "far", replace(KNOWN["far"], url="http://no-such-host.invalid/far"))
    place.sessions.generators = ("far",)
    with place.look(place.upload((DATA / "lisa1.jpg").read_bytes()).json()["session"]) as socket:
        editor = Editor(socket)
        editor.done()
        editor.say(type="begin", face=1, generator="far")
        assert "there is no network" in editor.hear("problem")[0]["text"]
        editor.done()


# --- parts -------------------------------------------------------------------------------------------------


def test_an_outbox_keeps_the_newest_and_one_frame_on_its_way() -> None:
    outbox = Outbox()
    for number in range(3):
        outbox.put(Message("step", {"index": number}))
        outbox.put(Message("problem", {"text": str(number)}))
        outbox.put(Message("frame", {"n": number}))
    first = outbox.take()
    assert [m.body for m in first if m.kind == "step"] == [{"index": 2}]
    assert [m.body for m in first if m.kind == "frame"] == [{"n": 2}]
    assert [m.body["text"] for m in first if m.kind == "problem"] == ["0", "1", "2"]
    assert not outbox.wants_frame
    for number in (3, 4):
        outbox.put(Message("frame", {"n": number}))
        assert outbox.take() == []
    outbox.shown()
    assert [m.body for m in outbox.take()] == [{"n": 4}]


def test_a_picture_that_costs_much_comes_after_a_rest_and_the_first_of_a_job_at_once(monkeypatch) -> None:
    monkeypatch.setattr(worker_module, "BUSY", 0.0001)  # by that the next one would come after minutes
    monkeypatch.setattr(worker_module, "REST", 0.3)
    worker, drawn = Worker(), []

    def draw() -> None:
        drawn.append(time.monotonic())
        time.sleep(0.05)

    def enough() -> bool:
        worker.offer(draw)
        return len(drawn) >= 4

    until(enough)
    assert all(later - sooner > 0.2 for sooner, later in pairwise(drawn))
    worker.close()
    monkeypatch.setattr(worker_module, "REST", 10 * WAIT)
    worker = Worker()
    for _ in range(2):
        before = len(drawn)
        worker.offer(draw)
        worker.add(Job("next", iter([1])))
        until(lambda before=before: len(drawn) > before)
    worker.close()


def test_a_paused_job_lets_the_next_go_ahead_and_a_stopped_one_is_closed_in_the_workers_thread() -> None:
    worker, went, closed = Worker(), [], []
    first_step = threading.Event()

    def endless() -> Iterator[None]:
        try:
            while True:
                first_step.set()
                time.sleep(0.001)
                yield
        finally:
            closed.append(threading.current_thread().name)

    long, short = Job("long", endless()), Job("short", iter([went.append(1)]))
    worker.add(long)
    worker.add(short)
    assert first_step.wait(WAIT) and worker.place(short) == 1
    worker.steer(long, paused=True)
    worker.wait(short)
    assert long.status == "paused" and closed == []
    worker.steer(long, stopping=True)
    worker.wait(long)
    assert closed == ["worker"]


def test_a_job_that_fails_is_told_and_the_next_one_runs(small_session: EditSession, monkeypatch) -> None:
    worker = Worker()
    host, outbox = Host(small_session, worker), Outbox()
    host.join(outbox)
    free(host)
    monkeypatch.setattr(small_session, "undo", lambda: 1 / 0)
    host.receive('{"type": "undo"}', outbox)
    free(host)
    assert any("went wrong" in message.body.get("text", "") for message in outbox.take())
    host.receive(json.dumps(PULL), outbox)
    free(host)
    assert small_session.tree.current == 1


def test_who_comes_late_hears_of_the_job_before_its_step(small_session: EditSession) -> None:
    host, outbox = Host(small_session, Worker()), Outbox()
    for kind in ("photo", "step", "frame", "job"):  # as they are when the job was paused last
        host._tell(kind, {"serial": 1})
    host.join(outbox)
    kinds = [message.kind for message in outbox.take()]
    assert kinds.index("job") < kinds.index("step") and kinds.index("job") < kinds.index("frame")
    host.worker.close()


def test_a_photo_says_its_size_before_it_is_decoded(tmp_path: Path) -> None:
    assert Photo.peek(DATA / "lisa1.jpg") == ("JPEG", 600, 800)
    (tmp_path / "bomb.png").write_bytes(bomb())
    assert Photo.peek(tmp_path / "bomb.png") == ("PNG", 16_000, 16_000)
