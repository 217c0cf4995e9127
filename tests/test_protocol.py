"""The editor's messages: checked shapes, one line for each mistake."""

import json

import numpy as np
import pytest

from pipeline.editor.protocol import BadMessage, Drag, GoTo, Mask, Message, read_request

POINT = {"handle": [1, 2], "target": [3.5, 4]}


def drag(**changes) -> str:
    return json.dumps({"type": "drag", "points": [POINT], **changes})


def test_a_drag_is_read() -> None:
    request = read_request(drag(mask={"width": 3, "height": 2, "runs": [1, 2, 3]}, anchor="previous"))
    assert isinstance(request, Drag)
    assert (request.points[0].handle, request.points[0].target) == ((1, 2), (3.5, 4))
    assert request.mask is not None and request.mask.read((2, 3)).tolist() == [[False, True, True], [False] * 3]


def test_a_mask_is_scaled_to_the_photo() -> None:
    scaled = Mask(width=2, height=2, runs=[0, 1, 1, 1, 1]).read((6, 6))  # a chessboard of four
    assert scaled.shape == (6, 6) and scaled[0, 0] and not scaled[0, 5] and scaled[5, 0] is not True
    assert np.array_equal(Mask(width=4, height=3, runs=[0, 12]).read((30, 40)), np.ones((30, 40), bool))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "wrong shape"),
        ("[]", "wrong shape"),
        ("{}", "type"),
        ('{"type": "format-disk"}', "format-disk"),
        ('{"type": "goto"}', "number"),
        ('{"type": "goto", "number": "1"}', "number"),
        ('{"type": "goto", "number": -1}', "number"),
        ('{"type": "undo", "path": "/etc/passwd"}', "path"),
        (drag(points=[{"handle": [1], "target": [1, 2]}]), "handle"),
        (drag(points=[{"handle": ["a", 2], "target": [1, 2]}]), "handle"),
        (drag(points=[POINT] * 65), "points"),
        (drag(points=[POINT]).replace("3.5", "NaN"), "target"),
        (drag(points=[POINT]).replace("3.5", "1e99"), "target"),
        (drag(mask={"width": 1 << 20, "height": 1 << 20, "runs": [1 << 40]}), "mask.width"),
        (drag(mask={"width": 2, "height": 2, "runs": [-4]}), "runs"),
        (" " * 8_000_001, "bytes"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(text: str, message: str) -> None:
    with pytest.raises(BadMessage, match=message) as refused:
        read_request(text)
    assert "\n" not in str(refused.value)


def test_runs_must_fill_the_mask() -> None:
    with pytest.raises(BadMessage, match="add up to 3, not to 2 x 2"):
        Mask(width=2, height=2, runs=[1, 2]).read((2, 2))


def test_a_message_is_packed() -> None:
    packed = Message("frame", {"serial": 3}, b"\xff\xd8").pack()
    length = int.from_bytes(packed[:4], "little")
    assert json.loads(packed[4 : 4 + length]) == {"type": "frame", "serial": 3}
    assert packed[4 + length :] == b"\xff\xd8"
    assert read_request('{"type": "goto", "number": 7}') == GoTo(type="goto", number=7)
