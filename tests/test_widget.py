"""The notebook's widget without a notebook: the messages that its line carries, both ways."""

import time
from typing import Any

import pytest
from test_editor import PULL

from pipeline import EditSession

widget = pytest.importorskip("pipeline.editor.widget", reason="no anywidget here: pip install anywidget")


def test_the_widget_drags_and_says_so(small_session: EditSession, monkeypatch) -> None:
    editor = widget.Editor(small_session)
    told: list[tuple[dict[str, Any], list[bytes]]] = []
    monkeypatch.setattr(editor, "send", lambda content, buffers=None: told.append((content, buffers or [])))

    def wait(name: str, **fits: object) -> list[bytes]:
        for _ in range(1000):
            for content, buffers in told:
                if content["type"] == name and fits.items() <= content.items():
                    return buffers
            time.sleep(0.02)
        raise AssertionError(f"no {name} {fits} in {[content['type'] for content, _ in told]}")

    editor._hear(editor, {"type": "hello"}, [])
    assert wait("photo", width=600, height=800)[0].startswith(b"\xff\xd8")
    wait("job", kind=None)
    editor._hear(editor, PULL, [])
    wait("note")
    assert wait("result", number=1)[0].startswith(b"\xff\xd8")
    assert small_session.tree.current == 1
    editor._hear(editor, {"type": "paint"}, [])
    wait("problem")
    editor.host.worker.close()
