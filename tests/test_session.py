"""The whole way on a real photo, with few steps, and what the session's folder promises."""

import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from conftest import DATA, QUICK
from PIL import Image

from align import Photo, face_region
from drag import BadEdit, DragConfig
from inversion import PivotConfig, TuneConfig
from pipeline import Config, CorruptRecord, EditSession, StaleResult, finish, read_record, write_record
from pipeline.gestures import ask

CONFIG = Config(pivot=PivotConfig(steps=3), tune=TuneConfig(steps=3), drag=DragConfig(steps=12))
HANDLES, TARGETS = np.array([[260.0, 610.0]]), np.array([[240.0, 590.0]])  # lisa1's mouth corner


@pytest.fixture(scope="module")
def inverted(tmp_path_factory) -> Path:
    """A session that has been aligned and inverted, for tests to copy."""
    session = EditSession(tmp_path_factory.mktemp("sessions") / "me", CONFIG)
    session.add_photo(DATA / "lisa1.jpg")
    session.align()
    finish(session.invert())
    return session.folder


@pytest.fixture
def session(inverted: Path, tmp_path: Path) -> EditSession:
    shutil.copytree(inverted, tmp_path / "me")
    return EditSession(tmp_path / "me", CONFIG)


def test_the_photo_is_kept_untouched(session: EditSession) -> None:
    assert (session.folder / "photo.jpg").read_bytes() == (DATA / "lisa1.jpg").read_bytes()


def test_without_an_edit_the_result_is_the_photo(session: EditSession) -> None:
    assert np.array_equal(session.result().pixels, session.photo.pixels)


def test_an_edit_changes_the_face_and_nothing_outside_the_crop(session: EditSession, tmp_path: Path) -> None:
    last = finish(session.drag(HANDLES, TARGETS))
    assert last.index > 0
    session.export(tmp_path / "out.png")
    before, after = session.photo.pixels, Photo.load(tmp_path / "out.png").pixels
    differs = (before != after).any(2)
    assert differs.any()
    y, x = np.nonzero(differs)
    inside = session.face(128).from_photo(np.stack([x, y], 1))
    assert inside.min() >= -0.5 and inside.max() <= 127.5


def test_a_mask_is_kept_to_the_pixel(session: EditSession) -> None:
    mask = np.zeros(session.photo.pixels.shape[:2], bool)
    mask[540:680, 200:400] = True
    finish(session.drag(HANDLES, TARGETS, mask))
    assert np.array_equal(session.current_edit.mask, mask)
    differs = (session.result().pixels != session.photo.pixels).any(2)
    assert not differs[~mask].any()


def test_a_second_drag_goes_on_from_the_first(session: EditSession) -> None:
    finish(session.drag(HANDLES, TARGETS))
    first = session.current_edit
    start = next(session.drag(HANDLES + 100, TARGETS + 130))
    torch.testing.assert_close(start.latent, first.latent)
    finish(session.drag(HANDLES + 100, TARGETS + 130))
    second = session.current_edit
    assert (first.number, first.parent) == (1, 0)
    assert second.parent == second.number - 1
    restarted = next(session.drag(HANDLES, TARGETS, from_photo=True))
    torch.testing.assert_close(restarted.latent, session.inversion.latent)


def test_another_session_object_reads_the_same(session: EditSession) -> None:
    finish(session.drag(HANDLES, TARGETS))
    again = EditSession(session.folder, CONFIG)
    assert np.array_equal(again.result().pixels, session.result().pixels)
    latent = session.inversion.latent[None]
    assert torch.equal(session.inversion.generator.render(latent), again.inversion.generator.render(latent))


def test_the_stored_difference_is_the_tuning_to_the_eye(session: EditSession) -> None:
    last = finish(session.invert())
    stored = session.draw(session.inversion.latent)
    exact = EditSession(session.folder, CONFIG)
    base = session.inversion.generator.tuned(last.weights)
    latent = exact.inversion.latent[None]
    difference = (base.render(latent) - session.inversion.generator.render(latent)).abs().max() * 127.5
    assert difference < 1.0 and stored.shape == (base.resolution, base.resolution, 3)
    assert (session.folder / "tuned.safetensors").stat().st_size < 20e6


def test_landmarks_are_those_of_the_current_result(session: EditSession, lisa_points: np.ndarray) -> None:
    def off(points: np.ndarray) -> float:  # in pixels; the golden ones are a single look, ours the mean of several
        return float(np.hypot(*(points - lisa_points).T).mean())

    assert off(session.landmarks()) < 2
    finish(EditSession(session.folder, replace(CONFIG, drag=DragConfig(steps=150))).drag(*ask(
        {"turn": 10}, session.landmarks(), session.photo.pixels.shape[:2]
    )))  # fmt: skip
    nose = session.landmarks()[30] - session.landmarks(of_photo=True)[30]
    assert nose[0] > 10
    older = read_record(session.files.file("face"), "face")
    arrays = {name: array for name, array in older.arrays.items() if name != "points"}
    write_record(session.files.file("face"), replace(older, arrays=arrays))
    assert off(session.landmarks(of_photo=True)) < 2


def test_without_a_face_there_are_no_landmarks(session: EditSession) -> None:
    record = read_record(session.files.file("face"), "face")
    corner = np.array([[0.0, 0], [0, 60], [60, 60], [60, 0]])
    write_record(
        session.files.file("face"), replace(record, arrays={"quad": corner, "pixels": record.arrays["pixels"]})
    )
    with pytest.raises(BadEdit, match="none are found"):
        session.landmarks()
    write_record(session.files.file("face"), replace(record, settings={"align": "none"}))
    with pytest.raises(BadEdit, match="aligned without"):
        session.landmarks()


def test_what_is_done_is_not_done_again(session: EditSession) -> None:
    assert list(session.invert(only_if_needed=True)) == []
    other = EditSession(session.folder, Config(pivot=CONFIG.pivot, tune=TuneConfig(steps=2), drag=CONFIG.drag))
    assert {type(step).__name__ for step in other.invert(only_if_needed=True)} == {"TuneStep"}


def test_an_interrupted_inversion_is_taken_up_again(session: EditSession) -> None:
    steps = session.invert()
    next(steps)
    steps.close()  # as Ctrl-C does: the pivot of step 0 is on disk, and not done
    with pytest.raises(StaleResult, match=r"pivot.safetensors has changed.*photodrag invert"):
        session.inversion  # noqa: B018
    kinds = {type(step).__name__ for step in session.invert(only_if_needed=True)}
    assert "PivotStep" in kinds  # the tuning stands where the pivot comes out the same to the bit
    assert session.inversion


def test_an_interrupted_drag_keeps_its_last_step(session: EditSession) -> None:
    steps = session.drag(HANDLES, TARGETS)
    for step in steps:
        if step.index == 2:
            break
    steps.close()
    torch.testing.assert_close(session.current_edit.latent, step.latent)


def test_stages_in_the_wrong_order_say_what_to_run(tmp_path: Path) -> None:
    session = EditSession(tmp_path / "new", CONFIG)
    with pytest.raises(StaleResult, match=r"photodrag align .* --photo"):
        session.align()
    with pytest.raises(StaleResult, match=r"there is no session .*photodrag align .* --photo"):
        finish(session.drag(HANDLES, TARGETS))
    session.add_photo(DATA / "lisa1.jpg")
    with pytest.raises(StaleResult, match="run `photodrag align"):
        finish(session.invert())
    session.align()
    with pytest.raises(StaleResult, match="run `photodrag invert"):
        finish(session.drag(HANDLES, TARGETS))


def test_a_changed_photo_is_noticed(session: EditSession) -> None:
    shutil.copy(DATA / "lisa2.jpg", session.folder / "photo.jpg")
    with pytest.raises(StaleResult, match=r"photo.jpg has changed.*photodrag align"):
        finish(EditSession(session.folder, CONFIG).drag(HANDLES, TARGETS))
    with pytest.raises(StaleResult, match="holds another photo"):
        session.add_photo(DATA / "lisa1.jpg")


def test_a_new_alignment_makes_the_rest_stale(session: EditSession) -> None:
    assert session.inversion  # held in memory, but what is on disk counts
    session.align("1")
    with pytest.raises(StaleResult, match=r"face.safetensors has changed.*photodrag invert"):
        finish(session.drag(HANDLES, TARGETS))


def test_edits_of_an_older_inversion_are_not_built_upon(session: EditSession) -> None:
    finish(session.drag(HANDLES, TARGETS))
    finish(EditSession(session.folder, Config(pivot=PivotConfig(steps=2), tune=TuneConfig(steps=2))).invert())
    with pytest.raises(StaleResult, match=r"drag --from-photo"):
        finish(session.drag(HANDLES, TARGETS))
    finish(session.drag(HANDLES, TARGETS, from_photo=True))
    assert session.current_edit.number == 2


def test_a_drag_asked_for_before_a_new_inversion_is_refused(session: EditSession) -> None:
    draft = session.draft(HANDLES, TARGETS)
    finish(EditSession(session.folder, Config(pivot=PivotConfig(steps=2), tune=TuneConfig(steps=2))).invert())
    with pytest.raises(StaleResult, match="inverted anew"):
        finish(session.carry_out(draft))
    assert session.files.edits() == []


def test_a_damaged_record_is_named(session: EditSession) -> None:
    path = session.folder / "pivot.safetensors"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises((CorruptRecord, StaleResult), match=r"pivot.safetensors"):
        finish(session.drag(HANDLES, TARGETS))


@pytest.mark.parametrize(
    ("handles", "targets", "message"),
    [
        ([[-300, 400]], [[300, 400]], r"handle 1 lies \d+ px outside"),
        ([[300, 400]], [[300, 5000]], r"target 1 lies \d+ px outside"),
        ([[300, 400]], [[300, 400]], "already at its target"),
    ],
)
def test_bad_edits_leave_no_trace(session: EditSession, handles, targets, message: str) -> None:
    with pytest.raises(BadEdit, match=message):
        finish(session.drag(np.array(handles), np.array(targets)))
    assert session.current_edit is None


def test_outside_is_told_in_photo_pixels(session: EditSession) -> None:
    corner = session.face(128).quad[0]  # top left; lisa1 is upright to within a degree
    with pytest.raises(BadEdit, match="handle 1 lies 50 px outside"):
        finish(session.drag(corner[None] - [50, -200], corner[None] + 200))


def test_a_mask_that_forbids_all_handles_is_refused(session: EditSession) -> None:
    mask = np.zeros(session.photo.pixels.shape[:2], bool)
    mask[100:200, 100:200] = True
    with pytest.raises(BadEdit, match="none of the handles"):
        finish(session.drag(HANDLES, TARGETS, mask))
    with pytest.raises(BadEdit, match="the photo"):
        finish(session.drag(HANDLES, TARGETS, mask[:100]))


def test_another_face_nearby_is_left_alone(small_session_folder: Path, tmp_path: Path) -> None:
    """Two people side by side, so near that the first one's square reaches over the other's cheek."""
    first, second = (np.array(Image.open(DATA / name)) for name in ("lisa1.jpg", "lisa2.jpg"))
    Image.fromarray(np.hstack([first[:, :470], second[:, 130:]])).save(tmp_path / "two.png")
    session = EditSession(tmp_path / "two", QUICK)
    session.add_photo(tmp_path / "two.png")
    face = session.align("1")
    arrays = session.files.read("face").arrays
    own, (other,) = arrays["points"], arrays["others"]
    assert own[:, 0].mean() < 400 < other[:, 0].mean()
    theirs = face_region(other, (800, 940))
    x, y = face.from_photo(np.argwhere(theirs)[:, ::-1]).T
    reached = (np.maximum(np.abs(x - 255.5), np.abs(y - 255.5)) < 230).sum()  # clear of the crop's rim
    finish(session.invert(str(small_session_folder.parent / "small.safetensors")))
    finish(session.drag(HANDLES, TARGETS + np.array([-40, 40])))
    changed = (session.result().pixels != session.photo.pixels).any(2)
    assert reached > 1000 and not changed[theirs].any()
    assert changed[face_region(own, (800, 940))].sum() > 1000


@pytest.mark.parametrize("kind", ["16 bit", "grey"])
def test_the_export_is_of_the_photos_kind(small_session_folder: Path, tmp_path: Path, kind: str) -> None:
    """16 bits come out with all 16 of them, and byte for byte outside; grey comes out grey."""
    lisa = cv2.GaussianBlur(cv2.imread(str(DATA / "lisa1.jpg")).astype(np.float32), (0, 0), 3)
    pixels = (lisa * 257).astype(np.uint16) if kind == "16 bit" else lisa.mean(2).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "photo.png"), pixels)
    session = EditSession(tmp_path / "session", QUICK)
    session.add_photo(tmp_path / "photo.png")
    face = session.align()
    finish(session.invert(str(small_session_folder.parent / "small.safetensors")))
    finish(session.drag(HANDLES, TARGETS))
    session.export(tmp_path / "out.png")
    before, after = (Photo.load(tmp_path / name).samples for name in ("photo.png", "out.png"))
    assert (after.dtype, after.shape) == (before.dtype, before.shape)
    y, x = np.nonzero((before != after).any(2))
    inside = face.from_photo(np.stack([x, y], 1))
    assert len(x) > 1000 and inside.min() >= -0.5 and inside.max() <= 511.5
    if kind == "16 bit":
        steps = after[y, x].astype(int) - before[y, x]
        assert (steps % 257 != 0).mean() > 0.9  # 8 bits would only know multiples of 257
