"""The command line: the whole way in one command, and one clear line for every mistake."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import DATA
from PIL import Image

from align import Photo
from drag import BadEdit, DragStep
from pipeline import EditSession
from pipeline.cli import COMMANDS, load, main
from pipeline.commands.common import parse_drags, told

FEW = ["--pivot.steps", "2", "--tune.steps", "2", "--drag.steps", "10"]
MOUTH = "260,610:240,590"


def photodrag(monkeypatch, *arguments: object) -> int:
    """Runs the command; its exit status."""
    monkeypatch.setattr(sys, "argv", ["photodrag", *map(str, arguments)])
    try:
        main()
    except SystemExit as end:
        if isinstance(end.code, str):  # what Python itself would print before leaving with 1
            sys.stderr.write(end.code + "\n")
            return 1
        return end.code or 0
    return 0


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "me.jpg"
    path.write_bytes((DATA / "lisa1.jpg").read_bytes())
    return path


def test_help_comes_without_torch() -> None:
    program = "import sys; from pipeline.cli import overview; overview(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=DATA.parent.parent).returncode == 0


def test_the_table_says_what_the_classes_say(monkeypatch, capsys) -> None:
    for name, command in COMMANDS.items():
        assert load(command).__doc__.splitlines()[0] == command.help
        assert photodrag(monkeypatch, name, "--help") == 0
    assert photodrag(monkeypatch) == 0
    said = capsys.readouterr().out
    assert all(f"  {name} " in said and command.help in said for name, command in COMMANDS.items())
    assert photodrag(monkeypatch, "paint") == 1
    assert 'no command "paint"' in capsys.readouterr().err


def test_edit_goes_the_whole_way(monkeypatch, tmp_path, photo, capsys, caplog) -> None:
    caplog.set_level("INFO")
    out = tmp_path / "out.jpg"
    assert photodrag(monkeypatch, "edit", photo, "--drag", MOUTH, "--drag", "310,420:335,405", "-o", out, *FEW) == 0
    before, after = Photo.load(photo), Photo.load(out)
    assert after.format == "JPEG" and after.pixels.shape == before.pixels.shape
    assert (before.pixels != after.pixels).any()
    assert b"compositeWithTrainedAlgorithmicMedia" in (after.xmp or b"")
    said = capsys.readouterr()
    assert "stopped after 10 of 10 steps" in said.out or "arrived" in said.out
    assert "perceptual distance: ST-LPIPS (vgg)" in caplog.text
    assert photo.read_bytes() == (DATA / "lisa1.jpg").read_bytes()

    # Again: the inversion is there already, an existing output is refused, and --overwrite is heard.
    assert photodrag(monkeypatch, "edit", photo, "--drag", MOUTH, "-o", out, *FEW) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert photodrag(monkeypatch, "edit", photo, "--drag", MOUTH, "-o", out, "--overwrite", *FEW) == 0
    assert "pivot" not in capsys.readouterr().err
    assert EditSession(tmp_path / "out.session").current_edit.parent == 0


def test_stages_one_at_a_time(monkeypatch, tmp_path, photo, capsys) -> None:
    session = tmp_path / "s"
    for command in (
        ["align", session, "--photo", photo],
        ["invert", session, *FEW],
        ["drag", session, "--drag", MOUTH, *FEW],
        ["drag", session, "--drag", "310,420:335,405", *FEW],
        ["export", session],
        ["export", session, "-o", tmp_path / "result.png"],
    ):
        assert photodrag(monkeypatch, *command) == 0, capsys.readouterr().err
    assert (session / "result.jpg").is_file() and (tmp_path / "result.png").is_file()
    assert EditSession(session).current_edit.parent == 1


def test_each_face_of_a_photo_is_edited_and_the_export_has_them_all(monkeypatch, tmp_path, capsys) -> None:
    pair, out, session = tmp_path / "pair.png", tmp_path / "out.png", tmp_path / "out.session"
    lisa = np.asarray(Image.open(DATA / "lisa1.jpg").resize((300, 450)))
    Image.fromarray(np.hstack([lisa, np.full_like(lisa, 128), lisa[:, ::-1]])).save(pair)
    before = np.asarray(Image.open(pair)).astype(int)

    def edit(face: str, drag: str) -> tuple[float, float]:
        """Edits a face; how much the left and the right one differ from the photo then."""
        arguments = ["edit", pair, "--face", face, "--drag", drag, "-o", out, "--overwrite", *FEW]
        assert photodrag(monkeypatch, *arguments) == 0, capsys.readouterr().err
        changed = np.abs(np.asarray(Image.open(out)) - before)
        return float(changed[:, :450].mean()), float(changed[:, 450:].mean())

    left, right = edit("2", "770,195:770,180")
    assert left == 0 and right > 0
    number = EditSession(session).current_edit.number
    both = edit("1", "130,195:130,180")
    assert both[0] > 0 and both[1] == right  # the first edit is still there
    assert EditSession(session).current_edit.number == number
    (other,) = (session / "faces").iterdir()
    assert f"photodrag drag {other}" in capsys.readouterr().out
    for folder in (session, other):
        assert photodrag(monkeypatch, "export", folder, "-o", tmp_path / "again.png", "--overwrite") == 0
        assert (tmp_path / "again.png").read_bytes() == out.read_bytes()
    # Undone, it is gone from the picture, and only that.
    assert photodrag(monkeypatch, "undo", other) == 0
    assert photodrag(monkeypatch, "export", session, "-o", out, "--overwrite") == 0
    assert not np.abs(np.asarray(Image.open(out)) - before)[:, :450].any()


@pytest.mark.parametrize(
    ("state", "score", "left", "said"),
    [
        ("arrived", 0.8, 0.7, "arrived after 40 steps, 0.8 px of a 512-pixel face from the targets on average"),
        ("stuck", 7.5, 7.5, "stuck after 40 steps, .* 7.5 px .* on average: drag less far"),
        ("stuck", 7.5, 0.4, "as near as it comes after 40 steps, 7.5 px .* on average, the photo bent to 0.4$"),
        ("stuck", 30.0, 22.0, "stuck after 40 steps, .* 30.0 px .*, the photo bent to 22.0: drag less far"),
        ("moving", 7.5, None, "stopped after 40 of 300 steps, still 7.5 px .* on average$"),
    ],
)
def test_how_a_drag_ended_is_said_with_what_the_photo_shows(state, score, left, said) -> None:
    step = DragStep(40, 300, score, torch.zeros(1, 1), np.zeros((1, 2)), np.zeros(1), state)
    assert re.match(said, told(step, left))


def test_gestures_are_made_shown_and_follow_each_other(monkeypatch, tmp_path, photo, capsys) -> None:
    session, out = tmp_path / "s", tmp_path / "out.jpg"
    arguments = ["--smile", "0.6", "--turn", "-8", "--then", "open-mouth", "0.4", "nod", "-3", "-o", out]
    assert photodrag(monkeypatch, "edit", photo, *arguments, "--session", session, *FEW) == 0
    second = EditSession(session).current_edit
    first = EditSession(session).edit(second.parent)
    assert (first.parent, second.anchor) == (0, "previous")
    assert first.mask is not None and len(first.edit.handles) > 10
    assert out.is_file()

    # What `gesture` says is what `drag` then understands.
    capsys.readouterr()
    shown = tmp_path / "shown.png"
    assert photodrag(monkeypatch, "gesture", photo, "--smile", "0.6", "-o", shown) == 0
    said = capsys.readouterr().out.splitlines()[0].split()
    assert Photo.load(shown).pixels.shape == Photo.load(photo).pixels.shape
    assert photodrag(monkeypatch, "drag", session, "--from-photo", *said, *FEW) == 0
    dragged = EditSession(session).current_edit
    assert photodrag(monkeypatch, "drag", session, "--from-photo", "--smile", "0.6", *FEW) == 0
    smiled = EditSession(session).current_edit
    np.testing.assert_allclose(dragged.edit.targets, smiled.edit.targets, atol=0.05)
    assert np.array_equal(dragged.mask, smiled.mask)
    assert photodrag(monkeypatch, "gesture", session, "--turn", "5", "-o", shown) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert photodrag(monkeypatch, "gesture", session, "--turn", "5", "-o", shown, "--overwrite") == 0


def test_faces_are_numbered(monkeypatch, tmp_path, photo, capsys) -> None:
    assert photodrag(monkeypatch, "faces", photo, "-o", tmp_path / "faces.png") == 0
    assert "face 1: " in capsys.readouterr().out
    assert Photo.load(tmp_path / "faces.png").pixels.shape == Photo.load(photo).pixels.shape


def test_parse_drags() -> None:
    handles, targets = parse_drags(["310,420:335,405", " 1.5, 2 : -3 ,4.25"])
    assert handles.tolist() == [[310, 420], [1.5, 2]] and targets.tolist() == [[335, 405], [-3, 4.25]]
    for bad in ("310,420", "a,b:c,d", "1,2:3", "1,2:3,4,5", ""):
        with pytest.raises(BadEdit, match="is not x,y:x,y"):
            parse_drags([bad])


def blank(path: Path, size: tuple[int, int] = (200, 200)) -> Path:
    Image.new("RGB", size, "grey").save(path)
    return path


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        ("missing.jpg", lambda path: None, "no file"),
        ("empty.jpg", lambda path: path.write_bytes(b""), "is empty"),
        ("text.jpg", lambda path: path.write_text("hello"), "not a photo"),
        ("cut.jpg", lambda path: path.write_bytes((DATA / "lisa1.jpg").read_bytes()[:9000]), "damaged or cut short"),
        ("blank.png", blank, "no face found"),
        ("wide.png", lambda path: blank(path, (20000, 8)), "20000 x 8 px"),
    ],
)
def test_photos_that_cannot_be_used(monkeypatch, tmp_path, capsys, name, make, message) -> None:
    make(tmp_path / name)
    assert photodrag(monkeypatch, "edit", tmp_path / name, "--drag", MOUTH, "-o", tmp_path / "out.png", *FEW) == 1
    error = capsys.readouterr().err
    assert error.splitlines()[-1].startswith("photodrag: ") and message in error
    assert "Traceback" not in error
    assert not (tmp_path / "out.png").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing to drag"),
        (["--drag", "310,420"], "is not x,y:x,y"),
        (["--drag", "310,420:310,420"], "already at its target"),
        (["--drag", "310,420:310,3000"], "px outside"),
        (["--smile", "1.5"], "--smile 1.5 is out of range: it goes from -1 to 1"),
        (["--smile", "0.5", "--smile", "-0.5"], "--smile 0.5 and --smile -0.5 contradict"),
        (["--close-eyes", "0.5", "--bigger-eyes", "0.9"], "close-eyes and bigger-eyes pull landmark"),
        (["--open-mouth", "-1"], "would move nothing"),
        (["--smile", "0.5", "--then", "turn"], "give gestures and strengths"),
        (["--smile", "0.5", "--then", "turn", "90"], "--turn 90 is out of range"),
        (["--smile", "0.5", "--then", "frown", "1"], 'no gesture "frown"'),
        (["--drag", MOUTH, "--face", "7"], "face 7 of 1"),
        (["--drag", MOUTH, "--face", "tall"], "give a number"),
        (["--drag", MOUTH, "--generator", "nobody"], "no generator"),
        (["--drag", MOUTH, "--device", "mps"], "has no mps"),
        (["--drag", MOUTH, "--mask", "SMALL"], "paint the mask on the photo itself"),
        (["--drag", MOUTH, "--mask", "BLACK"], "nothing may change"),
        (["--drag", MOUTH, "--mask", "ELSEWHERE"], "none of the handles"),
        (["--drag", MOUTH, "-o", "PHOTO"], "--overwrite"),
        (["--drag", MOUTH, "-o", "NOWHERE"], "no folder"),
        (["--drag", MOUTH, "-o", "BMP"], "cannot write"),
    ],
)
def test_mistakes_cost_a_line_and_nothing_else(monkeypatch, tmp_path, photo, capsys, arguments, message) -> None:
    elsewhere = np.zeros((800, 600), np.uint8)
    elsewhere[:50, :50] = 255
    blank(tmp_path / "small.png")
    Image.new("L", (600, 800)).save(tmp_path / "black.png")
    Image.fromarray(elsewhere).save(tmp_path / "elsewhere.png")
    places = {"SMALL": "small.png", "BLACK": "black.png", "ELSEWHERE": "elsewhere.png", "PHOTO": "me.jpg",
              "NOWHERE": "none/out.jpg", "BMP": "out.bmp"}  # fmt: skip
    arguments = [tmp_path / places[a] if a in places else a for a in arguments]
    output = [] if "-o" in arguments else ["-o", tmp_path / "out.jpg"]
    assert photodrag(monkeypatch, "edit", photo, *arguments, *output, *FEW) == 1
    error = capsys.readouterr().err
    assert error.splitlines()[-1].startswith("photodrag: ") and message in error
    assert "Traceback" not in error and "pivot:" not in error  # said before the long work
    assert photo.read_bytes() == (DATA / "lisa1.jpg").read_bytes()
    assert not (tmp_path / "out.jpg").exists()


def test_ctrl_c_keeps_the_last_step(monkeypatch, tmp_path, photo, capsys) -> None:
    session = tmp_path / "s"
    assert photodrag(monkeypatch, "align", session, "--photo", photo) == 0
    assert photodrag(monkeypatch, "invert", session, *FEW) == 0
    from pipeline.commands import common

    update = common.tqdm.update

    def interrupted(self, n=1):
        update(self, n)
        if self.n >= 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(common.tqdm, "update", interrupted)
    assert photodrag(monkeypatch, "drag", session, "--drag", MOUTH, *FEW) == 130
    assert "what was done is kept" in capsys.readouterr().err
    monkeypatch.undo()
    assert EditSession(session).current_edit is not None
    assert photodrag(monkeypatch, "export", session, "-o", tmp_path / "kept.png") == 0


@pytest.mark.parametrize("words", [["weights", "list"], ["--help"], ["edit", "--help"]])
def test_who_stops_reading_gets_no_traceback(words: list[str]) -> None:
    """As `photodrag weights list | head -1` does."""
    command = [sys.executable, "-c", "from pipeline.cli import main; main()", *words]
    program = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=DATA.parent.parent)
    assert program.stdout and program.stderr
    program.stdout.close()
    assert program.stderr.read() == b""
    assert program.wait() == 141
