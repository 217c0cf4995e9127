"""EditSession: a folder in which every stage's result is one file, and the stages as methods. The story, in one file.

    photo.*  ->  face.safetensors  ->  pivot.safetensors  ->  tuned.safetensors  ->  edits/001.safetensors ...

Every record carries the sha256 of what it was made from, so that a stage never builds on something that has
changed since (StaleResult). Any stage may be run again; an edit stands on the one before, or on the photo.
People give points in their photo; inside, points and masks live in the aligned face.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from align import AlignedFace, Photo, choose_face, ffhq_quad, find_faces, paste
from drag import BadEdit, DragEdit, DragStep, drag
from inversion import Perceptual, PerceptualName, PivotStep, TuneStep, first_latent, load_perceptual, pivot, tune
from pipeline.config import Config
from pipeline.folder import SessionFolder, StaleResult
from pipeline.progress import keep_last
from pipeline.record import Record, write_atomically
from weights import Generator, load_generator, sha256_of, to_image, to_pixels

PREVIEW_SIZE = 512  # of the crop kept in face.safetensors, for people to look at


@dataclass(frozen=True)
class Inversion:
    """A face as the generator knows it."""

    latent: Tensor  # [num_ws, w_dim], the pivot
    generator: Generator  # tuned, if it has been


@dataclass(frozen=True)
class Edit:
    """One edit as it was asked for and as far as it came. Points are in pixels of the aligned face."""

    number: int
    parent: int | None  # the edit it stands on, None: the photo
    edit: DragEdit
    latent: Tensor  # [num_ws, w_dim]
    handles: np.ndarray  # [N, 2] where they ended
    mask: np.ndarray | None  # bool [H, W] of the photo


class EditSession:
    """A session's folder. Nothing is held in memory that the folder does not say, except networks."""

    def __init__(self, folder: Path, config: Config = Config(), device: torch.device | str = "cpu"):
        self.folder, self.config, self.device = Path(folder), config, torch.device(device)
        self.files = SessionFolder(self.folder)
        self._inversion: tuple[str, Inversion] | None = None  # with the sha256 of the file it was read from

    # --- align ---------------------------------------------------------------------------------------------

    def add_photo(self, path: Path) -> None:
        """Copies a photo into the session, untouched. Raises PhotoError; StaleResult where another is there."""
        Photo.load(path)  # a file that cannot be read is refused before it is copied
        old = self.files.photos()
        if old and sha256_of(old[0]) != sha256_of(path):
            raise StaleResult(f"{self.folder} holds another photo ({old[0].name}): use another session folder")
        if not old:
            write_atomically(self.folder / f"photo{path.suffix.lower()}", path.read_bytes())

    def align(self, which: str = "largest") -> AlignedFace:
        """Finds the face and cuts it out. Raises NoFaceFound, FaceIndexError, PhotoError."""
        quad = ffhq_quad(choose_face(find_faces(self.photo.pixels), which).points)
        face = AlignedFace.crop(self.photo.pixels, quad, PREVIEW_SIZE)
        arrays = {"pixels": face.pixels, "quad": face.quad}
        self.files.write("face", Record("face", arrays, {"which": which}), [self.files.photo])
        return face

    # --- invert --------------------------------------------------------------------------------------------

    def invert(self, generator: str = "embedded", *, only_if_needed: bool = False) -> Iterator[PivotStep | TuneStep]:
        """Searches the pivot, then tunes the generator; what each has reached is on disk however the loop ends.

        With `only_if_needed`, a result that is there, finished and made with the same settings is kept.
        """
        base = load_generator(generator, self.device)
        perceptual = self._perceptual(base)
        measured = {"perceptual": perceptual.name, "perceptual_size": perceptual.size}
        searched = {"generator": generator, "generator_sha256": base.sha256, **measured, **asdict(self.config.pivot)}
        tuned = {**measured, **asdict(self.config.tune)}
        if not (only_if_needed and self.files.is_done("pivot", searched)):
            yield from self._find_pivot(base, perceptual, searched)
        if not (only_if_needed and self.files.is_done("tuned", tuned)):
            yield from self._tune(base, perceptual, tuned)

    def _find_pivot(self, base: Generator, perceptual: Perceptual, settings: dict[str, Any]) -> Iterator[PivotStep]:
        def save(step: PivotStep) -> None:
            done = {"done": step.index == step.limit, "score": step.score}
            record = Record("pivot", {"latent": step.latent.cpu().numpy()}, {**settings, **done})
            self.files.write("pivot", record, [self.files.file("face")])

        target = to_image(self.face(base.resolution).pixels, self.device)
        start = first_latent(base, target)
        yield from keep_last(pivot(base, target, perceptual, self.config.pivot, start), save)

    def _tune(self, base: Generator, perceptual: Perceptual, settings: dict[str, Any]) -> Iterator[TuneStep]:
        before = dict(base.network.synthesis.named_parameters())

        def save(step: TuneStep) -> None:
            # The difference to the base is small, so half precision holds it to far below a pixel's step.
            arrays = {name: (new - before[name]).half().cpu().numpy() for name, new in step.weights.items()}
            done = {"done": step.arrived or step.index == step.limit, "score": step.score}
            inputs = [self.files.file("pivot"), self.files.file("face")]
            self.files.write("tuned", Record("tuned", arrays, {**settings, **done}), inputs)

        latent = torch.from_numpy(self.files.read("pivot").arrays["latent"]).to(self.device)
        target = to_image(self.face(base.resolution).pixels, self.device)
        yield from keep_last(tune(base, latent, target, perceptual, self.config.tune), save)

    # --- drag ----------------------------------------------------------------------------------------------

    def drag(
        self, handles: np.ndarray, targets: np.ndarray, mask: np.ndarray | None = None, *, from_photo: bool = False
    ) -> Iterator[DragStep]:
        """Drags photo points [N, 2] to others; `mask` bool [H, W] of the photo says what may change.

        Stands on the current edit, or with `from_photo` on the photo. Raises BadEdit before the first step.
        """
        parent = None if from_photo else self.current_edit
        edit = self.to_face(handles, targets, mask, self.inversion.generator.resolution)
        number = max(self.files.edits(), default=0) + 1
        inputs = [
            self.files.file("tuned"),
            self.files.file("pivot"),
            *([self.files.file(f"edits/{parent.number:03}")] if parent else []),
        ]

        def save(step: DragStep) -> None:
            done = {"parent": parent.number if parent else None, "steps": step.index, "arrived": step.arrived,
                    "score": step.score}  # fmt: skip
            record = Record("edit", _edit_arrays(edit, step, mask), {**asdict(self.config.drag), **done})
            self.files.write(f"edits/{number:03}", record, inputs)

        start = parent.latent if parent else self.inversion.latent
        yield from keep_last(drag(self.inversion.generator, start, edit, self.config.drag), save)

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

    def result(self) -> Photo:
        """The photo with the current edit in it, or as it was where there is none."""
        current = self.current_edit
        if current is None:
            return self.photo
        face = self.face(self.inversion.generator.resolution)
        before, after = self.draw(self.inversion.latent), self.draw(current.latent)
        return self.photo.edited(paste(self.photo.pixels, face, before, after, self._movable(current)))

    def export(self, path: Path, *, overwrite: bool = False) -> None:
        """Writes the result in the format that the path's ending names. Raises PhotoError."""
        self.result().save(path, overwrite=overwrite)

    def draw(self, latent: Tensor) -> np.ndarray:
        """The tuned generator's picture of a latent: float32 [S, S, 3] of 0..255."""
        with torch.no_grad():
            return to_pixels(self.inversion.generator.render(latent[None].to(self.device)))

    def _movable(self, edit: Edit) -> np.ndarray | None:
        """What an edit and those it stands on may have changed together: where one had no mask, everything."""
        if edit.mask is None or edit.parent is None:
            return edit.mask
        below = self._movable(self.edit(edit.parent))
        return None if below is None else edit.mask | below

    # --- what the folder holds -----------------------------------------------------------------------------

    @cached_property
    def photo(self) -> Photo:
        return Photo.load(self.files.photo)

    def face(self, size: int) -> AlignedFace:
        """The aligned face, cut from the photo at size x size pixels."""
        return AlignedFace.crop(self.photo.pixels, self.files.read("face").arrays["quad"], size)

    @property
    def inversion(self) -> Inversion:
        """The face as the tuned generator draws it. What is on disk is checked each time, networks are kept."""
        pivoted, tuned = self.files.read("pivot"), self.files.read("tuned")
        digest = sha256_of(self.files.file("tuned"))
        if self._inversion is None or self._inversion[0] != digest:
            base = self._base_generator()
            before = dict(base.network.synthesis.named_parameters())
            weights = {name: before[name] + torch.from_numpy(d).to(self.device) for name, d in tuned.arrays.items()}
            latent = torch.from_numpy(pivoted.arrays["latent"]).to(self.device)
            self._inversion = (digest, Inversion(latent, base.tuned(weights)))
        return self._inversion[1]

    @property
    def current_edit(self) -> Edit | None:
        """The newest edit, on which the next one stands."""
        numbers = self.files.edits()
        return self.edit(numbers[-1]) if numbers else None

    def edit(self, number: int) -> Edit:
        record = self.files.read(f"edits/{number:03}", "edit")
        arrays = record.arrays
        mask = None
        if "mask" in arrays:
            shape = self.photo.pixels.shape[:2]
            mask = np.unpackbits(arrays["mask"], count=shape[0] * shape[1]).reshape(shape).astype(bool)
        asked = DragEdit(arrays["handles"], arrays["targets"], arrays.get("movable"))
        latent = torch.from_numpy(arrays["latent"]).to(self.device)
        return Edit(number, record.settings["parent"], asked, latent, arrays["ended"], mask)

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
        size = self.config.perceptual_size or min(256, generator.resolution // 2)
        return load_perceptual(self.config.perceptual or default, self.device, size=size)


def _edit_arrays(edit: DragEdit, step: DragStep, mask: np.ndarray | None) -> dict[str, np.ndarray]:
    arrays = {
        "handles": edit.handles,
        "targets": edit.targets,
        "ended": step.handles,
        "latent": step.latent.cpu().numpy(),
    }
    if edit.movable is not None and mask is not None:
        arrays |= {"movable": edit.movable, "mask": np.packbits(mask)}  # one bit for each of the photo's pixels
    return arrays
