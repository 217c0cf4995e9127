"""Pins: what was dragged is seen where it was dragged to, now and after later edits, and the photo is never folded."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from conftest import MOUTH

from align import (
    AlignedFace,
    Drawing,
    PasteConfig,
    Pins,
    landed,
    paste,
    paste_layers,
    pinned,
    sampled,
    settle,
    together,
)
from align.pins import LANDING, REACH, SOFT
from drag import FEW, DragEdit
from pipeline import EditSession, finish
from pipeline.edits import read_edit, seen

SIZE = 256
STILL = np.zeros((SIZE, SIZE, 2), np.float32)


def pin(end: tuple[float, float], origin: tuple[float, float], settled: np.ndarray | None = None) -> Pins:
    return Pins(np.array([end]), np.array([origin]), np.empty((0, 2, 2)) if settled is None else settled)


def seen_at(motion: np.ndarray, place: tuple[float, float]) -> np.ndarray:
    """The place of the photo that is seen there."""
    return place + sampled(motion, np.array([place]))[0]


def test_without_pins_the_motion_is_what_it_was() -> None:
    motion = np.random.default_rng(0).normal(0, 0.01, (SIZE, SIZE, 2)).astype(np.float32)
    assert pinned(motion, Pins()) is motion


def test_a_pin_shows_its_origin_at_its_end_and_fades_like_a_bell() -> None:
    motion = pinned(STILL, pin((0.5, 0.5), (0.5, 0.52)))
    assert seen_at(motion, (0.5, 0.5)) == pytest.approx([0.5, 0.52], abs=0.0012)  # it gives way by a twentieth
    full = seen_at(motion, (0.5, 0.5))[1] - 0.5
    for sigmas in (1, 2, 3):
        shift = seen_at(motion, (0.5 + sigmas * REACH, 0.5))[1] - 0.5
        assert shift == pytest.approx(full * np.exp(-(sigmas**2) / 2), abs=full / 100)
    assert np.abs(motion[: SIZE // 4]).max() < 1e-5


def test_pins_close_together_are_all_kept_to() -> None:
    ends = np.array([[0.5, 0.5], [0.5 + REACH, 0.5], [0.5, 0.5 + REACH]])
    origins = ends + np.array([[0, 0.01], [0, 0.012], [0.003, 0.01]])
    motion = pinned(STILL, Pins(ends, origins))
    assert np.abs(ends + sampled(motion, ends) - origins).max() < 0.001


def test_pins_that_contradict_each_other_bend_nothing_farther_than_they_ask() -> None:
    """Two lips that touch in the photo, drawn apart: kept to, they would throw all around them about."""
    ends = np.array([[0.5, 0.5], [0.5, 0.5 + REACH / 4]])
    bend = 0.01 * np.array([[0, 1], [0, -1]])
    motion = pinned(STILL, Pins(ends, ends + bend))
    assert np.abs(motion).max() <= 0.01
    nearness = 1 - np.exp(-((1 / 4) ** 2) / 2)  # what the two have not in common: so weak a difference gives way
    came = nearness**2 / (nearness**2 + SOFT**2)
    assert sampled(motion, ends)[:, 1] == pytest.approx(0.01 * came * np.array([1, -1]), abs=1e-4)
    agreed = pinned(STILL, Pins(ends, ends + np.abs(bend)))
    assert sampled(agreed, ends)[:, 1] == pytest.approx(0.01, rel=0.02)


def test_motion_that_is_there_is_only_completed() -> None:
    motion = STILL + np.float32([0, 0.03])
    assert np.abs(pinned(motion, pin((0.4, 0.4), (0.4, 0.43))) - motion).max() < 1e-6
    further = pinned(motion, pin((0.4, 0.4), (0.4, 0.44)))
    assert seen_at(further, (0.4, 0.4)) == pytest.approx([0.4, 0.44], abs=0.0006)


def test_a_later_motion_carries_what_was_pinned_along() -> None:
    first = pin((0.5, 0.5), (0.5, 0.52))
    settled = settle(STILL, first)
    assert settled == pytest.approx(np.array([[[0.5, 0.5], [0.5, 0.52]]]))
    turned = STILL + np.float32([-0.1, 0])  # the whole face goes to the right by a tenth
    motion = pinned(turned, Pins(settled=settled))
    assert seen_at(motion, (0.6, 0.5)) == pytest.approx([0.5, 0.52], abs=0.0012)
    assert seen_at(motion, (0.6 + 5 * REACH, 0.5)) == pytest.approx([0.5 + 5 * REACH, 0.5], abs=1e-4)


def test_where_an_earlier_pin_is_near_the_new_one_has_the_say() -> None:
    settled = np.array([[[0.5, 0.5], [0.5, 0.52]], [[0.2, 0.2], [0.2, 0.21]]])
    pairs = settle(STILL, pin((0.5, 0.49), (0.5, 0.52), settled))
    assert pairs == pytest.approx(np.array([[[0.5, 0.49], [0.5, 0.52]], settled[1]]))


def test_a_pin_that_is_far_off_does_not_fold_the_photo() -> None:
    motion = pinned(STILL, pin((0.5, 0.5), (0.5, 0.9)))
    places = np.stack(np.meshgrid(*[(np.arange(SIZE) + 0.5) / SIZE] * 2), -1) + motion
    across, down = np.diff(places, axis=1)[:-1], np.diff(places, axis=0)[:, :-1]
    assert (across[..., 0] * down[..., 1] - across[..., 1] * down[..., 0]).min() > 0


def test_a_drag_that_stops_short_lands_no_farther_than_it_came() -> None:
    size = 512
    starts = np.zeros((4, 2))
    ends = np.array([[30.0, 40.0], [30, 40], [0, 3], [0, 0]])
    targets = np.array([[33.0, 44.0], [60, 80], [0, 10], [20, 0]])
    far = LANDING * size
    assert far == pytest.approx(8)
    # Near its target, far from it, hardly moved, and not at all.
    expected = [[33, 44], [30 + 0.6 * far, 40 + 0.8 * far], [0, 6], [0, 0]]
    assert landed(starts, ends, targets, size) == pytest.approx(np.array(expected))
    assert landed(starts, targets, targets, size) == pytest.approx(targets)


def test_points_that_came_together_came_equally_far() -> None:
    starts = np.array([[0.0, 0], [10, 0], [20, 0], [30, 0]])
    targets = starts + np.array([[0, 8], [0, 8], [4, 0], [0, 0]])
    # Half of 8, all of 8, seen badly, and one that was to stay: 32 + 64 + 4 * -4 of 64 + 64 + 16.
    ends = starts + np.array([[0, 4], [1, 8], [-4, 3], [2, 2]])
    share = (8 * 4 + 8 * 8 - 4 * 4) / (8 * 8 + 8 * 8 + 4 * 4)
    assert together(starts, ends, targets) == pytest.approx(starts + share * (targets - starts))
    track = together(starts, np.stack([starts, ends, targets, 3 * targets - 2 * starts]), targets)
    assert track[1] == pytest.approx(together(starts, ends, targets))
    assert track[[0, 2, 3]] == pytest.approx(np.stack([starts, targets, targets]))  # never back, never beyond
    assert together(starts, ends, starts) == pytest.approx(starts)


def test_of_many_handles_one_that_is_seen_badly_bends_nothing() -> None:
    size, n = 512, FEW + 1
    handles = np.column_stack([np.arange(n) * 20.0 + 100, np.full(n, 200.0)])
    edit = DragEdit(handles, handles + np.array([0, 12]))
    came = handles + np.array([0, 9])
    came[2] += [15, -10]
    few, many = (
        seen(DragEdit(handles[:k], edit.targets[:k]), came[:k], Pins(origins=handles[:k]), size) for k in (FEW, n)
    )
    assert np.hypot(*(few - edit.targets[:FEW])[2]) > 5
    assert many == pytest.approx(edit.targets)
    assert seen(edit, came, Pins(), size) is came  # an old record: nothing is pinned


@pytest.mark.parametrize("mode", ["auto", "motion"])
def test_the_photos_own_dot_is_seen_at_the_end(mode) -> None:
    photo = np.full((300, 300, 3), 120, np.uint8)
    cv2.circle(photo, (150, 154), 2, (250, 20, 20), -1)
    face = AlignedFace.crop(photo, np.array([[49.5, 49.5], [49.5, 249.5], [249.5, 249.5], [249.5, 49.5]]), 128)
    pins = pin((0.5, 0.5), (0.5, 0.5 + 4 / 200))
    result = paste(photo, face, face.pixels, face.pixels, config=PasteConfig(mode), pins=pins)
    y, x = np.nonzero(result[..., 0] > 200)
    assert (x.mean(), y.mean()) == pytest.approx((150, 150), abs=1)
    other = paste_layers(photo, face, face.pixels, [Drawing(face.pixels, None, pins)], config=PasteConfig(mode))
    assert np.array_equal(result, other)


def drag(session: EditSession, handles: np.ndarray, by: tuple[float, float], **more) -> None:
    finish(session.drag(handles, handles + by, **more))


def landing_place(session: EditSession) -> np.ndarray:
    """Where the current edit's handles are seen, [N, 2] in the photo."""
    edit, face = session.current_edit, session.face(session.inversion.generator.resolution)
    return face.to_photo(seen(edit.edit, edit.handles, edit.pins, face.size))


def shown(session: EditSession, place: np.ndarray) -> np.ndarray:
    """Where in the photo what is seen at a place [1, 2] of the current result comes from, as the next drag finds it."""
    face = session.face(session.inversion.generator.resolution)
    origins = session.draft(place, place + 1).pins.origins
    return face.to_photo(origins * face.size - 0.5)


def test_a_point_that_is_dragged_on_is_still_the_same_point_of_the_photo(small_session: EditSession) -> None:
    assert shown(small_session, MOUTH) == pytest.approx(MOUTH)
    drag(small_session, MOUTH, (12, -9))
    end = landing_place(small_session)
    assert np.hypot(*(end - MOUTH)[0]) > 3
    assert shown(small_session, end) == pytest.approx(MOUTH, abs=1)
    drag(small_session, end, (6, -6))
    second = small_session.current_edit
    assert shown(small_session, landing_place(small_session)) == pytest.approx(MOUTH, abs=2)
    assert len(second.pins.settled) == 1


def test_what_was_pinned_stays_through_an_edit_elsewhere(small_session: EditSession) -> None:
    drag(small_session, MOUTH, (12, -9))
    face = small_session.face(small_session.inversion.generator.resolution)
    pairs = small_session.draft(MOUTH, MOUTH + 1).pins.settled
    assert pairs.shape == (1, 2, 2)
    assert face.to_photo(pairs[:, 1] * face.size - 0.5) == pytest.approx(MOUTH, abs=0.01)
    many = MOUTH + np.arange(2 * (FEW + 1)).reshape(-1, 2)
    draft = small_session.draft(many, many + 3)  # many handles are pinned as few are, each where it came from
    assert len(draft.pins.origins) == len(many) and draft.pins.settled == pytest.approx(pairs)


def test_in_a_mask_a_handle_comes_from_the_layer_in_which_it_is_seen(small_session: EditSession) -> None:
    drag(small_session, MOUTH, (12, -9))
    end = landing_place(small_session)
    mask = np.zeros(small_session.photo.pixels.shape[:2], bool)
    mask[400:520, 150:270] = True  # an eye
    drag(small_session, np.array([[205.0, 460.0]]), (3, 3), mask=mask, anchor="previous")
    assert shown(small_session, end) == pytest.approx(MOUTH, abs=1)


def test_pins_are_kept_and_a_record_without_them_is_drawn_without(small_session: EditSession) -> None:
    drag(small_session, MOUTH, (12, -9))
    mask = np.zeros(small_session.photo.pixels.shape[:2], bool)
    mask[400:700, 150:400] = True
    drag(small_session, MOUTH + 8, (-4, 4), mask=mask, anchor="previous")
    edit = EditSession(small_session.folder).edit(2)
    assert [len(layer.pins.ends) for layer in edit.layers] == [1, 1] and len(edit.pins.settled) == 1
    size = small_session.inversion.generator.resolution
    ends = seen(edit.edit, edit.handles, edit.pins, size)
    assert np.hypot(*(ends - edit.edit.targets).T) <= np.hypot(*(edit.handles - edit.edit.targets).T)
    assert edit.pins.ends == pytest.approx((ends + 0.5) / size)
    record = small_session.tree.record(2)
    arrays = {name: array for name, array in record.arrays.items() if "pins" not in name}
    old = read_edit(2, replace(record, arrays=arrays), small_session.photo.pixels.shape[:2], torch.device("cpu"))
    assert all(len(layer.pins.ends) == len(layer.pins.settled) == 0 for layer in old.layers)
