"""The drag on a generator whose latent is the answer, and what it refuses."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from conftest import BlobGenerator, BlobReader

from drag import BadEdit, DragConfig, DragEdit, drag
from pipeline import finish

CONFIG = DragConfig(learning_rate=0.05)


class FadingGenerator(BlobGenerator):
    """Its blob is gone 10 pixels to the right of where the tests start it."""

    def features(self, latents: torch.Tensor, block: int) -> torch.Tensor:
        return super().features(latents, block) * ((60 - latents[:, :2].sum(1)[:, 0]) / 10).clamp(0, 1)


def test_the_blob_arrives_and_locked_rows_stay() -> None:
    blobs = BlobGenerator()
    start = blobs.latent_at(50, 60)
    last = finish(drag(blobs, start, DragEdit([[50, 60]], [[62, 55]]), CONFIG))
    assert last.arrived and last.index < last.limit
    assert last.score <= 1.0  # pixels of a 512-pixel face
    np.testing.assert_allclose(last.latent[:2].sum(0), [62, 55], atol=0.5)
    np.testing.assert_allclose(last.handles, [[62, 55]], atol=0.25)
    assert torch.equal(last.latent[6:], start[6:])
    assert torch.equal(start, blobs.latent_at(50, 60))  # the caller's is as it was


@pytest.mark.parametrize(("count", "asked", "resolution", "read"), [
    (5, None, 256, 128), (6, None, 256, 64), (1, 32, 256, 32), (1, None, 128, 64),
])  # fmt: skip
def test_few_handles_are_read_finer(count: int, asked: int | None, resolution: int, read: int) -> None:
    blocks = list[int]()

    class Noted(BlobGenerator):
        def reader(self, latent: torch.Tensor, rows: int, block: int) -> BlobReader:
            blocks.append(block)
            return super().reader(latent, rows, block)

    blobs, handles = Noted(resolution=resolution), np.array([[40.0 + 5 * i, 60.0] for i in range(count)])
    list(drag(blobs, blobs.latent_at(50, 60), DragEdit(handles, handles + 1), DragConfig(steps=1, block=asked)))
    assert blocks == [read]


@pytest.mark.parametrize("resolution", [64, 128, 256])
def test_lengths_scale_with_the_resolution(resolution: int) -> None:
    blobs = BlobGenerator(resolution=resolution, spread=resolution / 16)
    unit = resolution / 512
    handle = np.array([[200.0, 220.0]]) * unit
    edit = DragEdit(handle, handle + np.array([[32.0, 0.0]]) * unit)
    last = finish(drag(blobs, blobs.latent_at(*handle[0]), edit, CONFIG))
    assert last.arrived
    assert np.hypot(*(last.handles - edit.targets)[0]) <= 1.0 * unit


def test_a_mask_holds_what_may_not_move() -> None:
    """The blob is the whole picture, so a mask that forbids most of it keeps the blob from moving as far.

    The disc that is asked to move lies within what may.
    """
    blobs, config = BlobGenerator(), replace(CONFIG, motion_radius=3.0)
    movable = np.zeros((128, 128), bool)
    movable[58:63, 48:53] = True
    edit = DragEdit([[50, 60]], [[62, 60]])
    free = finish(drag(blobs, blobs.latent_at(50, 60), edit, config))
    held = finish(drag(blobs, blobs.latent_at(50, 60), DragEdit(edit.handles, edit.targets, movable), config))
    assert free.arrived and not held.arrived
    assert held.handles[0, 0] < 53


class SidewaysGenerator(BlobGenerator):
    """Its blob is known to move from side to side only."""

    @property
    def axes(self) -> torch.Tensor:
        return torch.tensor([[self.spread, 0.0]])


def test_a_drag_goes_along_the_generator_s_axes_only() -> None:
    sideways, start = SidewaysGenerator(), BlobGenerator().latent_at(50, 60)
    last = finish(drag(sideways, start, DragEdit([[50, 60]], [[62, 55]]), replace(CONFIG, steps=60)))
    x, y = last.latent[:2].sum(0).tolist()
    assert x > 58 and y == 60 and not last.arrived
    assert (last.latent[:6, 1] == start[:6, 1]).all()


def test_rows_move_together_rather_than_one_by_one() -> None:
    """Only rows 0 and 1 move the blob, but those beside them go along."""
    blobs = BlobGenerator()
    start = blobs.latent_at(50, 60)
    last = finish(drag(blobs, start, DragEdit([[50, 60]], [[62, 60]]), CONFIG))
    went = (last.latent - start)[:6, 0]
    np.testing.assert_allclose(went[:2], went[0] * torch.ones(2), rtol=1e-4)
    np.testing.assert_allclose(went[2:] / went[0], [1 / 1.3] * 4, rtol=0.05)


def test_steps_run_out_and_say_so() -> None:
    blobs = BlobGenerator()
    steps = list(
        drag(blobs, blobs.latent_at(50, 60), DragEdit([[50, 60]], [[80, 60]]), DragConfig(steps=3, learning_rate=0.01))
    )
    assert [step.index for step in steps] == [0, 1, 2, 3]
    assert not any(step.arrived for step in steps)


def test_a_drag_that_comes_no_nearer_is_stuck_and_ends_with_its_nearest() -> None:
    """The mask forbids all but the handle's own place, so the blob is pulled back as soon as it has moved."""
    blobs = BlobGenerator()
    movable = np.zeros((128, 128), bool)
    movable[58:63, 48:53] = True
    edit = DragEdit([[50, 60]], [[62, 60]], movable)
    *steps, last = drag(blobs, blobs.latent_at(50, 60), edit, replace(CONFIG, patience=10))
    assert {step.state for step in steps} == {"moving"} and last.state == "stuck" and not last.arrived
    assert last.index == len(steps) < last.limit
    nearest = min(steps, key=lambda step: step.score)
    assert nearest.score <= last.score < nearest.score + 0.1
    assert any(torch.equal(step.latent, last.latent) and (step.handles == last.handles).all() for step in steps)


def test_a_handle_that_is_no_longer_seen_is_stuck() -> None:
    """The blob fades while it is dragged: soon what was the handle looks like nothing that is left."""
    fading = FadingGenerator()
    edit = DragEdit([[50, 60]], [[80, 60]])
    *steps, last = drag(fading, fading.latent_at(50, 60), edit, replace(CONFIG, patience=10))
    assert last.state == "stuck"
    assert last.unlike[0] < 1 < steps[-1].unlike[0]  # it ends where the handle was seen last
    assert last.score > 80  # of 120: pixels of a 512-pixel face, four of them to one of the picture's


class TurningGenerator(BlobGenerator):
    """Its blob's channels turn into one another as it goes to the right, as a face that turns changes its look."""

    def features(self, latents: torch.Tensor, block: int) -> torch.Tensor:
        maps = super().features(latents, block)
        share = ((latents[:, :2].sum(1)[:, 0] - 50) / 40).clamp(0, 1)[:, None, None, None]
        return maps * (1 - share) + maps.roll(2, dims=1) * share


def test_an_adaptive_template_follows_a_handle_that_changes_its_look() -> None:
    turning = TurningGenerator()
    edit = DragEdit([[50, 60]], [[70, 60]])
    last = {
        template: finish(drag(turning, turning.latent_at(50, 60), edit, replace(CONFIG, template=template, steps=80)))
        for template in ("fixed", "adaptive")
    }
    assert last["adaptive"].arrived and last["adaptive"].unlike[0] < last["fixed"].unlike[0] / 2


def test_with_an_adaptive_template_a_handle_that_is_not_seen_waits_where_it_was() -> None:
    fading = FadingGenerator()
    edit = DragEdit([[50, 60]], [[80, 60]])
    config = replace(CONFIG, template="adaptive", patience=10, learning_rate=0.3)
    *steps, _ = drag(fading, fading.latent_at(50, 60), edit, config)
    lost = [(a, b) for a, b in pairwise(steps) if b.unlike[0] >= 1]
    assert lost and all((a.handles == b.handles).all() for a, b in lost)


def test_what_may_not_move_is_held_as_the_anchor_has_it() -> None:
    """The start is 6 px right of the anchor and all but the handle's place is held: it goes back to the anchor."""
    blobs = BlobGenerator()
    movable = np.zeros((128, 128), bool)
    movable[58:63, 54:59] = True
    edit = DragEdit([[56, 60]], [[56, 61]], movable)
    config = replace(CONFIG, steps=60, patience=100, within=0.01, mask_weight=1000.0)
    start, anchor = blobs.latent_at(56, 60), blobs.latent_at(50, 60)
    to_anchor = finish(drag(blobs, start, edit, config, anchor)).latent[:2].sum(0)
    to_start = finish(drag(blobs, start, edit, config)).latent[:2].sum(0)
    np.testing.assert_allclose(to_anchor, [50, 60], atol=0.7)
    np.testing.assert_allclose(to_start, [56, 60], atol=0.7)


class MisleadingGenerator(BlobGenerator):
    """In block 128 its blob is seen 5 pixels back once it is 6 pixels to the right of where the test starts it."""

    def features(self, latents: torch.Tensor, block: int) -> torch.Tensor:
        if block == 128 and latents[:, :2].sum(1)[0, 0] > 106:
            latents = latents.clone()
            latents[:, 0, 0] -= 5
        return super().features(latents, block)


def test_few_handles_that_go_astray_begin_anew_in_a_coarser_block() -> None:
    misleading, config = MisleadingGenerator(resolution=256, spread=16), replace(CONFIG, learning_rate=0.02)
    start, edit = misleading.latent_at(100, 120), DragEdit([[100, 120]], [[120, 120]])
    steps = list(drag(misleading, start, edit, config))
    assert [step.index for step in steps] == list(range(len(steps)))
    assert steps[-1].arrived
    np.testing.assert_allclose(steps[-1].latent[:2].sum(0), [120, 120], atol=1)
    (anew,) = [step for step in steps[1:] if torch.equal(step.latent, start)]
    assert anew.score == steps[0].score and anew.index > 2
    misled = finish(drag(misleading, start, edit, replace(config, block=128)))  # asked for, it is kept to
    np.testing.assert_allclose(misled.latent[:2].sum(0), [125, 120], atol=1)


@pytest.mark.parametrize(("count", "way", "within"), [
    (5, 40.0, 1.0), (6, 40.0, 2.0),  # up to five are each meant exactly
    (5, 2.5, 0.75), (6, 4.0, 1.2), (6, 1.0, 0.5),  # gentle ones: three tenths of the way, half a pixel at least
])  # fmt: skip
def test_a_drag_ends_where_its_handles_are_near_enough(count: int, way: float, within: float) -> None:
    """In pixels of a 512-pixel face, four of which are one of the blob's picture."""
    blobs, handles = BlobGenerator(), np.repeat([[50.0, 60.0]], count, 0)
    config = replace(CONFIG, learning_rate=0.01)
    *_, before, last = drag(blobs, blobs.latent_at(50, 60), DragEdit(handles, handles + np.array([way / 4, 0])), config)
    assert last.arrived and last.score <= within < before.score


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda: DragEdit([[200, 60]], [[62, 60]]), "handle 1 lies 72 px outside"),
        (lambda: DragEdit([[50, 60]], [[50, -11]]), "target 1 lies 10 px outside"),
        (lambda: DragEdit([[50, 60], [9, 9]], [[50, 60], [9, 9]]), "handle 1 is already at its target"),
        (lambda: DragEdit([[50, 60]], [[62, 60]], np.zeros((128, 128), bool)), "lets none of the handles move"),
        (lambda: DragEdit([[50, 60]], [[62, 60]], np.ones((64, 64), bool)), "must be the same"),
        (lambda: DragEdit([[np.nan, 60]], [[62, 60]]), "not a pair of numbers"),
        (lambda: DragEdit([[50, 60]], [[62, 60], [1, 1]]), "must both be"),
        (lambda: DragEdit(np.zeros((0, 2)), np.zeros((0, 2))), "needs a point"),
    ],
)
def test_bad_edits_are_refused_before_the_first_step(edit, message: str) -> None:
    blobs = BlobGenerator()
    with pytest.raises(BadEdit, match=message):
        next(drag(blobs, blobs.latent_at(50, 60), edit()))
