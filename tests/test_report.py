"""The report: figures worked out by hand, a page that stands alone, and a film of the drag."""

import io
import re
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from conftest import QUICK
from PIL import Image

from pipeline import EditSession, film, finish
from pipeline.cli import run
from pipeline.edits import FILMED, Draft
from pipeline.film import Studio, chain, frames_of, gif, mp4, timed, with_track
from pipeline.record import read_record, write_record
from pipeline.report import seam

MOUTH = np.array([[260.0, 610.0]])


def test_the_seam_of_a_step_on_a_ramp() -> None:
    """Central differences beside a step of 10 change by 5, where the photo itself rises by 2."""
    ramp = np.broadcast_to(2 * np.arange(16, dtype=np.uint8)[None, :, None], (12, 16, 3)).copy()
    raised = ramp.copy()
    raised[:, 8:] += 10
    rim = seam(ramp, raised)
    assert rim is not None
    assert (rim.own, rim.difference) == (pytest.approx(2), pytest.approx(5))
    assert seam(ramp, ramp) is None


@pytest.fixture
def edited(small_session: EditSession) -> EditSession:
    """Two edits, the second within a mask."""
    finish(small_session.drag(MOUTH, MOUTH + 30))
    mask = np.zeros(small_session.photo.pixels.shape[:2], bool)
    mask[540:680, 200:400] = True
    finish(small_session.drag(MOUTH, MOUTH - 30, mask))
    return small_session


@pytest.fixture
def short(monkeypatch) -> None:
    """Films of a few pictures, for drawing one takes time."""
    monkeypatch.setattr(film, "MOST", 6)


def report(session: EditSession, *arguments: str) -> None:
    run("report", [str(session.folder), *arguments])


def test_the_report_stands_alone(edited: EditSession, short) -> None:
    report(edited)
    text = (edited.folder / "report.html").read_text()
    assert not re.search(r"(src|href)\s*=\s*[\"']?(?!data:)\w", text) and "http" not in text
    assert len(re.findall(r'<img [^>]*src="data:image/webp;base64,', text)) >= 8
    assert text.count('src="data:video/mp4;base64,') == 1
    assert "2 edits" in text and "0 pixels differ" in text and "ST-LPIPS" in text


def test_a_report_without_film_and_of_an_earlier_edit(edited: EditSession, tmp_path: Path) -> None:
    report(edited, "--edit", "1", "--no-film", "--output", str(tmp_path / "one.html"))
    text = (tmp_path / "one.html").read_text()
    assert "1 edit<" in text and "<video" not in text and "no mask" in text
    assert [path.name for path in tmp_path.glob("*.mp4")] == []


def test_a_film_has_every_step_that_was_kept(edited: EditSession) -> None:
    """It begins with the photo's latent and ends with the edit's."""
    edits = chain(edited, 2)
    assert [edit.number for edit in edits] == [1, 2]
    frames = frames_of(edits)
    assert [frame.step for frame in frames] == [n for edit in edits for n in range(edit.outcome.steps + 1)]
    torch.testing.assert_close(frames[0].latent, edited.inversion.latent, atol=2e-3, rtol=1e-3)
    assert torch.equal(frames[-1].latent, edits[-1].latent)


def test_both_films_show_the_same(edited: EditSession, short) -> None:
    frames = frames_of(chain(edited, 1))
    shot = timed(frames, list(Studio(edited).shoot(frames)))
    assert len(shot) == len(frames) <= 7 and shot[-1][1] == film.STILL
    with Image.open(io.BytesIO(gif(shot))) as moving:
        red, green, _ = np.array(moving.convert("RGB"), int).transpose(2, 0, 1)
        assert (red - green).max() > 150  # the handle's colour
        assert moving.n_frames == len(frames) and moving.info["loop"] == 0
        assert b"compositeWithTrainedAlgorithmicMedia" in moving.info["comment"]
    path = edited.folder / "film.mp4"
    path.write_bytes(mp4(shot))
    video = cv2.VideoCapture(str(path))
    pictures = []
    while (read := video.read())[0]:
        pictures.append(read[1][..., ::-1])
    assert len(pictures) == sum(times for _, times in shot)
    assert pictures[0].shape == shot[0][0].shape
    assert np.abs(pictures[-1].astype(float) - shot[-1][0]).mean() < 4  # VP9 loses something


def test_points_are_drawn_where_they_are() -> None:
    grey = np.full((400, 400, 3), 128, np.uint8)
    track = np.array([[[100.0, 100]], [[150, 100]], [[200, 100]]])
    drawn = with_track(grey, track, np.array([[300.0, 200]]))
    assert (grey == 128).all()
    assert drawn[100, 200, 0] > 200 > drawn[100, 200, 1]  # the handle is red
    assert drawn[100, 120, 0] > 200 > drawn[100, 120, 1]  # and so is its way
    assert (drawn[200, 300] == 128).all()  # the target is a ring
    assert drawn[200, 304, 2] > 200 > drawn[200, 304, 0]


def test_a_long_drag_keeps_few_latents(edited: EditSession) -> None:
    step = list(edited.drag(MOUTH, MOUTH + 50))[-1]
    draft = Draft(None, edited.edit(1).edit, "photo", QUICK.drag, {}, None)
    for _ in draft.followed(replace(step, index=n) for n in range(1000)):
        assert len(draft.film) <= FILMED
    gaps = np.diff(sorted(draft.film))
    assert len(draft.film) > FILMED / 2 and gaps.min() == gaps.max()


def test_edits_of_an_older_version_have_no_film(edited: EditSession, short) -> None:
    path = edited.files.file("edits/002")
    record = read_record(path, "edit")
    kept = {name: array for name, array in record.arrays.items() if not name.startswith("film")}
    write_record(path, type(record)(record.kind, kept, record.settings, record.made_from))
    report(edited)
    text = (edited.folder / "report.html").read_text()
    assert "Edit 2: of an older version" in text and "<video" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--edit", "9"], "there is no edit 9"),
        (["--edit", "0"], "nothing was done"),
        (["--output", "page.txt"], "ends in .html"),
        (["--output", "nowhere/page.html"], "there is no folder"),
    ],
)
def test_what_cannot_be_reported_is_said(edited: EditSession, arguments, message: str) -> None:
    with pytest.raises(SystemExit, match=message):
        report(edited, *arguments)
    assert not (edited.folder / "report.html").exists()


def test_a_report_is_not_written_over_unasked(edited: EditSession, tmp_path: Path) -> None:
    (tmp_path / "page.mp4").write_bytes(b"mine")
    with pytest.raises(SystemExit, match=r"page\.mp4 exists"):
        report(edited, "--output", str(tmp_path / "page.html"))
    assert (tmp_path / "page.mp4").read_bytes() == b"mine"
