"""The report of a session as one HTML page that needs nothing besides itself: pictures and film are inside."""

from __future__ import annotations

import io
from base64 import b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from PIL import Image

from pipeline.compare import SEEN, Difference
from pipeline.edits import Edit
from pipeline.report import Seam

QUALITY = 90  # of WebP

STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 1080px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin-bottom: 0; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
.row { display: flex; flex-wrap: wrap; gap: 1rem; } figure { margin: 0; flex: 1 1 220px; }
figure img, video { width: 100%; border-radius: 6px; display: block; }
figcaption, .note { font-size: .88rem; opacity: .75; margin-top: .3rem; }
.compare { position: relative; max-width: 640px; } .compare img { width: 100%; display: block; border-radius: 6px; }
.compare img + img { position: absolute; inset: 0; clip-path: inset(0 0 0 var(--cut, 50%)); }
.compare input { width: 100%; margin: .5rem 0 0; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .3rem .7rem .3rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { font-weight: 600; font-size: .88rem; }
svg { width: 100%; height: auto; background: var(--soft); border-radius: 6px; }
"""


@dataclass(frozen=True)
class Inverted:
    """How well the generator draws the face."""

    perceptual: str  # which distance
    distance: float  # between the drawing and the face, as the tuning ended
    psnr: float  # dB
    seen: np.ndarray  # uint8 [S, S, 3] the face
    drawn: np.ndarray  # uint8 [S, S, 3] the drawing


@dataclass(frozen=True)
class Figures:
    """What was measured on one result beside its photo. Lengths are in photo pixels."""

    name: str  # of the session
    pixel: float  # of a 512-pixel face, in photo pixels
    difference: Difference
    seam: Seam | None
    outside_square: int  # pixels that differ outside the face's square
    outside_mask: int | None  # and outside the masks; None: an edit without one may change the whole face
    drawn_outside: float | None  # what the generator changed outside the masks and the paste left out, mean of 255
    inverted: Inverted
    paste_seconds: float


@dataclass(frozen=True)
class Pictures:
    """uint8 [h, w, 3], all around the face."""

    before: np.ndarray
    after: np.ndarray
    heat: np.ndarray
    tracks: np.ndarray


def page(figures: Figures, edits: Sequence[Edit], pictures: Pictures, film: bytes | None) -> str:
    """The report on the last of `edits`, which stand one on the other. `film` is an MP4."""
    title = escape(f"{figures.name}: " + ("1 edit" if len(edits) == 1 else f"{len(edits)} edits"))
    parts = [
        f"<h1>{title}</h1>", f"<p class=note>{_summary(figures, edits)}</p>",
        _compared(pictures), _shown(pictures), _film(film, edits), _edits(figures, edits), _measured(figures),
        _inversion(figures.inverted),
    ]  # fmt: skip
    head = f'<meta charset=utf-8><meta name=viewport content="width=device-width"><title>{title}</title>'
    return (
        f"<!doctype html><html lang=en><head>{head}<style>{STYLE}</style></head><body>{''.join(parts)}</body></html>\n"
    )


def _summary(figures: Figures, edits: Sequence[Edit]) -> str:
    left = edits[-1].outcome.score * figures.pixel
    return (
        f"{edits[-1].outcome.stopped.capitalize()}, {left:.1f} px of the photo from the targets on average; "
        f"{_identity(figures.difference.identity)}; {figures.outside_square} pixels differ outside the face's square."
    )


def _compared(pictures: Pictures) -> str:
    move = "this.parentNode.style.setProperty('--cut', this.value + '%')"
    slider = f'<input type=range min=0 max=100 value=50 aria-label="where the result begins" oninput="{move}">'
    both = _image(pictures.before, "before") + _image(pictures.after, "after")
    note = "<p class=note>Left of the slider the photo, right of it the result.</p>"
    return f"<h2>Before and after</h2><div class=compare>{both}{slider}</div>{note}"


def _shown(pictures: Pictures) -> str:
    shown = [
        (pictures.before, "the photo"),
        (pictures.after, "the result"),
        (pictures.heat, f"where they differ, from blue to red ({SEEN} of 255 and more)"),
        (pictures.tracks, "the handles' way (red) and their targets (blue)"),
    ]
    return _row((_image(picture, name), name) for picture, name in shown)


def _film(film: bytes | None, edits: Sequence[Edit]) -> str:
    if film is None:
        return ""
    old = [str(edit.number) for edit in edits if not edit.film]
    note = f"<p class=note>Edit {', '.join(old)}: of an older version, which kept no steps to show.</p>" if old else ""
    source = f"data:video/mp4;base64,{b64encode(film).decode()}"
    video = f'<video controls autoplay muted loop playsinline src="{source}"></video>'
    return f"<h2>The drag</h2><figure style='max-width: 480px'>{video}</figure>{note}"


def _edits(figures: Figures, edits: Sequence[Edit]) -> str:
    rows = [row for edit in edits for row in _rows(edit, figures.pixel, figures.inverted.seen.shape[0])]
    head = ("edit", "stopped", "steps", "seconds", "mask", "handle", "asked, px", "left, px")
    return f"<h2>Edits</h2>{_table(head, rows)}<div class=row>{''.join(map(_curve, edits))}</div>"


def _rows(edit: Edit, pixel: float, size: int) -> list[tuple[str, ...]]:
    """One row for each handle; the first tells about the edit."""
    unit = pixel * 512 / size  # of the face in which the points are, in photo pixels
    asked, left = (np.hypot(*(edit.edit.targets - points).T) * unit for points in (edit.edit.handles, edit.handles))
    how = edit.outcome
    seconds = "not recorded" if how.seconds is None else f"{how.seconds:.1f}"
    mask = "none" if edit.mask is None else f"yes, holds the {'photo' if edit.anchor == 'photo' else 'edit before'}"
    told = (str(edit.number), how.stopped, str(how.steps), seconds, mask)
    return [
        (*(told if number == 0 else [""] * len(told)), str(number + 1), f"{a:.1f}", f"{b:.1f}")
        for number, (a, b) in enumerate(zip(asked, left, strict=True))
    ]


def _curve(edit: Edit) -> str:
    """The mean distance of the handles to their targets, step by step."""
    far = np.linalg.norm(edit.track - edit.edit.targets, axis=2).mean(1)  # [steps + 1]
    if len(far) < 3:
        return ""
    x, y = 10 + 300 * np.arange(len(far)) / (len(far) - 1), 90 - 75 * far / max(far.max(), 1e-6)
    line = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
    svg = (
        f'<svg viewBox="0 0 320 100" role=img aria-label="distance by step"><path d="M10 90H310" stroke=#8888 />'
        f'<polyline points="{line}" fill=none stroke=#e61e3c stroke-width=2 /></svg>'
    )
    caption = f"edit {edit.number}: distance to the targets over {len(far) - 1} steps"
    return f"<figure style='max-width: 320px'>{svg}<figcaption>{caption}</figcaption></figure>"


def _measured(figures: Figures) -> str:
    there, rim = figures.difference, figures.seam
    rows = [
        ("pixels that differ", f"{there.pixels}, by {there.mean:.1f} of 255 on average and at most {there.largest}"),
        ("outside the face's square", f"{figures.outside_square} pixels differ"),
        ("outside the mask", _outside(figures)),
        ("whose face it is", _identity(there.identity)),
    ]
    if rim is not None:
        slopes = f"the edit changes the photo's slope by {rim.difference:.2f} of 255 a pixel; its own is {rim.own:.2f}"
        rows.append(("at the rim of what changed", slopes))
    rows.append(("putting it into the photo", f"{figures.paste_seconds:.1f} s"))
    return f"<h2>Measured</h2>{_table(('', ''), rows)}"


def _outside(figures: Figures) -> str:
    if figures.outside_mask is None:
        return "no mask: the whole face may change"
    told = f"{figures.outside_mask} pixels differ"
    if figures.drawn_outside is not None:
        told += f"; the generator changed {figures.drawn_outside:.1f} of 255 there on average, which is not shown"
    return told


def _inversion(inverted: Inverted) -> str:
    told = (
        f"{escape(inverted.perceptual)} {inverted.distance:.3f} (0: alike), {inverted.psnr:.1f} dB between the face "
        "and the drawing. Only what the drawing changes gets into the photo, so a blurred one does not blur it."
    )
    shown = [(inverted.seen, "the face, at the generator's size"), (inverted.drawn, "as the generator draws it")]
    row = _row((_image(picture, name), name) for picture, name in shown)
    return f"<h2>The face in the generator</h2><p class=note>{told}</p><div style='max-width: 640px'>{row}</div>"


def _identity(distance: float | None) -> str:
    if distance is None:
        return "no face found in one of the two"
    return f"identity distance {distance:.2f} ({'the same person' if distance < 0.6 else 'another person'}; below 0.6)"


def _row(figures: Iterable[tuple[str, str]]) -> str:
    shown = (f"<figure>{image}<figcaption>{escape(text)}</figcaption></figure>" for image, text in figures)
    return f"<div class=row>{''.join(shown)}</div>"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    top = "".join(f"<th>{escape(name)}</th>" for name in head) if any(head) else ""
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table>{f'<tr>{top}</tr>' if top else ''}{body}</table>"


def _image(pixels: np.ndarray, name: str) -> str:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "WEBP", quality=QUALITY)
    return f'<img alt="{escape(name)}" src="data:image/webp;base64,{b64encode(file.getvalue()).decode()}">'
