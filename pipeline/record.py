"""A result on disk: one safetensors file that knows its settings and what it was made from.

The header's metadata holds four strings: `kind`, `format`, `settings` (JSON) and `made_from` (JSON: the name of
each input and the sha256 of its bytes). A file is replaced as a whole or not at all.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError, safe_open

FORMAT = "2"
READABLE = ("1", "2")  # in format 1 an edit said less about itself: pipeline/edits.py fills in what it can


class CorruptRecord(ValueError):
    """A record cannot be read, or is of another kind or format."""


class UnknownFormat(CorruptRecord):
    """A file of a format that this version does not know; a newer one wrote it."""


class NotWritten(OSError):
    """A result could not be written; what was there before still is."""


@dataclass(frozen=True)
class Record:
    """What one stage left: arrays, the settings they were made with, and the sha256 of each input."""

    kind: str
    arrays: Mapping[str, np.ndarray]
    settings: Mapping[str, Any] = field(default_factory=dict)
    made_from: Mapping[str, str] = field(default_factory=dict)
    format: str = FORMAT


def write_record(path: Path, record: Record, *, durable: bool = True) -> None:
    """Writes the record beside `path`, then moves it there. Raises NotWritten, leaving what was there.

    What is not `durable` outlives this process, but not a power cut; it is written many times faster.
    """
    metadata = {
        "kind": record.kind,
        "format": FORMAT,
        "settings": json.dumps(record.settings),
        "made_from": json.dumps(record.made_from),
    }
    arrays = {name: np.ascontiguousarray(array) for name, array in record.arrays.items()}
    write_atomically(path, safetensors.numpy.save(arrays, metadata), durable=durable)


def write_atomically(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Replaces a file's content as a whole. Raises NotWritten, leaving what was there."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        raise NotWritten(
            f"{path} could not be written ({error.strerror or error}): what was there is unchanged; "
            "free some space or choose another folder"
        ) from error
    finally:
        partial.unlink(missing_ok=True)


def read_record(path: Path, kind: str) -> Record:
    """Reads a record of that kind. Raises FileNotFoundError, or CorruptRecord with what to do."""
    try:
        with safe_open(path, "np") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        found, version = metadata["kind"], metadata["format"]
        settings, made_from = json.loads(metadata["settings"]), json.loads(metadata["made_from"])
    except (SafetensorError, KeyError, ValueError) as error:
        raise CorruptRecord(f"{path} is damaged ({error}): run the stage that made it again") from error
    check_format(path, version)
    if found != kind:
        raise CorruptRecord(f"{path} is a {found} record, not a {kind}: run the stage that makes it again")
    return Record(kind, arrays, settings, made_from, version)


def check_format(path: Path, version: object) -> None:
    """Raises UnknownFormat unless this version can read it."""
    if version not in READABLE:
        raise UnknownFormat(
            f"{path} is of format {version}, this photodrag reads {' and '.join(READABLE)}: "
            "use the newer version that wrote it"
        )
