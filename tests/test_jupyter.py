"""The widget in a live JupyterLab, in Debian's chromium. Skipped where JupyterLab is not installed."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import nbformat
import pytest
from test_browser import CHROMIUM, playwright

from pipeline import EditSession

pytest.importorskip("jupyterlab", reason="no JupyterLab here: pip install jupyterlab")
TOKEN = "the-right-token"
CELL = """from pathlib import Path
from pipeline import EditSession
from pipeline.editor.widget import Editor
Editor(EditSession(Path("small")))"""


@pytest.fixture
def lab(small_session: EditSession) -> Iterator[str]:
    """The address of a notebook beside a session, in JupyterLab."""
    folder = small_session.folder.parent
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELL)], metadata=kernel)
    nbformat.write(notebook, folder / "drag.ipynb")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--no-browser", "--allow-root", f"--port={port}", f"--IdentityProvider.token={TOKEN}"]
    server = subprocess.Popen([sys.executable, "-m", "jupyterlab", *options], cwd=folder, stderr=subprocess.DEVNULL)
    yield f"http://127.0.0.1:{port}/lab/tree/drag.ipynb?token={TOKEN}"
    server.terminate()
    server.wait()


def test_a_cell_shows_the_editor_and_a_point_is_dragged(lab: str, small_session: EditSession) -> None:
    with playwright.sync_playwright() as made:
        browser = made.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1300, "height": 1100})
        open_when_served(page, lab)
        page.click(".jp-Cell .cm-content", timeout=60_000)
        page.keyboard.press("Shift+Enter")
        page.wait_for_selector(".photodrag[data-stage=ready][data-job='']", timeout=60_000)
        page.click("button.got-it")
        box = page.locator("canvas.points").bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        page.mouse.move(x, y)
        page.mouse.down()
        page.mouse.move(x + 20, y - 20, steps=4)
        page.mouse.up()
        for key in "bpx":  # in a notebook: a new cell, nothing, cut the cell
            page.keyboard.press(key)
        assert page.locator(".jp-Cell").count() == 2  # Shift Enter made one
        page.click(".photodrag button.start")
        page.wait_for_selector(".photodrag .history li:nth-child(2) [aria-current]", timeout=60_000)
        browser.close()
    assert small_session.tree.current == 1


def open_when_served(page: Any, address: str, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while True:
        try:
            page.goto(address)
            return
        except playwright.Error:
            assert time.monotonic() < end, "JupyterLab does not come up"
            time.sleep(0.3)
