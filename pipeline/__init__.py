"""The whole way, from a photo's file to an edited photo."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.config import Config
    from pipeline.edits import Anchor, Edit, Layer, Outcome
    from pipeline.folder import SessionFolder, StaleResult
    from pipeline.history import Entry, History, NoSuchEdit
    from pipeline.lock import SessionBusy
    from pipeline.progress import Step, finish, keep_last
    from pipeline.record import CorruptRecord, NotWritten, Record, UnknownFormat, read_record, write_record
    from pipeline.session import EditSession, Inversion

# Imported when first asked for: `photodrag --help` needs none of it, and torch takes seconds.
_HOME = {
    "config": ["Config"],
    "edits": ["Anchor", "Edit", "Layer", "Outcome"],
    "folder": ["SessionFolder", "StaleResult"],
    "history": ["Entry", "History", "NoSuchEdit"],
    "lock": ["SessionBusy"],
    "progress": ["Step", "finish", "keep_last"],
    "record": ["CorruptRecord", "NotWritten", "Record", "UnknownFormat", "read_record", "write_record"],
    "session": ["EditSession", "Inversion"],
}
__all__ = [
    "Anchor", "Config", "CorruptRecord", "Edit", "EditSession", "Entry", "History", "Inversion", "Layer",
    "NoSuchEdit", "NotWritten", "Outcome", "Record", "SessionBusy", "SessionFolder", "StaleResult", "Step",
    "UnknownFormat", "finish", "keep_last", "read_record", "write_record",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    for module, names in _HOME.items():
        if name in names:
            return getattr(import_module(f"pipeline.{module}"), name)
    raise AttributeError(f"module 'pipeline' has no attribute {name!r}")
