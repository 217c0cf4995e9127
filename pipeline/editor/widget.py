"""The editor in a notebook: the same canvas and the same host; the widget's own line carries the messages."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anywidget

from pipeline.editor.host import Host, Outbox
from pipeline.editor.worker import Worker
from pipeline.session import EditSession

HERE = Path(__file__).parent


class Editor(anywidget.AnyWidget):
    """A canvas on a session that has a photo: `Editor(session)` as a cell's last line shows it.

    What is done in it is done to the session: `session.result()` in the next cell is what the canvas shows.
    """

    _esm = HERE / "editor.js"
    _css = HERE / "editor.css"

    def __init__(self, session: EditSession, generators: Sequence[str] = ("embedded",)):
        super().__init__()
        self._sending = threading.Lock()
        self._outbox = Outbox(self._send_all)
        self.host = Host(session, Worker(), generators)
        self.host.join(self._outbox)
        self.on_msg(self._hear)

    def _hear(self, _widget: object, content: Any, _buffers: object) -> None:
        self.host.receive(json.dumps(content), self._outbox)

    def _send_all(self) -> None:
        with self._sending:  # several threads have something to say
            for message in self._outbox.take():
                self.send(message.head, [message.payload] if message.payload else None)
