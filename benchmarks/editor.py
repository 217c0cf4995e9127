"""What the editor costs: steps per second with and without a browser, frames shown, memory after many edits.

    python -m benchmarks.editor [--photo tests/data/lisa1.jpg]

Needs the extra `web`, playwright and chromium. Prints a table; takes about three minutes on two cores.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

from pipeline import EditSession, SessionFolder, read_record

PHOTO = Path(__file__).parent.parent / "tests" / "data" / "lisa1.jpg"
ENDLESS = ["--drag.patience", "100000"]


@contextmanager
def server(*arguments: object) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`photodrag web` in a process of its own, and its address."""
    command = [sys.executable, "-m", "pipeline.cli", "web", "--no-browser", "--port", "0", *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    address = next(line.split()[-1] for line in process.stdout if "http://" in line)
    try:
        yield process, address
    finally:
        process.terminate()
        process.wait()


def until(page: Any, expression: str, seconds: float = 240, every: float = 0.1) -> None:
    end = time.monotonic() + seconds
    while not page.evaluate(f"(() => {{ const e = photodrag; return Boolean({expression}); }})()"):
        if time.monotonic() > end:
            raise TimeoutError(expression)
        time.sleep(every)  # asking costs the browser time too


def start(page: Any) -> None:
    """A drag that does not arrive."""
    page.evaluate(
        "photodrag.points = [{handle: [260, 610], target: [330, 500]}, {handle: [395, 600], target: [330, 700]}]"
    )
    page.evaluate("photodrag.start()")
    until(page, "e.job.kind === 'drag'")


def memory(process: subprocess.Popen[str]) -> float:
    """Resident, in MB."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def drop(browser: Any, photo: Path, folder: Path) -> Path:
    """Times from a drop to the first reconstruction and to a face that can be edited; the session's folder."""
    with server("--sessions", folder) as (_, address):
        page = browser.new_page()
        page.goto(address)
        began = time.monotonic()
        page.set_input_files("input[type=file]", photo)
        until(page, "e.frame")
        first = time.monotonic() - began
        until(page, "e.ready && !e.busy")
        print(
            f"from drop to first reconstruction {first:.1f} s, to a face ready to edit {time.monotonic() - began:.1f} s"
        )
        return folder / page.url.partition("#")[2]


def rates(browser: Any, folder: Path, pairs: int, seconds: float = 4) -> None:
    """Steps per second with and without a browser that looks on, in turns within one drag, so that what else the
    machine does weighs on both alike; frames shown per second."""
    ratios = []
    with server(folder, "--drag.steps", 1_000_000, *ENDLESS) as (_, address):
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.goto(address)
        until(page, "e.ready && !e.busy")
        number = len(EditSession(folder).files.edits()) + 1
        start(page)
        for _ in range(pairs):
            until(page, "e.frames > 1")
            frames = page.evaluate("photodrag.frames")
            watched = rate(folder, number, seconds)
            frames = page.evaluate("photodrag.frames") - frames
            page.goto("about:blank")
            time.sleep(0.5)
            alone = rate(folder, number, seconds)
            page.goto(address)
            ratios.append(watched / alone)
            print(f"steps/s: {watched:.1f} with a browser, {frames / seconds:.1f} frames/s shown; {alone:.1f} alone")
        until(page, "e.busy")
        page.evaluate("photodrag.stop()")
        until(page, "!e.busy")
        page.close()
    print(
        f"a browser costs {100 * (1 - statistics.median(ratios)):.0f} % of the steps' speed (median of {pairs} pairs)"
    )


def rate(folder: Path, number: int, seconds: float) -> float:
    """Steps per second of the drag under way, as its record on disk says it."""
    before, began = steps_of(folder, number), time.monotonic()
    time.sleep(seconds)
    return (steps_of(folder, number) - before) / (time.monotonic() - began)


def steps_of(folder: Path, number: int) -> int:
    file = SessionFolder(folder).file(f"edits/{number:03}")
    while not file.is_file():
        time.sleep(0.1)
    return int(read_record(file, "edit").settings["outcome"]["steps"])


def growth(browser: Any, folder: Path) -> None:
    """Memory of the server after 2 and after 20 edits of a few steps."""
    with server(folder, "--drag.steps", 6, *ENDLESS) as (process, address):
        page = browser.new_page()
        page.goto(address)
        until(page, "e.ready && !e.busy")
        for number in range(1, 21):
            start(page)
            until(page, "!e.busy")
            if number in (2, 20):
                print(f"memory after {number} edits: {memory(process):.0f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--photo", type=Path, default=PHOTO)
    parser.add_argument("--pairs", type=int, default=8, help="of spells of a drag, with and without a browser")
    options = parser.parse_args()
    with sync_playwright() as made, tempfile.TemporaryDirectory() as folder:
        browser = made.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        session = drop(browser, options.photo, Path(folder))
        rates(browser, session, options.pairs)
        growth(browser, session)


if __name__ == "__main__":
    main()
