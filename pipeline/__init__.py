"""The whole way, from a photo's file to an edited photo."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.config import Config
    from pipeline.folder import SessionFolder, StaleResult
    from pipeline.progress import Step, finish, keep_last
    from pipeline.record import CorruptRecord, NotWritten, Record, read_record, write_record
    from pipeline.session import Edit, EditSession, Inversion

# Imported when first asked for: `photodrag --help` needs none of it, and torch takes seconds.
_HOME = {
    "config": ["Config"],
    "folder": ["SessionFolder", "StaleResult"],
    "progress": ["Step", "finish", "keep_last"],
    "record": ["CorruptRecord", "NotWritten", "Record", "read_record", "write_record"],
    "session": ["Edit", "EditSession", "Inversion"],
}
__all__ = [
    "Config", "CorruptRecord", "Edit", "EditSession", "Inversion", "NotWritten", "Record", "SessionFolder",
    "StaleResult", "Step", "finish", "keep_last", "read_record", "write_record",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    for module, names in _HOME.items():
        if name in names:
            return getattr(import_module(f"pipeline.{module}"), name)
    raise AttributeError(f"module 'pipeline' has no attribute {name!r}")
