"""The folder of a session: where each result lies, what it was made from, and whether that still holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.lock import only_writer
from pipeline.record import Record, read_record, write_atomically, write_record
from weights import sha256_of

COMMAND = {"face": "align", "pivot": "invert", "tuned": "invert", "edit": "drag --from-photo"}  # what makes each kind


class StaleResult(RuntimeError):
    """A result was made from something that has changed since, or is not there yet."""


class SessionFolder:
    """The files of one session. A result is known by its stage: "face", "pivot", "tuned", "edits/001", ..."""

    def __init__(self, path: Path):
        self.path = path

    @property
    def photo(self) -> Path:
        """The photo's file. Raises StaleResult where there is none."""
        found = self.photos()
        if not found:
            raise self._without_photo()
        return found[0]

    def _without_photo(self) -> StaleResult:
        was = self.file("face").is_file()
        what = f"the photo of {self.path} is gone: put it back with" if was else f"{self.path} holds no photo yet: run"
        return StaleResult(f"{what} `photodrag align {self.path} --photo FILE`")

    def photos(self) -> list[Path]:
        return sorted(self.path.glob("photo.*"))

    def keep_photo(self, path: Path) -> None:
        """Copies a photo into the session. Raises StaleResult where it is, or was, another one's."""
        for name, digest in self._known_photo().items():
            if digest != sha256_of(path):
                raise StaleResult(f"{self.path} holds another photo ({name}): use another session folder")
            if not self.photos():
                write_atomically(self.path / name, path.read_bytes())
        if not self.photos():
            write_atomically(self.path / f"photo{path.suffix.lower()}", path.read_bytes())

    def _known_photo(self) -> Mapping[str, str]:
        """The name and sha256 of the photo that is here, or of the one that the face was cut from."""
        if self.photos():
            return {self.photo.name: sha256_of(self.photo)}
        return read_record(self.file("face"), "face").made_from if self.file("face").is_file() else {}

    def _check_there(self) -> None:
        if not self.path.is_dir():
            raise StaleResult(f"there is no session {self.path}: run `photodrag align {self.path} --photo FILE`")

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Nobody else writes to the folder meanwhile. Raises SessionBusy; StaleResult where there is no session."""
        self._check_there()
        with only_writer(self.path):
            for part in self.path.rglob(".*.safetensors.*.part"):
                part.unlink(missing_ok=True)  # a process that was killed left it
            yield

    def file(self, stage: str) -> Path:
        return self.path / f"{stage}.safetensors"

    def edits(self) -> list[int]:
        """The numbers of the edits there are, ascending."""
        return sorted(int(file.stem) for file in (self.path / "edits").glob("*.safetensors") if file.stem.isdigit())

    def digests(self, *inputs: Path) -> dict[str, str]:
        """The name in this folder and the sha256 of files that a result is made from."""
        return {file.relative_to(self.path).as_posix(): sha256_of(file) for file in inputs}

    def write(self, stage: str, record: Record, made_from: Mapping[str, str], *, durable: bool = True) -> None:
        """Writes a result with the sha256 of what it was made from. Raises NotWritten."""
        write_record(self.file(stage), replace(record, made_from=made_from), durable=durable)

    def read(self, stage: str, kind: str | None = None) -> Record:
        """A result. Raises StaleResult where it, or anything it was made from, is missing or has changed."""
        self._check_there()
        kind = kind or stage
        file, command = self.file(stage), f"`photodrag {COMMAND[kind]} {self.path}`"
        if not file.is_file():
            raise StaleResult(f"{file} is not there yet: run {command}")
        record = read_record(file, kind)
        for name, digest in record.made_from.items():
            if name.startswith("edits/"):
                continue  # an edit holds all that its picture needs, and stays good when the one below is lost
            source = self.path / name
            if not source.is_file():
                if name.startswith("photo.") and not self.photos():
                    raise self._without_photo()
                raise StaleResult(f"{name}, which {file.name} was made from, is gone: put it back, or run {command}")
            if sha256_of(source) != digest:
                raise StaleResult(f"{name} has changed since {file.name} was made from it: run {command} again")
            if source.suffix == ".safetensors":
                self.read(name.removesuffix(".safetensors"))
        return record

    def is_done(self, stage: str, settings: dict[str, Any]) -> bool:
        """Whether a result is there, finished, up to date and made with these settings."""
        try:
            found = self.read(stage).settings
        except (StaleResult, ValueError):
            return False
        return bool(found.get("done", True)) and all(found.get(name) == value for name, value in settings.items())
