"""EditSession: a folder in which every stage's result is one file, and the stages as methods. The story, in one file.

    photo.*  ->  face.safetensors  ->  pivot.safetensors  ->  tuned.safetensors  ->  edits/001.safetensors ...

Every record carries the sha256 of what it was made from, so that a stage never builds on something that has
changed since (StaleResult). Any stage may be run again. Edits are a tree: each stands on the one that was current,
or on the photo; undo, redo and goto choose the current one, and nothing is ever deleted. One process writes to a
session at a time (SessionBusy), any may read. People give points in their photo, where they see them in the current
result; inside, points and masks live in the aligned face.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from align import (
    AlignedFace,
    Alignment,
    Box,
    Drawing,
    Face,
    NoFaceFound,
    Photo,
    Pins,
    choose_face,
    face_region,
    ffhq_quad,
    find_faces,
    paste_layers,
    square_quad,
    whole_quad,
)  # fmt: skip
from drag import BadEdit, DragEdit, DragStep, drag
from inversion import PivotStep, TuneConfig, TuneStep, first_latent, pivot, tune
from pipeline.config import Config
from pipeline.edits import PHOTO, Anchor, Draft, Edit, layers_below, pins_over, read_edit
from pipeline.folder import SessionFolder, StaleResult
from pipeline.history import Entry, History
from pipeline.progress import keep_last
from pipeline.record import Record
from weights import (
    Generator,
    Perceptual,
    PerceptualName,
    keep_freed_memory,
    load_generator,
    load_perceptual,
    pack_tuning,
    perceptual_size,
    release_memory,
    sha256_of,
    to_image,
    to_pixels,
    unpack_tuning,
)

PREVIEW_SIZE = 512  # of the crop kept in face.safetensors, for people to look at


@dataclass(frozen=True)
class Inversion:
    """A face as the generator knows it."""

    latent: Tensor  # [num_ws, w_dim], the pivot
    generator: Generator  # tuned, if it has been


class EditSession:
    """A session's folder. Nothing is held in memory that the folder does not say, except networks."""

    def __init__(self, folder: Path, config: Config = Config(), device: torch.device | str = "cpu"):
        self.folder, self.config, self.device = Path(folder), config, torch.device(device)
        self.files = SessionFolder(self.folder)
        self.tree = History(self.files)
        self._inversion: tuple[str, Inversion] | None = None  # with the sha256 of the file it was read from
        if self.device.type == "cpu":
            keep_freed_memory()

    # --- align ---------------------------------------------------------------------------------------------

    def add_photo(self, path: Path) -> None:
        """Copies a photo into the session, untouched. Raises PhotoError; StaleResult where another is there."""
        Photo.load(path)  # a file that cannot be read is refused before it is copied
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.files.writing():
            self.files.keep_photo(path)

    def align(
        self,
        which: str = "largest",
        faces: Sequence[Face] | None = None,
        *,
        kind: Alignment = "face",
        box: Box | None = None,
    ) -> AlignedFace:
        """Finds the face, unless the photo's `faces` are known, and cuts it out; or, for what has no face, cuts a
        square: the middle's, or a box's.

        Raises NoFaceFound, FaceIndexError, BadBox, PhotoError.
        """
        pixels, points = self.photo.pixels, {}
        with self.files.writing():
            if kind == "face":
                found = list(faces or find_faces(pixels))
                chosen = choose_face(found, which)
                others = np.array([other.points for other in found if other is not chosen]).reshape(-1, 68, 2)
                points, quad = {"points": chosen.points, "others": others}, ffhq_quad(chosen.points)
            else:
                quad = whole_quad(pixels.shape) if kind == "none" else square_quad(pixels.shape, box)
            face = AlignedFace.crop(pixels, quad, PREVIEW_SIZE, kind)
            arrays = {"pixels": face.pixels, "quad": face.quad, **points}
            record = Record("face", arrays, alignment_settings(which, kind, box))
            self.files.write("face", record, self.files.digests(self.files.photo))
        return face

    @property
    def alignment(self) -> Alignment:
        """How the session's crop was cut."""
        kind: Alignment = self.files.read("face").settings.get("align", "face")
        return kind

    # --- invert --------------------------------------------------------------------------------------------

    def invert(self, generator: str = "embedded", *, only_if_needed: bool = False) -> Iterator[PivotStep | TuneStep]:
        """Searches the pivot, then tunes the generator; what each has reached is on disk however the loop ends.

        With `only_if_needed`, a result that is there, finished and made with the same settings is kept.
        """
        base = load_generator(generator, self.device)
        if base.alignment in ("square", "none") and self.alignment == "face":
            raise StaleResult(
                f'{generator} knows pictures cut as "{base.alignment}", and the session holds a face: '
                f"run `photodrag align {self.folder} --align {base.alignment}` first"
            )
        perceptual = self._perceptual(base)
        measured = {"perceptual": perceptual.name, "perceptual_size": perceptual.size}
        searched = {"generator": generator, "generator_sha256": base.sha256, **measured, **asdict(self.config.pivot)}
        tuned = {**measured, **asdict(self._tuning)}
        with self.files.writing():
            try:
                if not (only_if_needed and self.files.is_done("pivot", searched)):
                    yield from self._find_pivot(base, perceptual, searched)
                if not (only_if_needed and self.files.is_done("tuned", tuned)):
                    yield from self._tune(base, perceptual, tuned)
            finally:
                release_memory()

    def _find_pivot(self, base: Generator, perceptual: Perceptual, settings: dict[str, Any]) -> Iterator[PivotStep]:
        def save(step: PivotStep) -> None:
            done = {"done": step.index == step.limit, "score": step.score}
            record = Record("pivot", {"latent": step.latent.cpu().numpy()}, {**settings, **done})
            self.files.write("pivot", record, self.files.digests(self.files.file("face")))

        target = to_image(self.face(base.resolution).pixels, self.device)
        start = first_latent(base, target)
        yield from keep_last(pivot(base, target, perceptual, self.config.pivot, start), save)

    def _tune(self, base: Generator, perceptual: Perceptual, settings: dict[str, Any]) -> Iterator[TuneStep]:
        latent = torch.from_numpy(self.files.read("pivot").arrays["latent"]).to(self.device)

        def save(step: TuneStep) -> None:
            arrays, share = pack_tuning(base, step.weights, latent)
            done = {"done": step.arrived or step.index == step.limit, "score": step.score}
            made_from = self.files.digests(self.files.file("pivot"), self.files.file("face"))
            self.files.write("tuned", Record("tuned", arrays, {**settings, **done, "share": share}), made_from)

        target = to_image(self.face(base.resolution).pixels, self.device)
        yield from keep_last(tune(base, latent, target, perceptual, self._tuning), save)

    @property
    def _tuning(self) -> TuneConfig:
        """How to tune: what is no aligned face has none to look at."""
        tuning = self.config.tune
        return tuning if self.alignment == "face" else replace(tuning, view=1.0, face_weight=0.0)

    # --- drag ----------------------------------------------------------------------------------------------

    def drag(
        self,
        handles: np.ndarray,
        targets: np.ndarray,
        mask: np.ndarray | None = None,
        *,
        anchor: Anchor = "photo",
        from_photo: bool = False,
    ) -> Iterator[DragStep]:
        """Drags photo points [N, 2] to others; `mask` bool [H, W] of the photo says what may change.

        Stands on the current edit, or with `from_photo` on the photo, and is the current one from its first update
        on. Outside the mask the `anchor` holds: the photo (and what earlier edits drew in masks of their own), or
        the previous result. Raises BadEdit, StaleResult, SessionBusy before the first step.
        """
        yield from self.carry_out(self.draft(handles, targets, mask, anchor=anchor, from_photo=from_photo))

    def draft(
        self,
        handles: np.ndarray,
        targets: np.ndarray,
        mask: np.ndarray | None = None,
        *,
        anchor: Anchor = "photo",
        from_photo: bool = False,
    ) -> Draft:
        """What `drag` carries out; nothing is written yet. Raises BadEdit, StaleResult."""
        parent, size = None if from_photo else self.current_edit, self.inversion.generator.resolution
        edit = self.to_face(handles, targets, mask, size)
        pins = self._pins(parent, (edit.handles + 0.5) / size)
        return Draft(parent, edit, anchor, self.config.drag, self._inverted(), mask, size, pins)

    def carry_out(self, draft: Draft) -> Iterator[DragStep]:
        """Drags as `drag` does. Raises StaleResult, SessionBusy before the first step."""
        with self.files.writing():
            if draft.made_from != self._inverted():
                raise StaleResult("the face was inverted anew since this drag was asked for: ask again")
            inversion, number, parent = self.inversion, self.tree.next_number(), draft.parent

            def save(step: DragStep, durable: bool = True) -> None:
                if step.index == 0 and not step.arrived:
                    return  # nothing was done yet
                new = number not in self.files.edits()
                self.files.write(f"edits/{number:03}", draft.record(step), draft.made_from, durable=durable)
                if new or durable:
                    self.tree.move(number, durable=durable)

            start = parent.latent if parent else inversion.latent
            held = inversion.latent if draft.anchor == "photo" else start
            steps = drag(inversion.generator, start, self._freed(draft), draft.config, held)
            yield from keep_last(draft.followed(steps), save, on_the_way=lambda step: save(step, durable=False))

    def _inverted(self) -> dict[str, str]:
        """What edits are made from."""
        return self.files.digests(self.files.file("tuned"), self.files.file("pivot"))

    def _pins(self, parent: Edit | None, handles: np.ndarray) -> Pins:
        """What an edit pins whose handles are there, in crop widths: them, and what lies below it."""
        if parent is None:
            return Pins(origins=handles)
        size = self.inversion.generator.resolution
        return pins_over(parent, handles, self.face(size), self.draw(self.inversion.latent), self.draw)

    def _freed(self, draft: Draft) -> DragEdit:
        """The edit with what its anchor leaves free: with the photo, all masks that show in its picture together."""
        masks = [layer.mask for layer in draft.below if layer.mask is not None]
        if draft.mask is None or draft.anchor == "previous" or not masks:
            return draft.edit
        size = self.inversion.generator.resolution
        return replace(draft.edit, movable=self.face(size).mask_from_photo(np.logical_or.reduce([draft.mask, *masks])))

    def to_face(
        self, handles: np.ndarray, targets: np.ndarray, mask: np.ndarray | None, size: int = PREVIEW_SIZE
    ) -> DragEdit:
        """An edit given in the photo's pixels as one in those of the aligned face, size x size. Raises BadEdit."""
        face = self.face(size)
        if mask is not None and mask.shape != self.photo.pixels.shape[:2]:
            raise BadEdit(
                f"the mask is {mask.shape[::-1]}, the photo {self.photo.pixels.shape[1::-1]}: same size, please"
            )
        movable = None if mask is None else face.mask_from_photo(mask)
        edit = DragEdit(face.from_photo(handles), face.from_photo(targets), movable)
        edit.check(face.size, face.scale)
        return edit

    # --- export --------------------------------------------------------------------------------------------

    def result(self, number: int | None = None, onto: Photo | None = None) -> Photo:
        """The photo with an edit in it: by default the current one; 0: the photo as it was.

        `onto` is the photo to put it into instead: the same one, in which other faces were edited.
        """
        photo = onto or self.photo
        edit = self.current_edit if number is None else self.edit(number) if number else None
        if edit is None:
            return photo
        face, before = self.face(self.inversion.generator.resolution), self.draw(self.inversion.latent)
        layers = [Drawing(self.draw(layer.latent), layer.mask, layer.pins) for layer in edit.layers]
        free = self.without_neighbours()
        return photo.with_colours(paste_layers(photo.colours, face, before, layers, free, self.config.paste))

    def without_neighbours(self) -> np.ndarray | None:
        """bool [H, W]: the photo without the other faces in it, which an edit of this one leaves alone; None: all."""
        arrays, (height, width) = self.files.read("face").arrays, self.photo.pixels.shape[:2]
        others = arrays.get("others", ())  # old records know of none
        if len(others) == 0:
            return None
        taken = np.logical_or.reduce([face_region(other, (height, width)) for other in others])
        return ~taken | face_region(arrays["points"], (height, width))

    def export(self, path: Path, *, overwrite: bool = False) -> None:
        """Writes the result in the format that the path's ending names. Raises PhotoError."""
        self.result().save(path, overwrite=overwrite)

    def draw(self, latent: Tensor) -> np.ndarray:
        """The tuned generator's picture of a latent: float32 [S, S, 3] of 0..255."""
        with torch.no_grad():
            return to_pixels(self.inversion.generator.render(latent[None].to(self.device)))

    # --- history -------------------------------------------------------------------------------------------

    def history(self) -> tuple[Entry, ...]:
        """Every edit there is, with its parent, the current one marked, and what became of lost ones."""
        return self.tree.entries()

    def undo(self) -> int:
        """Makes the edit below current; its number, 0 for the photo. Raises NoSuchEdit at the start."""
        with self.files.writing():
            return self.tree.undo()

    def redo(self) -> int:
        """Goes back up the branch that was left last; the number of the edit. Raises NoSuchEdit at its end."""
        with self.files.writing():
            return self.tree.redo()

    def goto(self, number: int) -> int:
        """Makes any edit current, or with 0 the photo. Raises NoSuchEdit."""
        with self.files.writing():
            return self.tree.goto(number)

    # --- what the folder holds -----------------------------------------------------------------------------

    @cached_property
    def photo(self) -> Photo:
        return Photo.load(self.files.photo)

    def face(self, size: int) -> AlignedFace:
        """The aligned face, cut from the photo at size x size pixels."""
        record = self.files.read("face")
        return AlignedFace.crop(self.photo.pixels, record.arrays["quad"], size, record.settings.get("align", "face"))

    def landmarks(self, *, of_photo: bool = False) -> np.ndarray:
        """The face's 68 landmarks [68, 2] in the current result, or in the photo. Raises BadEdit for none."""
        record = self.files.read("face")
        if record.settings.get("align", "face") != "face":
            raise BadEdit(
                "gestures stand on a face's landmarks, and this session is aligned without: give --drag x,y:x,y"
            )
        edited = not of_photo and self.current_edit is not None
        if "points" in record.arrays and not edited:  # older sessions have none
            return record.arrays["points"]
        quad = record.arrays["quad"]
        face = AlignedFace.crop((self.result() if edited else self.photo).pixels, quad, PREVIEW_SIZE)
        try:
            return face.to_photo(choose_face(find_faces(face.pixels)).points)
        except NoFaceFound:
            raise BadEdit(
                "gestures stand on a face's landmarks, and here none are found: give --drag x,y:x,y"
            ) from None

    @property
    def inversion(self) -> Inversion:
        """The face as the tuned generator draws it. What is on disk is checked each time, networks are kept."""
        pivoted, tuned = self.files.read("pivot"), self.files.read("tuned")
        digest = sha256_of(self.files.file("tuned"))
        if self._inversion is None or self._inversion[0] != digest:
            base = self._base_generator()
            weights = unpack_tuning(base, tuned.arrays, tuned.settings.get("share", 1.0))
            latent = torch.from_numpy(pivoted.arrays["latent"]).to(self.device)
            self._inversion = (digest, Inversion(latent, base.tuned(weights)))
        return self._inversion[1]

    @property
    def current_edit(self) -> Edit | None:
        """The edit on which the next one stands; None: the photo itself."""
        current = self.tree.current
        return self.edit(current) if current != PHOTO else None

    def edit(self, number: int) -> Edit:
        """Any edit. Raises NoSuchEdit, CorruptRecord, StaleResult."""
        record = self.tree.record(number)
        edit = read_edit(number, record, self.photo.pixels.shape[:2], self.device)
        if record.format == "1" and edit.parent != PHOTO:  # those do not hold what lies below them
            edit = replace(edit, below=layers_below(self.edit(edit.parent), edit.mask, edit.anchor))
        return edit

    def _base_generator(self) -> Generator:
        """The generator that the pivot was found in. Raises StaleResult where its file has changed."""
        settings = self.files.read("pivot").settings
        generator = load_generator(settings["generator"], self.device)
        if generator.sha256 != settings["generator_sha256"]:
            raise StaleResult(
                f"the generator {settings['generator']} has changed since the inversion: "
                f"run `photodrag invert {self.folder}` again"
            )
        return generator

    def _perceptual(self, generator: Generator) -> Perceptual:
        default: PerceptualName = "st-lpips-vgg" if generator.name == "embedded" else "auto"
        size = self.config.perceptual_size or perceptual_size(generator.resolution)
        return load_perceptual(self.config.perceptual or default, self.device, size=size)


def alignment_settings(which: str, kind: Alignment, box: Box | None) -> dict[str, Any]:
    """What a session keeps about how its crop was cut."""
    return {"which": which} if kind == "face" else {"align": kind, "box": list(box) if box else None}
