"""The whole way, from a photo's file to an edited photo."""

from pipeline.config import Config
from pipeline.folder import SessionFolder, StaleResult
from pipeline.progress import Step, finish, keep_last
from pipeline.record import CorruptRecord, NotWritten, Record, read_record, write_record
from pipeline.session import Edit, EditSession, Inversion

__all__ = [
    "Config", "CorruptRecord", "Edit", "EditSession", "Inversion", "NotWritten", "Record", "SessionFolder",
    "StaleResult", "Step", "finish", "keep_last", "read_record", "write_record",
]  # fmt: skip
