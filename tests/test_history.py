"""The history of edits: a tree that only grows, what its pointer does, and what is left when files are lost."""

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import DATA, EYE, MOUTH, QUICK

import pipeline.progress
import pipeline.record
from align import Pins
from pipeline import (
    CorruptRecord,
    EditSession,
    NoSuchEdit,
    Record,
    SessionBusy,
    StaleResult,
    UnknownFormat,
    finish,
    read_record,
    write_record,
)


def moved(points: np.ndarray, x: float, y: float) -> np.ndarray:
    return points + np.array([x, y])


def drag(session: EditSession, handles: np.ndarray = MOUTH, by: float = 30.0, **more) -> int:
    """Drags points down by some pixels; the new edit's number."""
    finish(session.drag(handles, moved(handles, 0, by), **more))
    return session.current_edit.number


def box(session: EditSession, left: int, top: int, right: int, bottom: int) -> np.ndarray:
    mask = np.zeros(session.photo.pixels.shape[:2], bool)
    mask[top:bottom, left:right] = True
    return mask


@pytest.fixture
def branched(small_session: EditSession) -> EditSession:
    """Edits 1 <- 2 <- 3, and 4 on 1, which is current."""
    for _ in range(3):
        drag(small_session)
    small_session.undo()
    small_session.undo()
    drag(small_session, by=-30)
    return small_session


def tree(session: EditSession) -> list[tuple[int, int | None]]:
    return [(entry.number, entry.parent) for entry in session.history()]


def test_an_edit_after_an_undo_branches_and_nothing_is_lost(branched: EditSession) -> None:
    assert tree(branched) == [(1, 0), (2, 1), (3, 2), (4, 1)]
    assert [entry.number for entry in branched.history() if entry.current] == [4]
    assert branched.current_edit.number == 4


def test_undo_leads_to_the_photo_and_gives_it_back_to_the_bit(branched: EditSession) -> None:
    assert not np.array_equal(branched.result().pixels, branched.photo.pixels)
    assert [branched.undo(), branched.undo()] == [1, 0]
    assert branched.current_edit is None
    assert np.array_equal(branched.result().pixels, branched.photo.pixels)
    with pytest.raises(NoSuchEdit, match="nothing to undo"):
        branched.undo()


def test_redo_follows_the_branch_that_was_left_last(branched: EditSession) -> None:
    branched.goto(0)
    assert [branched.redo(), branched.redo()] == [1, 4]
    with pytest.raises(NoSuchEdit, match="nothing to redo: no edit stands on edit 4"):
        branched.redo()
    branched.goto(3)
    branched.undo(), branched.undo(), branched.undo()
    assert [branched.redo(), branched.redo(), branched.redo()] == [1, 2, 3]


def test_going_anywhere_shows_that_edit(branched: EditSession) -> None:
    shown = {number: branched.result(number).pixels for number in (0, 1, 2, 3, 4)}
    for number in (3, 0, 2):
        assert branched.goto(number) == number
        assert np.array_equal(branched.result().pixels, shown[number])
    with pytest.raises(NoSuchEdit, match=r"there is no edit 7 .*\(0, 1, 2, 3, 4\)"):
        branched.goto(7)
    with pytest.raises(NoSuchEdit, match="there is no edit -1"):
        branched.goto(-1)
    assert branched.current_edit.number == 2


def test_another_process_sees_the_same_current_edit(branched: EditSession) -> None:
    branched.goto(2)
    again = EditSession(branched.folder, QUICK)
    assert again.current_edit.number == 2 and again.history() == branched.history()


def test_an_edit_says_all_about_itself(small_session: EditSession) -> None:
    mask = box(small_session, 150, 350, 450, 700)
    drag(small_session)
    steps = list(small_session.drag(EYE, moved(EYE, 0, 60), mask, anchor="previous"))
    edit = EditSession(small_session.folder, QUICK).current_edit
    face = small_session.face(32)
    assert (edit.number, edit.parent, edit.anchor) == (2, 1, "previous")
    np.testing.assert_allclose(edit.edit.handles, face.from_photo(EYE))
    np.testing.assert_allclose(edit.edit.targets, face.from_photo(moved(EYE, 0, 60)))
    assert np.array_equal(edit.mask, mask) and edit.edit.movable.shape == (32, 32)
    assert edit.config["steps"] == 6 and edit.config["mask_weight"] == QUICK.drag.mask_weight
    torch.testing.assert_close(edit.latent, steps[-1].latent)
    np.testing.assert_allclose(edit.track, np.stack([step.handles for step in steps]), rtol=1e-6)
    assert np.array_equal(edit.handles, steps[-1].handles)
    outcome = edit.outcome
    assert (outcome.steps, outcome.stopped, outcome.score) == (6, "steps used up", steps[-1].score)
    assert 0 < outcome.seconds < 60 and outcome.date.startswith("20") and outcome.date.endswith("+00:00")
    entry = small_session.history()[1]
    assert (entry.points, entry.masked, entry.outcome) == (1, True, outcome)


def test_why_a_drag_stopped(small_session: EditSession) -> None:
    steps = small_session.drag(MOUTH, moved(MOUTH, 0, 30))
    next(steps), next(steps)
    steps.close()
    drag(small_session, by=0.1)  # as good as there
    assert [entry.outcome.stopped for entry in small_session.history()] == ["cancelled", "arrived"]


def test_what_was_not_begun_leaves_no_edit(small_session: EditSession) -> None:
    steps = small_session.drag(MOUTH, moved(MOUTH, 0, 30))
    next(steps)
    steps.close()
    assert small_session.history() == () and small_session.current_edit is None


def test_a_later_handle_is_given_where_it_is_seen_now(small_session: EditSession) -> None:
    drag(small_session)
    face, first = small_session.face(32), small_session.current_edit
    step = next(small_session.drag(face.to_photo(first.handles), moved(MOUTH, 20, 60)))
    np.testing.assert_allclose(step.handles, first.handles, atol=1e-4)
    torch.testing.assert_close(step.latent, first.latent)


# --- masks over a chain of edits ----------------------------------------------------------------------------


def test_outside_its_mask_an_edit_shows_its_anchor(small_session: EditSession) -> None:
    drag(small_session)
    first = small_session.result().pixels
    mask = box(small_session, 150, 350, 330, 700)
    for anchor, held in (("previous", first), ("photo", small_session.photo.pixels)):
        small_session.goto(1)
        drag(small_session, EYE, mask=mask, anchor=anchor)
        result = small_session.result().pixels
        assert np.array_equal(result[~mask], held[~mask])
        assert not np.array_equal(result[mask], held[mask])


def test_features_outside_the_mask_are_drawn_to_the_anchor(small_session: EditSession) -> None:
    drag(small_session)
    mask = box(small_session, 150, 350, 330, 700)
    generator, pivot = small_session.inversion.generator, small_session.inversion.latent
    start = small_session.current_edit.latent
    outside = torch.from_numpy(~small_session.face(16).mask_from_photo(mask))

    def apart(a: torch.Tensor, b: torch.Tensor) -> float:
        return (generator.features(a[None], 16) - generator.features(b[None], 16))[..., outside].abs().mean().item()

    ended = {}
    for anchor in ("photo", "previous"):
        small_session.goto(1)
        drag(small_session, EYE, mask=mask, anchor=anchor)
        ended[anchor] = small_session.current_edit.latent
    assert apart(ended["photo"], pivot) < 0.8 * apart(ended["previous"], pivot)
    assert apart(ended["previous"], start) < 0.8 * apart(ended["photo"], start)


def test_edits_in_masks_of_their_own_stay_beside_each_other(small_session: EditSession) -> None:
    left, right = box(small_session, 150, 350, 290, 700), box(small_session, 300, 350, 450, 700)
    drag(small_session, mask=left)
    first = small_session.result().pixels
    drag(small_session, np.array([[330.0, 600.0]]), mask=right)
    second = small_session.result().pixels
    assert np.array_equal(second[~right], first[~right])
    assert (second != first)[right].any() and (first != small_session.photo.pixels)[left].any()
    assert np.array_equal(second[~(left | right)], small_session.photo.pixels[~(left | right)])


def test_the_seam_of_a_mask_is_feathered_inside(small_session: EditSession) -> None:
    drag(small_session)
    first = small_session.result().pixels.astype(int)
    mask = box(small_session, 150, 350, 330, 700)
    drag(small_session, EYE, mask=mask, anchor="previous")
    change = np.abs(small_session.result().pixels.astype(int) - first).max(2)
    rim = mask & ~box(small_session, 151, 351, 329, 699)
    deep = box(small_session, 170, 370, 310, 680)
    assert 0 < change[rim].mean() < 0.6 * change[deep].mean()


# --- loss and damage ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:300])])
def test_a_lost_parent_takes_nothing_with_it(branched: EditSession, damage) -> None:
    shown = branched.result(3).pixels
    damage(branched.folder / "edits" / "002.safetensors")
    assert np.array_equal(branched.result(3).pixels, shown)
    assert branched.goto(3) == 3 and drag(branched) == 5
    lost = {entry.number: entry.problem for entry in branched.history() if entry.problem}
    assert list(lost) == [2] and "edits/002.safetensors" in lost[2]
    branched.goto(3)
    with pytest.raises((CorruptRecord, NoSuchEdit), match=r"edit 2.*photodrag goto"):
        branched.undo()
    assert branched.current_edit.number == 3
    assert branched.goto(1) == 1 and branched.redo() == 4


def test_a_lost_current_edit_is_named_and_left(branched: EditSession) -> None:
    (branched.folder / "edits" / "004.safetensors").unlink()
    for act in (branched.result, branched.undo, lambda: drag(branched)):
        with pytest.raises(NoSuchEdit, match=r"no edit 4 .*photodrag goto"):
            act()
    assert [(e.number, e.current) for e in branched.history() if e.problem] == [(4, True)]
    assert branched.goto(3) == 3 and drag(branched) == 5  # 4 is never given again


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'{"format": "2", "current": null, "redo": {}}'])
def test_a_damaged_pointer_is_said_and_mended_by_goto(branched: EditSession, content: bytes) -> None:
    (branched.folder / "edits" / "current.json").write_bytes(content)
    for act in (branched.result, branched.undo, branched.redo, branched.history, lambda: drag(branched)):
        with pytest.raises(CorruptRecord, match=r"which edit was current is lost.*photodrag goto .*0, 1, 2, 3, 4"):
            act()
    assert branched.goto(3) == 3 and branched.undo() == 2


def test_a_new_inversion_makes_edits_unusable_but_keeps_them(small_session: EditSession, tmp_path) -> None:
    drag(small_session)
    generator = small_session.files.read("pivot").settings["generator"]
    other = replace(QUICK, pivot=replace(QUICK.pivot, steps=2))
    finish(EditSession(small_session.folder, other).invert(generator))
    assert "has changed since 001.safetensors" in small_session.history()[0].problem
    with pytest.raises(StaleResult, match="drag --from-photo"):
        small_session.result()
    assert small_session.goto(0) == 0


# --- formats ------------------------------------------------------------------------------------------------


def as_format_1(session: EditSession, number: int, parent: int | None) -> None:
    """Writes an edit's record anew, as the version before histories did."""
    path = session.files.file(f"edits/{number:03}")
    record = read_record(path, "edit")
    names = {"handles", "targets", "ended", "latent", "movable", "mask"} & set(record.arrays)
    settings = {**record.settings["config"], "parent": parent, "steps": 6, "arrived": False, "score": 2.5}
    made_from = dict(record.made_from) | ({f"edits/{parent:03}.safetensors": "0" * 64} if parent else {})
    write_record(path, Record("edit", {name: record.arrays[name] for name in names}, settings, made_from))


def test_a_session_of_format_1_is_read(small_session: EditSession, monkeypatch) -> None:
    monkeypatch.setattr(EditSession, "_pins", lambda *_: Pins())  # nothing was pinned then
    drag(small_session)
    first = small_session.result().pixels
    mask = box(small_session, 150, 350, 330, 700)
    drag(small_session, EYE, mask=mask, anchor="previous")
    monkeypatch.setattr(pipeline.record, "FORMAT", "1")
    as_format_1(small_session, 1, None)
    as_format_1(small_session, 2, 1)
    monkeypatch.undo()
    (small_session.folder / "edits" / "current.json").unlink()

    edit = EditSession(small_session.folder, QUICK).current_edit
    assert (edit.number, edit.parent, edit.anchor, edit.track.shape) == (2, 1, "previous", (2, 1, 2))
    assert (edit.outcome.stopped, edit.outcome.seconds, edit.config["rows"]) == ("not arrived", None, QUICK.drag.rows)
    assert np.array_equal(small_session.result().pixels[~mask], first[~mask])
    assert tree(small_session) == [(1, 0), (2, 1)]
    assert small_session.undo() == 1 and small_session.redo() == 2 and drag(small_session) == 3


def test_newer_formats_are_refused_by_name(branched: EditSession, monkeypatch) -> None:
    pointer = branched.folder / "edits" / "current.json"
    old = pointer.read_text()
    pointer.write_text(json.dumps({"format": "9", "current": "3a"}))
    for act in (branched.history, branched.undo, lambda: branched.goto(1)):
        with pytest.raises(UnknownFormat, match="of format 9"):
            act()
    pointer.write_text(old)
    monkeypatch.setattr(pipeline.record, "FORMAT", "9")
    path = branched.files.file("edits/004")
    write_record(path, read_record(path, "edit"))
    monkeypatch.undo()
    with pytest.raises(UnknownFormat, match="of format 9"):
        branched.result()


# --- one writer, killed writers -----------------------------------------------------------------------------


def test_two_drags_at_once_are_refused_and_reading_is_not(small_session: EditSession) -> None:
    drag(small_session)
    steps = small_session.drag(MOUTH, moved(MOUTH, 0, 30))
    next(steps)
    other = EditSession(small_session.folder, QUICK)
    for act in (lambda: drag(other), other.undo, other.align, lambda: next(other.invert("embedded"))):
        with pytest.raises(SessionBusy, match="by this process: finish or close"):
            act()
    assert other.result() and len(other.history()) == 1
    steps.close()
    assert drag(other) == 2


def test_another_process_that_writes_is_named(small_session: EditSession) -> None:
    program = (
        "import sys; from pathlib import Path; from pipeline.lock import only_writer\n"
        "with only_writer(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", program, str(small_session.folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=DATA.parent.parent) as holder:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(SessionBusy, match=rf"process {holder.pid} .*reading is always allowed"):
            drag(small_session)
        holder.kill()
        holder.wait()
    assert drag(small_session) == 1  # a dead process holds nothing


def test_a_session_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    session = EditSession(tmp_path / "none", QUICK)
    for act in (session.undo, session.redo, lambda: session.goto(1), lambda: drag(session)):
        with pytest.raises(StaleResult, match="no session"):
            act()
    assert not session.folder.exists()


def test_a_running_drag_is_on_disk_step_by_step(small_session: EditSession, monkeypatch) -> None:
    monkeypatch.setattr(pipeline.progress, "SAVING", math.inf)  # those steps take no longer than saving them
    steps = small_session.drag(MOUTH, moved(MOUTH, 0, 30))
    reader = EditSession(small_session.folder, QUICK)
    for step in steps:
        seen = reader.current_edit
        assert (seen.outcome.steps if seen else 0) >= step.index - 1
        if step.index == 1:
            torch.testing.assert_close(seen.latent, step.latent)
    assert reader.current_edit.outcome.steps == 6


# --- the photo ----------------------------------------------------------------------------------------------


def test_a_photo_that_went_is_asked_for_and_taken_back(small_session: EditSession, tmp_path: Path) -> None:
    drag(small_session)
    shown = small_session.result().pixels
    (small_session.folder / "photo.jpg").rename(tmp_path / "elsewhere.jpeg")
    session = EditSession(small_session.folder, QUICK)
    with pytest.raises(StaleResult, match=r"photo.* is gone.*put it back.*photodrag align"):
        session.result()
    assert len(session.history()) == 1
    with pytest.raises(StaleResult, match="holds another photo"):
        session.add_photo(DATA / "lisa2.jpg")
    session.add_photo(tmp_path / "elsewhere.jpeg")
    assert np.array_equal(session.result().pixels, shown)
