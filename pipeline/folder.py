"""The folder of a session: where each result lies, what it was made from, and whether that still holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.record import Record, read_record, write_record
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
        """The photo's file. Raises StaleResult where there is none yet."""
        found = self.photos()
        if not found:
            raise StaleResult(f"{self.path} holds no photo yet: run `photodrag align {self.path} --photo FILE`")
        return found[0]

    def photos(self) -> list[Path]:
        return sorted(self.path.glob("photo.*"))

    def file(self, stage: str) -> Path:
        return self.path / f"{stage}.safetensors"

    def edits(self) -> list[int]:
        """The numbers of the edits there are, ascending."""
        return sorted(int(file.stem) for file in (self.path / "edits").glob("*.safetensors") if file.stem.isdigit())

    def write(self, stage: str, record: Record, inputs: list[Path]) -> None:
        """Writes a result with the sha256 of what it was made from. Raises NotWritten."""
        made_from = {file.relative_to(self.path).as_posix(): sha256_of(file) for file in inputs}
        write_record(self.file(stage), Record(record.kind, record.arrays, record.settings, made_from))

    def read(self, stage: str, kind: str | None = None) -> Record:
        """A result. Raises StaleResult where it, or anything it stands on, is missing or has changed."""
        kind = kind or stage
        file, command = self.file(stage), f"`photodrag {COMMAND[kind]} {self.path}`"
        if not file.is_file():
            raise StaleResult(f"{file} is not there yet: run {command}")
        record = read_record(file, kind)
        for name, digest in record.made_from.items():
            source = self.path / name
            if not source.is_file() or sha256_of(source) != digest:
                raise StaleResult(f"{name} has changed since {file.name} was made from it: run {command} again")
            if source.suffix == ".safetensors":
                stage_below = name.removesuffix(".safetensors")
                self.read(stage_below, "edit" if stage_below.startswith("edits/") else None)
        return record

    def is_done(self, stage: str, settings: dict[str, Any]) -> bool:
        """Whether a result is there, finished, up to date and made with these settings."""
        try:
            found = self.read(stage).settings
        except (StaleResult, ValueError):
            return False
        return bool(found.get("done", True)) and all(found.get(name) == value for name, value in settings.items())
