"""Records: read as written, replaced as a whole, and clear about damage."""

import errno
import os

import numpy as np
import pytest

import pipeline.record
from pipeline import CorruptRecord, NotWritten, Record, UnknownFormat, read_record, write_record

RECORD = Record(
    "pivot",
    {"latent": np.arange(6, dtype=np.float32).reshape(2, 3), "mask": np.array([True, False])},
    {"steps": 3, "space": "w+", "within": None},
    {"face.safetensors": "ab" * 32},
)


def test_a_record_is_read_as_it_was_written(tmp_path) -> None:
    write_record(tmp_path / "a" / "pivot.safetensors", RECORD)
    read = read_record(tmp_path / "a" / "pivot.safetensors", "pivot")
    assert (read.kind, read.settings, read.made_from) == (RECORD.kind, RECORD.settings, RECORD.made_from)
    for name, array in RECORD.arrays.items():
        assert read.arrays[name].dtype == array.dtype and np.array_equal(read.arrays[name], array)
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["pivot.safetensors"]


def test_a_full_disk_leaves_the_old_one(tmp_path, monkeypatch) -> None:
    path = tmp_path / "pivot.safetensors"
    write_record(path, RECORD)
    before = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(NotWritten, match=r"No space left.*unchanged"):
        write_record(path, Record("pivot", {"latent": np.zeros(3)}))
    assert path.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["pivot.safetensors"]


@pytest.mark.parametrize("damage", [lambda data: data[:100], lambda data: b"", lambda data: b"\xff" * 500])
def test_damage_is_named(tmp_path, damage) -> None:
    path = tmp_path / "pivot.safetensors"
    write_record(path, RECORD)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(CorruptRecord, match="run the stage that made it again"):
        read_record(path, "pivot")


def test_another_kind_is_not_taken(tmp_path) -> None:
    write_record(tmp_path / "x.safetensors", RECORD)
    with pytest.raises(CorruptRecord, match="a pivot record, not a face"):
        read_record(tmp_path / "x.safetensors", "face")


def test_older_formats_are_read_and_newer_ones_named(tmp_path, monkeypatch) -> None:
    for version in ("1", "3"):
        monkeypatch.setattr(pipeline.record, "FORMAT", version)
        write_record(tmp_path / f"{version}.safetensors", RECORD)
    assert read_record(tmp_path / "1.safetensors", "pivot").format == "1"
    with pytest.raises(UnknownFormat, match="of format 3, this photodrag reads 1 and 2: use the newer version"):
        read_record(tmp_path / "3.safetensors", "pivot")


def test_what_is_not_durable_is_there_all_the_same(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: pytest.fail("waited for the disk"))
    write_record(tmp_path / "pivot.safetensors", RECORD, durable=False)
    assert read_record(tmp_path / "pivot.safetensors", "pivot").settings == RECORD.settings
