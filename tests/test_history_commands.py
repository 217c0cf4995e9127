"""undo, redo, goto, history and diff as commands: what they say, draw and refuse."""

import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import DATA, EYE, MOUTH
from PIL import Image
from test_cli import photodrag
from test_history import box, drag

from pipeline import EditSession
from pipeline.compare import contact_sheet, difference, heat_map
from pipeline.edits import Outcome
from pipeline.history import Entry, in_tree_order
from pipeline.lock import only_writer


@pytest.fixture
def session(small_session: EditSession) -> EditSession:
    """Edits 1 <- 2, and 3 on 1, which has a mask and is current."""
    drag(small_session)
    drag(small_session)
    small_session.undo()
    drag(small_session, EYE, mask=box(small_session, 150, 350, 450, 700), anchor="previous")
    return small_session


def test_moving_through_the_history(monkeypatch, session: EditSession, capsys) -> None:
    for command, at in (
        (["undo"], "edit 1"), (["undo"], "the photo"), (["redo"], "edit 1"), (["redo"], "edit 3"),
        (["goto", "2"], "edit 2"), (["goto", "photo"], "the photo"), (["goto", "0"], "the photo"),
    ):  # fmt: skip
        assert photodrag(monkeypatch, command[0], session.folder, *command[1:]) == 0
        assert capsys.readouterr().out.startswith(f"at {at}: `photodrag export")


@pytest.mark.parametrize(
    ("at", "command", "message"),
    [
        (0, ["undo"], "nothing to undo"),
        (2, ["redo"], "nothing to redo"),
        (3, ["goto", "9"], "there is no edit 9"),
        (3, ["goto", "last"], '"last" is no edit'),
        (3, ["diff", "1", "9"], "there is no edit 9"),
        (3, ["diff", "1", "-o", "x.jpg"], "ends in .png"),
        (3, ["history", "-o", "PHOTO"], "ends in .png"),
        (3, ["history", "-o", "TAKEN"], "--overwrite"),
    ],
)
def test_mistakes_are_one_line(monkeypatch, session: EditSession, capsys, at, command, message) -> None:
    session.goto(at)
    taken = session.folder / "taken.png"
    taken.write_bytes(b"mine")
    places = {"PHOTO": session.folder / "photo.jpg", "TAKEN": taken}
    arguments = [places.get(argument, argument) for argument in command]
    assert photodrag(monkeypatch, arguments[0], session.folder, *arguments[1:]) == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("photodrag: ") and message in line
    assert session.tree.current == at and taken.read_bytes() == b"mine"


def test_history_is_a_readable_tree_and_a_picture(monkeypatch, session: EditSession, capsys) -> None:
    assert photodrag(monkeypatch, "history", session.folder) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["edit", "points", "mask", "stopped", "steps", "left", "seconds", "date", "(UTC)"]
    assert [line[:9].rstrip() for line in lines[1:5]] == ["photo", "  1", "    2", "    3 *"]
    assert "holds previous" in lines[4] and "steps used up" in lines[4] and " px " in lines[4]
    assert np.array(Image.open(session.folder / "history.png")).shape[1] > 3 * 200


def test_history_says_what_is_lost_and_shows_the_rest(monkeypatch, session: EditSession, capsys) -> None:
    (session.folder / "edits" / "001.safetensors").unlink()
    assert photodrag(monkeypatch, "history", session.folder) == 0
    said = capsys.readouterr().out
    assert "edit 1 cannot be used: edits/001.safetensors is missing" in said
    assert [line[:9].rstrip() for line in said.splitlines()[1:5]] == ["photo", "  1", "    2", "    3 *"]
    assert photodrag(monkeypatch, "export", session.folder) == 0


def test_a_session_in_use_is_refused_by_name_and_can_be_read(monkeypatch, session: EditSession, capsys) -> None:
    with only_writer(session.folder):
        for command in (["undo"], ["goto", "1"], ["drag", "--drag", "260,610:240,590"], ["align"], ["invert"]):
            assert photodrag(monkeypatch, command[0], session.folder, *command[1:]) == 1
            error = capsys.readouterr().err.strip().splitlines()[-1]
            assert error.startswith(f"photodrag: {session.folder} is being written to by this process")
        assert photodrag(monkeypatch, "export", session.folder) == 0
        assert photodrag(monkeypatch, "history", session.folder) == 0


def test_without_its_photo_a_session_is_listed_and_says_what_to_do(monkeypatch, session: EditSession, capsys) -> None:
    shown = session.result().pixels
    (session.folder / "photo.jpg").unlink()
    assert photodrag(monkeypatch, "history", session.folder) == 1
    said = capsys.readouterr()
    assert "    3 *" in said.out
    (line,) = said.err.strip().splitlines()
    assert line.startswith("photodrag: the photo of ") and "put it back with `photodrag align" in line
    assert photodrag(monkeypatch, "align", session.folder, "--photo", DATA / "lisa2.jpg") == 1
    assert "holds another photo" in capsys.readouterr().err
    before = session.files.file("face").read_bytes()
    assert photodrag(monkeypatch, "align", session.folder, "--photo", DATA / "lisa1.jpg") == 0
    assert session.files.file("face").read_bytes() == before
    assert np.array_equal(EditSession(session.folder).result().pixels, shown)


def test_diff_says_and_shows_what_differs(monkeypatch, session: EditSession, capsys) -> None:
    assert photodrag(monkeypatch, "diff", session.folder, "1") == 0
    said = capsys.readouterr().out
    assert "edit 1 and edit 3 differ in " in said and "diff-1-3.png" in said
    assert (session.folder / "diff-1-3.png").is_file()
    assert photodrag(monkeypatch, "diff", session.folder, "photo", "0") == 0
    assert "the photo and the photo are the same to the pixel" in capsys.readouterr().out


def test_what_is_hidden_outside_a_mask_is_said(monkeypatch, session: EditSession, tmp_path, capsys) -> None:
    Image.fromarray(np.uint8(box(session, 150, 350, 450, 700)) * 255).save(tmp_path / "mask.png")
    points = [f"{x:.0f},{y:.0f}:{x:.0f},{y + 30:.0f}" for x, y in MOUTH]
    command = ["drag", session.folder, "--drag", *points, "--mask", tmp_path / "mask.png", "--drag.steps", "2"]
    assert photodrag(monkeypatch, *command) == 0
    assert "outside the mask the photo shows" in capsys.readouterr().out
    assert photodrag(monkeypatch, *command, "--anchor", "previous") == 0
    assert "outside the mask the photo shows" not in capsys.readouterr().out


def test_difference_by_hand() -> None:
    a = np.zeros((6, 8, 3), np.uint8)
    b = a.copy()
    b[2, 3], b[4, 5, 1] = (10, 0, 0), 30
    found = difference(a, b)
    assert (found.pixels, found.largest, found.mean, found.box) == (2, 30, 20.0, (3, 2, 6, 5))
    assert (heat_map(a, b) != heat_map(a, a)).any(2).sum() == 2
    assert difference(a, a).box is None


def entry(number: int, parent: int | None) -> Entry:
    return Entry(number, parent, False, outcome=Outcome(1, "arrived", 0.5))


def test_a_tree_is_laid_out_with_branches_downwards() -> None:
    entries = [entry(1, 0), entry(2, 1), entry(3, 0), entry(4, 1), entry(5, 4), Entry(6, None, False, problem="gone")]
    assert [(e.number, depth) for e, depth in in_tree_order(entries)] == [
        (1, 1), (2, 2), (4, 2), (5, 3), (3, 1), (6, 1)
    ]  # fmt: skip
    shades = {number: np.full((40, 40, 3), 30 * number, np.uint8) for number in range(6)}
    sheet = contact_sheet(entries, shades)
    height, width = sheet.shape[0] // 4, sheet.shape[1] // 4  # rows: 1 2 | 4 5 | 3 | 6; columns: photo 1 2, 5
    middle = {n: tuple(sheet[r * height + 200, c * width + 150]) for n, r, c in
              [(0, 0, 0), (1, 0, 1), (2, 0, 2), (4, 1, 2), (5, 1, 3), (3, 2, 1)]}  # fmt: skip
    assert middle == {n: (30 * n,) * 3 for n in middle}
    assert tuple(sheet[3 * height + 200, width + 150]) == (220,) * 3  # lost: grey


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the check forks")
def test_killed_drags_lose_nothing_finished(small_session: EditSession) -> None:
    drag(small_session)
    command = [sys.executable, "-m", "benchmarks.kill_drags", small_session.folder, "--runs", "4", "--longest", "0.5"]
    command += ["--saving", "inf", "--most-lost", "0", "--steps", "5000"]  # else a slow disk could fail it
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    run = subprocess.run(command, cwd=DATA.parent.parent, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "4 killed, 0 finished" in run.stdout
