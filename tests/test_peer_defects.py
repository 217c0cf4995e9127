"""What goes wrong when one edits in the peers' programs, read in their sources, and does not go wrong in ours.

Each test names the program: DragGAN is the official code, OpenGVLab's, Tian's and ZongWei's are descendants.
"""

import shutil
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from conftest import EYE, MOUTH, QUICK, BlobGenerator, small_generator

import pipeline.session
from drag import DragConfig, DragEdit, DragStep, drag
from pipeline import EditSession, finish
from weights import load_generator

BLOB = BlobGenerator()
# Rows 0 and 1 are where the blob is. The mask's weight is the paper's; the default is fitted to real networks' maps.
ROWS = DragConfig(steps=200, rows=2, learning_rate=0.05, mask_weight=20.0)


def blob_middle(latent: torch.Tensor) -> np.ndarray:
    return latent[:2].sum(0).numpy()


def blob_drag(start: torch.Tensor, handle, target, **more) -> list[DragStep]:
    return list(drag(BLOB, start, DragEdit([handle], [target], more.pop("movable", None)), ROWS, **more))


def test_the_loop_stops_by_itself_when_it_has_arrived() -> None:
    """DragGAN's web page ignores `stop` and runs until somebody presses the button; it knows no largest number."""
    steps = blob_drag(BLOB.latent_at(50, 60), [50, 60], [62, 60])
    assert steps[-1].arrived and steps[-1].index < ROWS.steps
    never = list(drag(BLOB, BLOB.latent_at(50, 60), DragEdit([[50, 60]], [[90, 60]]), DragConfig(steps=3)))
    assert [step.index for step in never] == [0, 1, 2, 3]


def test_a_session_and_its_reader_hear_that_it_stopped(small_session: EditSession) -> None:
    """DragGAN again: here whoever drains the steps, and the record, are told why they ended."""
    finish(small_session.drag(MOUTH, MOUTH + np.array([0.0, 0.1])))
    assert small_session.current_edit.outcome.stopped == "arrived"
    finish(small_session.drag(MOUTH, MOUTH + np.array([0.0, 40.0])))
    assert small_session.current_edit.outcome.stopped in ("steps used up", "stuck")


def test_the_first_frame_keeps_every_row_of_a_w_plus_latent() -> None:
    """DragGAN in `w` mode takes row 0 and repeats it over the first six: a W+ inversion is gone at once."""
    generator = small_generator()
    latent = torch.cat([generator.sample(1, seed)[0, :1] for seed in range(generator.num_ws)])
    steps = list(drag(generator, latent, DragEdit([[10, 10]], [[20, 12]]), DragConfig(steps=3)))
    assert torch.equal(steps[0].latent, latent)
    assert torch.equal(steps[-1].latent[6:], latent[6:])
    assert len(steps[-1].latent[:6].unique(dim=0)) == 6


def test_a_steps_handles_are_where_they_are_in_its_own_picture() -> None:
    """DragGAN shows the picture from before the optimiser's step; OpenGVLab tracks in the features before it."""
    for step in blob_drag(BLOB.latent_at(50, 60), [50, 60], [70, 66]):
        assert np.abs(step.handles[0] - blob_middle(step.latent)).max() < 0.5


@pytest.fixture
def anchors(monkeypatch) -> list[torch.Tensor]:
    """The anchor of each drag that a session starts, which goes two steps far."""
    seen: list[torch.Tensor] = []

    def spied(generator, latent, edit, config, anchor) -> Iterator[DragStep]:
        seen.append(anchor)
        return drag(generator, latent, edit, DragConfig(steps=2), anchor)

    monkeypatch.setattr(pipeline.session, "drag", spied)
    return seen


def test_what_is_held_is_the_photo_whatever_happened_since(small_session: EditSession, anchors) -> None:
    """DragGAN drops what it holds on a reset or another number of points, and takes the drifted picture instead."""
    both, mask = np.concatenate([MOUTH, EYE]), np.ones(small_session.photo.pixels.shape[:2], bool)
    mask[:300] = False
    for points in (MOUTH, both, EYE):
        finish(small_session.drag(points, points + np.array([0.0, 30.0]), mask))
    small_session.undo()
    finish(small_session.drag(both, both - np.array([0.0, 30.0]), mask))
    assert len(anchors) == 4
    assert all(torch.equal(anchor, small_session.inversion.latent) for anchor in anchors)
    result, photo = small_session.result().pixels, small_session.photo.pixels
    assert np.array_equal(result[:300], photo[:300]) and (result != photo).any()


def test_the_photos_features_pull_back_what_drifted() -> None:
    """The same in the features: held at the photo, a blob that had drifted 4 px comes back where it may not move."""
    photo, drifted = BLOB.latent_at(50, 60), BLOB.latent_at(54, 60)
    movable = np.zeros((128, 128), bool)
    movable[58:63, 56:61] = True
    for anchor, x in ((photo, 50), (None, 54)):
        steps = blob_drag(drifted, [58, 60], [58, 90], movable=movable, anchor=anchor)
        assert abs(blob_middle(steps[30].latent)[0] - x) < 1


def test_other_points_are_looked_for_by_their_own_looks() -> None:
    """DragGAN keeps the old points' features where their number is the same."""
    first = blob_drag(BLOB.latent_at(50, 60), [50, 60], [60, 60])[-1].latent
    beside = blob_middle(first) + np.array([6, 0])
    steps = blob_drag(first, beside, beside + np.array([0, 12]))
    assert max(np.abs(step.handles[0] - blob_middle(step.latent) - [6, 0]).max() for step in steps) < 0.7
    assert steps[-1].arrived


def test_a_mask_holds() -> None:
    """OpenGVLab commented the mask's loss out; DragGAN leaves it away for a mask that frees nothing."""
    movable = np.zeros((128, 128), bool)
    movable[56:65, 46:55] = True
    start = BLOB.latent_at(50, 60)
    free, held = (blob_drag(start, [50, 60], [80, 60], movable=m)[20].latent for m in (None, movable))
    assert blob_middle(held)[0] - 50 < 0.7 * (blob_middle(free)[0] - 50)


def test_forward_hooks_do_not_pile_up() -> None:
    """OpenGVLab registers another one at each forward pass."""
    generator = small_generator()
    finish(drag(generator, generator.sample(1, 0)[0], DragEdit([[10, 10]], [[20, 12]]), DragConfig(steps=3)))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in generator.network.modules())


def test_the_second_edit_starts_where_the_first_ended(small_session: EditSession) -> None:
    """OpenGVLab never writes the new latent back: each edit starts from the original."""
    last = finish(small_session.drag(MOUTH, MOUTH + np.array([0.0, 30.0])))
    assert torch.equal(next(small_session.drag(EYE, EYE + np.array([0.0, 30.0]))).latent, last.latent)


def test_points_stay_the_callers() -> None:
    """DragGAN moves them in place, so that a second run starts elsewhere."""
    handles, targets = np.array([[50.0, 60.0]]), np.array([[62.0, 60.0]])
    finish(drag(BLOB, BLOB.latent_at(50, 60), DragEdit(handles, targets), ROWS))
    assert handles.tolist() == [[50, 60]] and targets.tolist() == [[62, 60]]


def test_the_next_photo_finds_the_generator_untouched(small_session: EditSession) -> None:
    """Tian's changes the cached generator, so that the second photo starts from the first one's tuning."""
    name = small_session.files.read("pivot").settings["generator"]
    before = load_generator(name)
    finish(small_session.drag(MOUTH, MOUTH + np.array([0.0, 30.0])))
    tuned, after = small_session.inversion.generator, load_generator(name)
    latent = small_session.inversion.latent[None]
    assert torch.equal(before.render(latent), after.render(latent))
    assert not torch.equal(before.render(latent), tuned.render(latent))
    assert tuned.spread == before.spread == before.known_spread  # tuning leaves W as it is, so nothing is sampled anew


def test_two_people_edit_side_by_side(small_session: EditSession, tmp_path) -> None:
    """ZongWei's goes through global file names: one user at a time."""
    shutil.copytree(small_session.folder, tmp_path / "other")
    other = EditSession(tmp_path / "other", QUICK)
    alone = finish(small_session.drag(MOUTH, MOUTH + np.array([0.0, 30.0])))
    small_session.goto(0)
    mine = small_session.drag(MOUTH, MOUTH + np.array([0.0, 30.0]))
    theirs = other.drag(EYE, EYE - np.array([0.0, 30.0]))
    last, _ = list(zip(mine, theirs, strict=True))[-1]
    assert torch.equal(last.latent, alone.latent)
    assert (len(small_session.history()), len(other.history())) == (2, 1)
