"""Pictures of the editor in each of its states, on a desk and on a phone, and a short film of a drag.

    python -m benchmarks.editor_pictures OUT [--docs docs]

Needs the extra `web`, playwright and chromium; takes about five minutes on two cores. OUT gets a PNG of each state, to
be looked at one by one; --docs writes the few that the README shows, small, and the film.
"""

from __future__ import annotations

import argparse
import io
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw
from playwright.sync_api import sync_playwright

from benchmarks.editor import PHOTO, server, until

DESK, PHONE, FILM = (1440, 900), (390, 844), (760, 720)
TURN = [
    ((304, 461), (338, 461)),
    ((302, 543), (330, 543)),
    ((220, 362), (248, 362)),
    ((380, 362), (402, 362)),
]  # of PHOTO
MOUTH = [(225, 560), (300, 572), (375, 560)]
DOCS = {"editor-history.jpg": ["desk-history"],
        "editor-phone.jpg": ["phone-points", "phone-mask", "phone-gestures", "phone-before-after"]}  # fmt: skip


class Camera:
    """A page of the editor, and where its pictures go."""

    def __init__(self, page: Any, out: Path, name: str):
        self.page, self.out, self.name = page, out, name

    def shoot(self, state: str) -> None:
        self.page.screenshot(path=self.out / f"{self.name}-{state}.png")
        print(f"{self.name}-{state}")

    def at(self, point: tuple[float, float]) -> tuple[float, float]:
        left, top = self.page.evaluate(f"photodrag.toScreen({list(point)})")
        box = self.page.locator("canvas.points").bounding_box()
        return box["x"] + left, box["y"] + top

    def pull(self, *points: tuple[float, float]) -> None:
        self.page.mouse.move(*self.at(points[0]))
        self.page.mouse.down()
        for point in points[1:]:
            self.page.mouse.move(*self.at(point), steps=4)
        self.page.mouse.up()

    def click(self, button: str) -> None:
        self.page.click(f"button.{button}:visible")

    def ready(self) -> None:
        until(self.page, "e.ready && !e.busy")
        time.sleep(0.3)  # until it is painted


@contextmanager
def camera(browser: Any, size: tuple[int, int], out: Path, name: str) -> Iterator[Camera]:
    context = browser.new_context(viewport={"width": size[0], "height": size[1]}, has_touch=name == "phone")
    yield Camera(context.new_page(), out, name)
    context.close()


def first_steps(shot: Camera, address: str, photo: Path) -> str:
    """From the empty page to a face that was learned; the session's address."""
    shot.page.goto(address)
    shot.shoot("drop")
    shot.page.set_input_files("input[type=file]", photo)
    until(shot.page, "e.frame && e.step && e.step.stage === 'tune' && e.step.index > 2")
    shot.shoot("learning")
    shot.ready()
    shot.shoot("hints")
    shot.click("got-it")
    return str(shot.page.url)


def a_drag(shot: Camera) -> None:
    for pull in TURN:
        shot.pull(*pull)
    shot.shoot("points")
    shot.click("start")
    until(shot.page, "e.job.kind === 'drag' && e.step && e.frame")
    shot.shoot("dragging")
    shot.ready()
    shot.shoot("arrived")


def what_else(shot: Camera, text: Path) -> None:
    """A mask, a gesture, before and after, the history, a mistake."""
    shot.page.keyboard.press("b")
    shot.page.evaluate("photodrag.brush = 48")
    shot.pull(*MOUTH)
    shot.shoot("mask")
    shot.click("clear")
    shot.page.keyboard.press("p")
    shot.page.evaluate("photodrag.gestures.open = true")
    shot.page.fill("input[name=smile]", "0.5")
    shot.shoot("gestures")
    shot.click("start")
    time.sleep(0.3)
    shot.ready()
    shot.page.evaluate("photodrag.gestures.open = innerWidth > 900")
    shot.click("compare")
    shot.shoot("before-after")
    shot.click("compare")
    shot.click("undo")
    time.sleep(0.3)
    shot.ready()
    shot.page.evaluate("photodrag.gestures.open = true; photodrag.strengths = {}")
    shot.page.fill("input[name=raise-brows]", "0.6")
    shot.page.evaluate("photodrag.gestures.open = innerWidth > 900")
    shot.click("start")
    time.sleep(0.3)
    shot.ready()
    time.sleep(5)  # until what was said is gone
    shot.shoot("history")
    shot.page.set_input_files("input[type=file]", text)
    until(shot.page, "document.querySelector('.toasts .problem')")
    shot.shoot("mistake")


def faces(shot: Camera, address: str, pair: Path) -> None:
    shot.page.goto(address.partition("#")[0])
    shot.page.set_input_files("input[type=file]", pair)
    until(shot.page, "e.faces.length === 2 && !e.busy")
    time.sleep(0.3)
    shot.shoot("faces")


def film(shot: Camera) -> list[Image.Image]:
    """The hand sets two points; then the drag, held after every other step for its picture."""
    frames = []

    def take(mouse: tuple[float, float] | None = None) -> None:
        frames.append(with_cursor(shot.page.screenshot(), mouse))

    for _ in range(6):
        take()
    for start, end in TURN:
        a, b = np.array(shot.at(start)), np.array(shot.at(end))
        shot.page.mouse.move(*a)
        shot.page.mouse.down()
        for share in np.linspace(0, 1, 6):
            shot.page.mouse.move(*(a + share * (b - a)))
            take(tuple(a + share * (b - a)))
        shot.page.mouse.up()
    button = shot.page.locator("button.start").bounding_box()
    take((button["x"] + 40, button["y"] + 20))
    shot.click("start")
    index = 0
    while True:
        until(shot.page, f"!e.busy || (e.step && e.step.index > {index})", every=0.01)
        shot.page.evaluate("photodrag.job.status === 'running' && photodrag.pauseOrResume()")
        time.sleep(1.1)  # the last picture that was offered is drawn within a second
        shot.page.evaluate(
            "photodrag.job.kind && (photodrag.job.status = 'running', photodrag.refresh(), photodrag.announce())"
        )
        time.sleep(0.1)
        take()
        if not shot.page.evaluate("photodrag.busy"):
            break
        index = shot.page.evaluate("photodrag.step.index") + 1
        shot.page.evaluate("photodrag.link.send({type: 'resume'})")
    time.sleep(5)  # until what was said is gone
    for compare in (False, True, False):
        shot.page.evaluate(f"photodrag.before = {str(compare).lower()}; photodrag.draw()")
        time.sleep(0.2)
        for _ in range(8):
            take()
    return frames


def without_edits(folder: Path, address: str) -> str:
    """The name of a copy of a session in which nothing was dragged yet."""
    copied = folder / secrets.token_hex(16)
    ignored = shutil.ignore_patterns("edits", "faces", "sketch.json")
    shutil.copytree(folder / address.partition("#")[2], copied, ignore=ignored)
    return copied.name


def with_cursor(png: bytes, mouse: tuple[float, float] | None) -> Image.Image:
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    if mouse is not None:
        arrow = [(0, 0), (0, 19), (4, 15), (8, 23), (11, 21), (8, 14), (14, 14)]
        ImageDraw.Draw(picture).polygon([(mouse[0] + x, mouse[1] + y) for x, y in arrow], "black", "white")
    return picture


def save_film(frames: list[Image.Image], path: Path, width: int = 640) -> None:
    small = [
        frame.resize((width, round(width * frame.height / frame.width)), Image.Resampling.LANCZOS) for frame in frames
    ]
    small[0].save(path, save_all=True, append_images=small[1:], duration=120, loop=0, quality=60, method=6)
    print(f"{path}: {len(frames)} pictures, {path.stat().st_size // 1000} KB")


def save_docs(out: Path, docs: Path) -> None:
    """The pictures that the README shows, each at most 60 kB."""
    for name, states in DOCS.items():
        parts = [Image.open(out / f"{state}.png").convert("RGB") for state in states]
        sheet = Image.new("RGB", (sum(p.width + 16 for p in parts) - 16, parts[0].height), "white")
        for i, part in enumerate(parts):
            sheet.paste(part, (i * (part.width + 16), 0))
        sheet = sheet.resize((1080, round(1080 * sheet.height / sheet.width)), Image.Resampling.LANCZOS)
        quality = next(q for q in range(88, 20, -4) if len(encoded(sheet, q)) <= 60_000)
        (docs / name).write_bytes(encoded(sheet, quality))


def encoded(picture: Image.Image, quality: int) -> bytes:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality, optimize=True, progressive=True)
    return file.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("out", type=Path)
    parser.add_argument("--docs", type=Path, help="folder for the README's pictures")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    with (
        sync_playwright() as made,
        tempfile.TemporaryDirectory() as folder,
        server("--sessions", folder) as (_, address),
    ):
        browser = made.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        text, pair = Path(folder) / "text.jpg", Path(folder) / "pair.png"
        text.write_text("hello")
        face = Image.open(PHOTO).convert("RGB")
        both = Image.new("RGB", (2 * face.width, face.height))
        for i, one in enumerate((face, Image.open(PHOTO.with_name("lisa3.jpg")).convert("RGB").resize(face.size))):
            both.paste(one, (i * face.width, 0))
        both.save(pair)
        session = ""
        for name, size in (("desk", DESK), ("phone", PHONE)):
            with camera(browser, size, options.out, name) as shot:
                session = first_steps(shot, address, PHOTO)
                a_drag(shot)
                what_else(shot, text)
                faces(shot, address, pair)
        with camera(browser, FILM, options.out, "film") as shot:
            shot.page.goto(f"{address}#{without_edits(Path(folder), session)}")
            shot.ready()
            shot.click("got-it")
            shot.page.evaluate("photodrag.gestures.open = false")
            time.sleep(0.3)
            save_film(film(shot), (options.docs or options.out) / "editor.webp")
        browser.close()
    if options.docs:
        save_docs(options.out, options.docs)


if __name__ == "__main__":
    main()
