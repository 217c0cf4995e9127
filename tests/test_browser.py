"""The editor in a real browser, Debian's chromium: with the mouse, with fingers, with the keyboard."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import DATA, QUICK, small_generator
from local_server import Server, serve
from PIL import Image

from align import Photo
from drag import DragConfig
from pipeline import Config, EditSession
from pipeline.editor.server import Doorman, Sessions, make_app
from weights import KNOWN, save_generator

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
if CHROMIUM is None:
    pytest.skip("no browser here: apt-get install chromium", allow_module_level=True)
playwright = pytest.importorskip("playwright.sync_api", reason="no playwright here: pip install playwright")
uvicorn = pytest.importorskip("uvicorn")

TOKEN = "the-right-token"
WAIT = 20  # seconds
LONG = Config(QUICK.perceptual, 64, QUICK.pivot, QUICK.tune, DragConfig(steps=100_000, patience=100_000))


class Tab:
    """A page of the editor."""

    def __init__(self, page: Any):
        self.page, self.errors = page, []
        page.on("pageerror", lambda error: self.errors.append(str(error)))

    def open(self, address: str) -> Tab:
        self.page.goto(address)
        return self

    def get(self, expression: str) -> Any:
        return self.page.evaluate(f"(() => {{ const e = photodrag; return {expression}; }})()")

    def until(self, expression: str) -> None:
        """The page's own way to wait needs `eval`, which the page forbids."""
        end = time.monotonic() + WAIT
        while not self.get(f"Boolean({expression})"):
            assert time.monotonic() < end, f"not {expression}; the page says: {self.page.inner_text('body')}"
            time.sleep(0.03)
        assert self.errors == []

    def ready(self) -> None:
        self.until("e.ready && !e.busy")

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Where a point of the photo is on the page."""
        (left, top), box = self.get(f"e.toScreen([{x}, {y}])"), self.page.locator("canvas.points").bounding_box()
        return box["x"] + left, box["y"] + top

    def pull(self, *points: tuple[float, float]) -> None:
        """The mouse, pressed from the first point to the last."""
        self.page.mouse.move(*self.at(*points[0]))
        self.page.mouse.down()
        for point in points[1:]:
            self.page.mouse.move(*self.at(*point), steps=3)
        self.page.mouse.up()

    def click(self, button: str) -> None:
        self.page.click(f"button.{button}:visible")

    def pixel(self, x: float, y: float) -> list[int]:
        """What the canvas shows at a point of the photo."""
        return self.get(
            f"(() => {{ const [x, y] = e.toScreen([{x}, {y}]), r = devicePixelRatio; "
            "return [...e.picture.getContext('2d').getImageData(x * r, y * r, 1, 1).data].slice(0, 3); })()"
        )


class Place:
    """A server in a thread, with a small generator."""

    def __init__(self, folder: Path, config: Config):
        self.config = config
        small = folder / "small.safetensors"
        self.sessions = Sessions(folder, TOKEN, lambda path: EditSession(path, self.config), [str(small)])
        app = make_app(self.sessions, Doorman(TOKEN, ["127.0.0.1"]))
        self.server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()
        while not self.server.started:
            time.sleep(0.01)
        port = self.server.servers[0].sockets[0].getsockname()[1]
        self.home = f"http://127.0.0.1:{port}/?token={TOKEN}"

    def close(self) -> None:
        self.server.should_exit = True
        self.thread.join()
        self.sessions.close()


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("web")
    save_generator(small_generator().network, folder / "small.safetensors", torch.float32)
    made = Place(folder, LONG)
    yield made
    made.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as made:
        yield made.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])


@pytest.fixture
def tab(browser) -> Iterator[Tab]:
    context = browser.new_context(viewport={"width": 1000, "height": 700}, accept_downloads=True)
    yield Tab(context.new_page())
    context.close()


@pytest.fixture
def session(place: Place, small_session: EditSession) -> EditSession:
    small_session.config = LONG
    return small_session


@pytest.fixture
def ready(tab: Tab, place: Place, session: EditSession) -> Tab:
    """A tab with a session in which a face was learned."""
    tab.open(f"{place.home}#{place.sessions.add(session.folder)}")
    tab.ready()
    if tab.page.locator("button.got-it").is_visible():
        tab.click("got-it")
    return tab


def test_from_a_dropped_photo_to_the_exported_one(tab: Tab, place: Place, tmp_path: Path) -> None:
    tab.open(place.home)
    assert "Drop a photo" in tab.page.inner_text("main")
    photo = (DATA / "lisa1.jpg").read_bytes().hex()
    tab.page.evaluate(
        """(hex) => {
            const bytes = new Uint8Array(hex.match(/../g).map((pair) => parseInt(pair, 16)));
            const data = new DataTransfer();
            data.items.add(new File([bytes], "me.jpg", { type: "image/jpeg" }));
            const drop = new DragEvent("drop", { dataTransfer: data, bubbles: true });
            document.querySelector(".photodrag").dispatchEvent(drop);
        }""",
        photo,
    )
    tab.until("e.faces.length === 1")
    tab.ready()
    tab.click("got-it")
    name = tab.page.url.partition("#")[2]
    session = EditSession(place.sessions.root / name, LONG)

    tab.pull((260, 610), (330, 540))
    tab.pull((395, 600), (440, 560))
    assert tab.get("e.points.length") == 2
    tab.click("start")
    tab.until("e.step && e.step.index > 0 && e.frame")
    tab.until(f"e.frames > {tab.get('e.frames') + 2}")
    assert np.abs(np.array(tab.get("e.step.handles")) - [[260, 610], [395, 600]]).max() > 2  # they have moved
    assert "px to go" in tab.page.inner_text(".count")
    tab.click("stop")
    tab.until("!e.busy && e.session.current === 1")
    assert "stopped after" in tab.page.inner_text(".toasts")

    with tab.page.expect_download() as download:
        tab.click("export")
    assert download.value.suggested_filename == "me-edited.jpg"
    download.value.save_as(tmp_path / "out.jpg")
    session.export(tmp_path / "expected.jpg")
    assert (tmp_path / "out.jpg").read_bytes() == (tmp_path / "expected.jpg").read_bytes()
    exported, before = Photo.load(tmp_path / "out.jpg").pixels, session.photo.pixels
    assert (exported != before).any()
    shown = np.array([tab.pixel(x, y) for x, y in ((300, 450), (30, 30), (350, 640))])
    around = np.array(
        [exported[y - 2 : y + 3, x - 2 : x + 3].mean((0, 1)) for x, y in ((300, 450), (30, 30), (350, 640))]
    )
    assert np.abs(shown - around).max() < 16  # the canvas shows what was exported


def test_undo_and_redo_bring_the_points_back_too(ready: Tab, session: EditSession) -> None:
    ready.pull((260, 610), (330, 540))
    ready.click("start")
    ready.until("e.step && e.step.index > 1")
    ready.page.keyboard.press("Escape")
    ready.until("!e.busy && e.session.current === 1")
    ready.page.keyboard.press("Control+z")
    ready.until("!e.busy && e.session.current === 0")
    assert np.allclose(ready.get("e.points.map((p) => [p.handle, p.target])"), [[[260, 610], [330, 540]]], atol=2)
    assert np.allclose(ready.pixel(300, 450), session.photo.pixels[448:453, 298:303].mean((0, 1)), atol=16)
    ready.page.keyboard.press("Control+Shift+z")
    ready.until("!e.busy && e.session.current === 1")
    ready.page.click(".history li:first-child button")
    ready.until("!e.busy && e.session.current === 0")
    assert session.tree.current == 0


def test_points_are_moved_held_and_deleted(ready: Tab) -> None:
    ready.pull((260, 610), (330, 540))
    ready.pull((330, 540), (300, 580))  # the target, moved
    assert np.allclose(ready.get("e.points[0].target"), [300, 580], atol=2)
    ready.pull((260, 610), (255, 560))  # the handle
    assert np.allclose(ready.get("e.points[0].handle"), [255, 560], atol=2)
    ready.page.mouse.click(*ready.at(400, 500))  # two clicks do the same as a pull
    assert ready.get("e.points[1].target") is None
    ready.page.mouse.click(*ready.at(420, 480))
    assert np.allclose(ready.get("e.points[1].target"), [420, 480], atol=2)
    ready.page.keyboard.press("l")
    assert ready.get("e.points[1].held && e.points[1].target === e.points[1].handle")
    ready.page.keyboard.press("Delete")
    assert ready.get("e.points.length") == 1
    ready.click("delete-all")
    ready.click("start")
    assert "Nothing to drag yet" in ready.page.inner_text(".toasts")


def test_a_painted_mask_holds_the_rest(ready: Tab, session: EditSession) -> None:
    ready.page.keyboard.press("b")
    ready.get("e.brush = 60")
    ready.pull((230, 600), (430, 600))
    assert ready.get("e.masked")
    ready.page.keyboard.press("e")
    ready.pull((430, 600), (440, 600))
    ready.page.keyboard.press("p")
    ready.pull((260, 610), (330, 570))
    ready.page.keyboard.press("Space")
    ready.until("e.step && e.step.index > 3")
    ready.page.keyboard.press("Escape")
    ready.until("!e.busy && e.session.current === 1")
    edit = session.current_edit
    assert edit is not None and edit.mask is not None
    assert edit.mask[600, 260] and not edit.mask[600, 425] and not edit.mask[450, 300]
    differs = (session.result().pixels != session.photo.pixels).any(2)
    assert differs.any() and not differs[~edit.mask].any()
    ready.page.keyboard.press("b")
    ready.click("invert")
    assert ready.get("(() => { const m = e.maskRuns(); return m.runs[0] === 0; })()")
    ready.click("clear")
    assert not ready.get("e.masked")


def test_a_gesture_slider_drags_the_landmarks(ready: Tab, session: EditSession) -> None:
    ready.get("e.points.push({ handle: [300, 460], target: [300.5, 460], held: false })")  # it has arrived: it is free
    ready.page.fill("input[name=smile]", "0.6")
    assert ready.page.inner_text("label:has(input[name=smile]) output") == "0.6"
    ready.click("start")
    ready.until("e.step && e.step.index > 1")
    ready.click("stop")
    ready.until("!e.busy && e.session.current === 1")
    assert ready.page.input_value("input[name=smile]") == "0"  # it is done, and not done again
    edit = session.current_edit
    assert edit is not None and edit.mask is not None and len(edit.handles) > 2


def test_the_widget_draws_what_its_model_says(tab: Tab, place: Place) -> None:
    photo = (DATA / "lisa1.jpg").read_bytes()
    tab.open(place.home)
    told = tab.page.evaluate(
        """async ([hex]) => {
            const { default: widget } = await import("/editor.js");
            const told = [], el = document.body.appendChild(document.createElement("div"));
            let hear;
            const on = (_, callback) => { hear = callback; };
            widget.render({ el, model: { send: (request) => told.push(request), on } });
            const bytes = new Uint8Array(hex.match(/../g).map((pair) => parseInt(pair, 16)));
            hear({ type: "photo", width: 600, height: 800 }, [new DataView(bytes.buffer)]);
            hear({ type: "frame", corners: [[0, 0], [0, 9], [9, 0]], serial: 1 }, [new DataView(bytes.buffer)]);
            for (let i = 0; i < 100 && told.length < 2; i++) await new Promise((done) => setTimeout(done, 20));
            return [told, el.querySelector(".empty").hidden, el.querySelector(".open") === null];
        }""",
        [photo.hex()],
    )
    assert told == [[{"type": "hello"}, {"type": "shown"}], True, True]
    assert tab.errors == []


def test_pause_and_two_tabs_that_agree(ready: Tab, browser) -> None:
    ready.pull((260, 610), (330, 540))
    ready.click("start")
    ready.until("e.step && e.step.index > 2")
    other = Tab(browser.new_page()).open(ready.page.url)
    other.until("e.step && e.step.handles")
    other.click("pause")
    ready.until("e.job.status === 'paused'")
    held = -1
    while held != (held := ready.get("e.step.index")):
        time.sleep(0.5)  # the step under way ends
    ready.page.reload()  # finds it as it is
    ready.until("e.job.status === 'paused' && e.step")
    assert ready.get("e.step.index") == other.get("e.step.index") == held
    ready.click("pause")
    other.until(f"e.step.index > {held}")
    other.click("stop")
    for each in (ready, other):
        each.until("!e.busy && e.session.current === 1")
    other.page.close()


def test_the_keyboard_alone_is_enough(ready: Tab) -> None:
    ready.page.focus("canvas.points")
    for key in ("ArrowLeft", "Enter", "Shift+ArrowUp", "Shift+ArrowUp", "Enter"):
        ready.page.keyboard.press(key)
    (point,) = ready.get("e.points")
    assert np.allclose(np.subtract(point["target"], point["handle"]), [0, -20])
    ready.page.keyboard.press("Space")
    ready.until("e.step && e.step.index > 1")
    assert ready.page.inner_text("[role=status]") == "Dragging…"
    ready.page.keyboard.press("Escape")
    ready.until("!e.busy")


def test_fingers_pull_and_pinch(place: Place, session: EditSession, browser) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True)
    tab = Tab(context.new_page()).open(f"{place.home}#{place.sessions.add(session.folder)}")
    tab.ready()
    tab.click("got-it")
    touch = context.new_cdp_session(tab.page)

    def fingers(kind: str, *points: tuple[float, float]) -> None:
        at = [{"x": x, "y": y, "id": i} for i, (x, y) in enumerate(points)]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": at})

    fingers("touchStart", tab.at(260, 610))
    fingers("touchMove", tab.at(300, 560))
    fingers("touchEnd")
    assert np.allclose(tab.get("[e.points[0].handle, e.points[0].target]"), [[260, 610], [300, 560]], atol=3)
    scale, (x, y) = tab.get("e.view.scale"), tab.at(300, 500)
    fingers("touchStart", (x - 40, y), (x + 40, y))
    fingers("touchMove", (x - 80, y), (x + 80, y))
    fingers("touchEnd")
    assert tab.get("e.view.scale") == pytest.approx(2 * scale, rel=0.05)
    assert tab.get("e.points.length") == 1
    assert tab.errors == []
    context.close()


def test_what_is_no_photo_is_told(tab: Tab, place: Place, tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("hello")
    tab.open(place.home)
    tab.page.set_input_files("input[type=file]", tmp_path / "text.jpg")
    tab.until("document.querySelector('.toasts .problem')")
    assert "not a photo that can be read" in tab.page.inner_text(".toasts")
    with (tmp_path / "huge.jpg").open("wb") as file:
        file.truncate(200_000_000)
    tab.page.set_input_files("input[type=file]", tmp_path / "huge.jpg")
    tab.until("document.querySelectorAll('.toasts .problem').length === 2")
    assert "larger than 64 MB" in tab.page.inner_text(".toasts")
    tab.open(place.home.replace(TOKEN, "guessed"))
    assert "address that" in tab.page.inner_text("body")


def open_faces(tab: Tab, place: Place, lisa: np.ndarray, grid: tuple[int, int], side: int, file: Path) -> None:
    """Gives the page a photo of so many rows and columns of one face, `side` pixels each, and waits for its boxes."""
    face = np.array(Image.fromarray(lisa[150:690, 60:600]).resize((side, side)))
    Image.fromarray(np.tile(face, (*grid, 1))).save(file)
    tab.open(place.home)
    tab.page.set_input_files("input[type=file]", file)
    tab.until(f"e.faces.length === {grid[0] * grid[1]} && !e.busy")


def test_twelve_faces_are_numbered_and_one_is_chosen(tab: Tab, place: Place, lisa: np.ndarray, tmp_path: Path) -> None:
    open_faces(tab, place, lisa, (3, 4), 150, tmp_path / "crowd.png")
    assert tab.page.inner_text(".status") == "12 faces: choose one"
    left, top, right, bottom = tab.get("e.faces[6]")
    tab.page.mouse.click(*tab.at((left + right) / 2, (top + bottom) / 2))
    tab.ready()
    assert np.abs(np.mean(tab.get("e.session.quad"), 0) - [(left + right) / 2, (top + bottom) / 2]).max() < 30


def test_the_other_face_is_chosen_after_the_first(tab: Tab, place: Place, lisa: np.ndarray, tmp_path: Path) -> None:
    open_faces(tab, place, lisa, (1, 2), 300, tmp_path / "pair.png")
    tab.page.keyboard.press("1")
    tab.ready()
    tab.click("got-it")
    tab.pull((115, 260), (135, 240))
    assert tab.get("e.points.length") == 1
    tab.page.mouse.click(*tab.at(450, 200))
    tab.until("e.looked === 2 && e.ready && !e.busy")
    assert tab.get("[e.points.length, e.session.edits.length]") == [0, 0]
    tab.pull((415, 260), (445, 230))
    tab.click("start")
    tab.until("e.step && e.step.index > 2")
    tab.click("stop")
    tab.until("!e.busy && e.session.current === 1")
    tab.page.select_option("select.faces", "1")
    tab.until("e.looked === 1 && e.ready && !e.busy")
    assert tab.get("[e.points.length, e.session.edits.length, Boolean(e.beside)]") == [1, 0, True]  # as it was


def test_what_is_set_survives_a_reload_and_is_seen_in_another_tab(ready: Tab, browser) -> None:
    ready.pull((260, 610), (330, 540))
    ready.page.keyboard.press("b")
    ready.pull((230, 600), (430, 600))
    ready.page.fill("input[name=smile]", "0.6")
    mine = ready.get("e.sketchText()")
    other = Tab(browser.new_page()).open(ready.page.url)
    other.ready()
    other.until("e.points.length === 1")
    assert other.get("e.sketchText()") == mine and other.get("e.masked && e.strengths.smile") == 0.6
    other.click("got-it")
    other.pull((200, 460), (200, 440))
    ready.until("e.points.length === 2")
    ready.page.keyboard.press("p")
    ready.page.keyboard.press("Delete")  # nothing is chosen here
    ready.page.mouse.click(*ready.at(330, 540))
    ready.page.keyboard.press("Delete")
    other.until("e.points.length === 1")
    other.page.close()
    mine = ready.get("e.sketchText()")
    ready.page.reload()
    ready.ready()
    ready.until("e.points.length === 1")
    assert ready.get("e.sketchText()") == mine


def test_a_generator_is_chosen_and_its_download_seen(
    tab: Tab, place: Place, cache: Path, tmp_path: Path, monkeypatch
) -> None:
    content = next(place.sessions.root.glob("small.safetensors")).read_bytes()
    server, go_on = Server(content), threading.Event()
    monkeypatch.setitem(KNOWN, "far", replace(server.known, name="far", alignment="face", licence="of ours"))
    monkeypatch.setattr(place.sessions, "generators", [*place.sessions.generators, "far"])
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def slowly(request) -> None:
        serve(request, sent=5000)
        go_on.wait(WAIT)

    server.failures.extend([slowly, slowly])
    tab.open(place.home)
    tab.page.set_input_files("input[type=file]", DATA / "lisa1.jpg")
    tab.ready()
    tab.click("got-it")
    tab.page.select_option("select.generators", "far")
    assert "of ours" in tab.page.inner_text(".status")
    assert tab.page.inner_text("button.start") == "Learn with far"
    for _ in range(2):  # stopped, and gone on with
        tab.click("start")
        tab.until("e.step && e.step.waiting")
        assert "MB, waiting for the server" in tab.page.inner_text(".count")
        assert tab.page.inner_text(".status") == "Downloading far…"
        tab.click("stop")
        tab.ready()
        assert "goes on from there" in tab.page.inner_text(".toasts")
        go_on.set()
    tab.click("start")
    tab.until("e.session.generator === 'far' && e.ready && !e.busy")
    assert tab.page.inner_text("button.start") == "Start"
    server.shutdown()


def test_a_killed_server_comes_back_with_the_edit(tab: Tab, session: EditSession) -> None:
    arguments = ["web", session.folder, "--no-browser", "--token", TOKEN, "--drag.steps", "100000"]
    program = [sys.executable, "-m", "pipeline.cli", *map(str, arguments), "--drag.patience", "100000"]

    def start(port: int) -> tuple[subprocess.Popen, str]:
        server = subprocess.Popen([*program, "--port", str(port)], stdout=subprocess.PIPE, text=True, env=os.environ)
        assert server.stdout is not None
        return server, server.stdout.readline().split()[-1]

    server, address = start(0)
    try:
        tab.open(address)
        tab.ready()
        tab.click("got-it")
        tab.page.keyboard.press("b")
        tab.pull((150, 610), (450, 610))
        tab.page.keyboard.press("p")
        tab.pull((260, 610), (330, 590))
        tab.click("start")
        tab.until("e.step && e.step.index > 5")
        end = time.monotonic() + WAIT
        while (edit := session.current_edit) is None or edit.outcome.steps < 5:  # saving may be a little behind
            assert time.monotonic() < end
            time.sleep(0.02)
        server.send_signal(signal.SIGKILL)
        server.wait()
        tab.until("e.status.textContent.startsWith('The connection is lost')")
        server, again = start(int(address.split(":")[2].split("/")[0]))
        assert again == address
        tab.until("e.session && !e.busy && e.session.current === 1")
        assert tab.get("e.masked && e.anyMask() && e.points.length === 1")  # what was not yet done is here still
        server.send_signal(signal.SIGINT)
        assert server.wait(WAIT) in (0, 130)
    finally:
        server.kill()
    assert session.current_edit is not None and session.current_edit.outcome.steps >= 5
