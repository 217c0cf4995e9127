"""The history of a session's edits: a tree that only grows, and which edit of it is current.

Each edit's record names its parent; one small file beside them, replaced as a whole, says which edit is current and
which way a redo goes. Moving through the history moves that pointer and nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.edits import PHOTO, Outcome, current_settings
from pipeline.folder import SessionFolder, StaleResult
from pipeline.record import FORMAT, CorruptRecord, Record, UnknownFormat, check_format, read_record, write_atomically


class NoSuchEdit(LookupError):
    """The history has no edit there."""


@dataclass(frozen=True)
class Pointer:
    """Which edit is current, the child of each edit that a redo goes to, and the highest number given so far."""

    current: int
    redo: Mapping[int, int]
    given: int


@dataclass(frozen=True)
class Entry:
    """One edit as the history tells it. Of a lost one little is known but its number."""

    number: int
    parent: int | None  # 0: the photo; None: not known any more
    current: bool
    points: int = 0
    masked: bool = False
    anchor: str = ""
    outcome: Outcome | None = None
    problem: str | None = None  # why it cannot be used: its record is missing, damaged, or of an older inversion


class History:
    """The tree of edits in a session's folder. All numbers are edits', 0 is the photo. Locks nothing."""

    def __init__(self, files: SessionFolder):
        self.files = files

    @property
    def file(self) -> Path:
        return self.files.path / "edits" / "current.json"

    @property
    def current(self) -> int:
        """The edit that is exported and on which the next one stands. Raises CorruptRecord."""
        return self._pointer().current

    def entries(self) -> tuple[Entry, ...]:
        """Every edit there is, or was, ascending. Raises CorruptRecord only where the pointer is damaged."""
        current, numbers = self.current, self.files.edits()
        found = [self._entry(number, current) for number in numbers]
        referred = {current, *(entry.parent or PHOTO for entry in found)} - {PHOTO, *numbers}
        lost = [Entry(n, None, n == current, problem=f"{self._name(n)} is missing") for n in referred]
        return tuple(sorted(found + lost, key=lambda entry: entry.number))

    def next_number(self) -> int:
        """A number that no edit has had."""
        return max([self._pointer().given, *self.files.edits()]) + 1

    def undo(self) -> int:
        """To the edit that the current one stands on. Raises NoSuchEdit, CorruptRecord, StaleResult."""
        current = self.current
        if current == PHOTO:
            raise NoSuchEdit(f"nothing to undo: {self.files.path} is at the photo itself")
        return self.goto(self._parent(current))

    def redo(self) -> int:
        """Back to where the last undo came from. Raises NoSuchEdit, CorruptRecord, StaleResult."""
        pointer = self._pointer()
        children = [number for number in self.files.edits() if self._stands_on(number, pointer.current)]
        if not children:
            raise NoSuchEdit(f"nothing to redo: no edit stands on {told(pointer.current)}")
        last_left = pointer.redo.get(pointer.current)
        return self.goto(last_left if last_left in children else children[-1])

    def goto(self, number: int) -> int:
        """To any edit, or with 0 to the photo. Raises NoSuchEdit, CorruptRecord, StaleResult."""
        if number != PHOTO:
            self.record(number)
        self.move(number)
        return number

    def move(self, number: int, *, durable: bool = True) -> None:
        """Sets the pointer; a redo from anywhere on the way to that edit will lead there. Raises NotWritten."""
        try:
            old = self._pointer()
        except UnknownFormat:
            raise
        except CorruptRecord:
            old = Pointer(PHOTO, {}, PHOTO)  # this mends it
        redo = {**old.redo, **{parent: child for child, parent in self._way_down(number)}}
        new = Pointer(number, redo, max([old.given, number, *self.files.edits()]))
        write_atomically(self.file, json.dumps({"format": FORMAT, **asdict(new)}).encode(), durable=durable)

    def record(self, number: int) -> Record:
        """An edit's record. Raises NoSuchEdit, CorruptRecord, or StaleResult where the inversion has changed."""
        self._read(number)
        return self.files.read(self._stage(number), "edit")

    def _entry(self, number: int, current: int) -> Entry:
        try:
            record = self._read(number)
        except CorruptRecord as error:
            return Entry(number, None, number == current, problem=str(error))
        settings, arrays = current_settings(record), record.arrays
        return Entry(
            number, settings["parent"], number == current, len(arrays["handles"]), "mask" in arrays,
            settings["anchor"], Outcome(**settings["outcome"]), self._problem(number),
        )  # fmt: skip

    def _problem(self, number: int) -> str | None:
        try:
            self.record(number)
        except (StaleResult, CorruptRecord) as error:
            return str(error)
        return None

    def _read(self, number: int) -> Record:
        """An edit's record, whatever became of what it was made from. Raises NoSuchEdit, CorruptRecord."""
        try:
            return read_record(self.files.file(self._stage(number)), "edit")
        except FileNotFoundError:
            raise NoSuchEdit(f"there is no edit {number} in {self.files.path}: {self._way_out()}") from None
        except UnknownFormat:
            raise
        except CorruptRecord as error:
            raise CorruptRecord(
                f"edit {number} is lost, for {self._name(number)} is damaged: {self._way_out()}"
            ) from error

    def _parent(self, number: int) -> int:
        """The edit that an edit stands on. Raises NoSuchEdit, CorruptRecord where its record cannot say."""
        parent: int = current_settings(self._read(number))["parent"]
        return parent

    def _stands_on(self, number: int, parent: int) -> bool:
        try:
            return self._parent(number) == parent
        except (NoSuchEdit, CorruptRecord):
            return False

    def _way_down(self, number: int) -> Iterator[tuple[int, int]]:
        """(edit, its parent) from an edit to the photo, or to the first that is lost."""
        while number != PHOTO:
            try:
                parent = self._parent(number)
            except (NoSuchEdit, CorruptRecord):
                return
            yield number, parent
            number = parent

    def _pointer(self) -> Pointer:
        """What the file says; without one the newest edit is current. Raises CorruptRecord, UnknownFormat."""
        if not self.file.is_file():
            newest = max(self.files.edits(), default=PHOTO)
            return Pointer(newest, {}, newest)
        try:
            content = json.loads(self.file.read_bytes())
            check_format(self.file, content["format"])
            redo = {int(parent): int(child) for parent, child in content["redo"].items()}
            return Pointer(int(content["current"]), redo, int(content["given"]))
        except UnknownFormat:
            raise
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CorruptRecord(
                f"{self.file} is damaged, so which edit was current is lost; the edits are all there: {self._way_out()}"
            ) from error

    def _stage(self, number: int) -> str:
        return f"edits/{number:03}"

    def _name(self, number: int) -> str:
        return f"{self._stage(number)}.safetensors"

    def _way_out(self) -> str:
        there = ", ".join(map(str, [PHOTO, *self.files.edits()]))
        return f"choose one with `photodrag goto {self.files.path} N` ({there})"


def in_tree_order(entries: Sequence[Entry]) -> Iterator[tuple[Entry, int]]:
    """Each edit before those that stand on it, with its depth: 1 on the photo, or where its parent is not known."""
    numbers = {entry.number for entry in entries}

    def above(number: int, depth: int) -> Iterator[tuple[Entry, int]]:
        for entry in entries:
            if (entry.parent if entry.parent in numbers else PHOTO) == number:
                yield entry, depth
                yield from above(entry.number, depth + 1)

    yield from above(PHOTO, 1)


def told(number: int) -> str:
    """An edit's name in a sentence."""
    return "the photo" if number == PHOTO else f"edit {number}"
