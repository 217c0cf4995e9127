"""What a report tells of an edit: its figures and pictures, taken from a session."""

from __future__ import annotations

import time
from collections.abc import Sequence

import cv2
import numpy as np

from pipeline.compare import difference, heat_map
from pipeline.edits import Edit
from pipeline.film import Studio, with_track
from pipeline.page import Figures, Inverted, Pictures
from pipeline.report import close_up, differing_outside, seam
from pipeline.session import EditSession

CLOSE = 640  # pixels: pictures on the page are at most about as large


def measure(session: EditSession, edits: Sequence[Edit]) -> Figures:
    """The figures of the last of these edits beside the photo."""
    edit, before, face = edits[-1], session.photo.pixels, session.face(512)
    started = time.perf_counter()
    after = session.result(edit.number).pixels
    pasted = time.perf_counter() - started
    movable = _movable(edit)
    return Figures(
        name=session.folder.resolve().name,
        pixel=face.scale,
        difference=difference(before, after),
        seam=seam(before, after),
        outside_square=differing_outside(before, after, face.quad),
        outside_mask=None if movable is None else int((before != after).any(2)[~movable].sum()),
        drawn_outside=None if movable is None else _drawn_outside(session, edit, movable),
        inverted=_inverted(session),
        paste_seconds=pasted,
    )


def _movable(edit: Edit) -> np.ndarray | None:
    """Where the photo may differ, bool [H, W]; None: everywhere."""
    masks = [layer.mask for layer in edit.layers if layer.mask is not None]
    return np.logical_or.reduce(masks) if len(masks) == len(edit.layers) else None


def _drawn_outside(session: EditSession, edit: Edit, movable: np.ndarray) -> float | None:
    before, after = session.draw(session.inversion.latent), session.draw(edit.latent)
    outside = ~session.face(len(before)).mask_from_photo(movable)
    return float(np.abs(after - before)[outside].mean()) if outside.any() else None


def _inverted(session: EditSession) -> Inverted:
    settings = session.files.read("tuned").settings
    drawn = session.draw(session.inversion.latent)
    seen = session.face(len(drawn)).pixels
    psnr = 10 * np.log10(255**2 / max(float(np.square(drawn - seen).mean()), 1e-9))
    name = f"{settings['perceptual'].upper()} at {settings['perceptual_size']} px"
    return Inverted(name, settings["score"], float(psnr), seen, np.clip(np.rint(drawn), 0, 255).astype(np.uint8))


def pictures_of(session: EditSession, edits: Sequence[Edit]) -> Pictures:
    """The face before and after, where they differ, and the way of all handles."""
    before, after = session.photo.pixels, session.result(edits[-1].number).pixels
    quad = session.face(512).quad
    heat = heat_map(before, after)
    studio = Studio(session)
    tracks = studio.photo
    for edit in edits:
        tracks = with_track(tracks, studio.in_film(studio.seen(edit, edit.track)), studio.in_film(edit.edit.targets))
    before, after, heat = (_page_sized(close_up(picture, quad, 1.0)) for picture in (before, after, heat))
    return Pictures(before, after, heat, tracks)


def _page_sized(picture: np.ndarray) -> np.ndarray:
    scale = CLOSE / max(picture.shape[:2])
    if scale >= 1:
        return picture
    height, width = (max(1, round(n * scale)) for n in picture.shape[:2])
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
