"""Files of weights: found in the cache or fetched, their sha256 checked before anybody opens them; and written.

A download is kept as `NAME.part` until it is whole, so that the next try goes on where the last one broke off; one
process at a time writes it. What turns out to be another file is set aside as `NAME.rejected`, never used.
"""

from __future__ import annotations

import errno
import hashlib
import http.client
import logging
import os
import shutil
import socket
import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock
from platformdirs import user_cache_path
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from weights.registry import KnownFile

CHUNK = 1 << 20
WAITS = (1.0, 2.0, 4.0, 8.0)  # seconds before each further try
TIMEOUT = 30.0  # seconds without a byte
log = logging.getLogger(__name__)


class WeightsMissing(FileNotFoundError):
    """A file of weights is neither here nor can it be fetched."""


class WeightsCorrupt(ValueError):
    """A file of weights is not what it should be."""


class NotSaved(OSError):
    """A file of weights could not be written; what was there before still is."""


class _Broken(OSError):
    """A download broke off, and may go on."""


@dataclass(frozen=True)
class Received:
    """How far a download has come, in bytes; `limit` is None where the server doesn't say."""

    index: int
    limit: int | None


def cache_folder() -> Path:
    """Where fetched files are kept; PHOTODRAG_CACHE moves it."""
    return Path(os.environ.get("PHOTODRAG_CACHE") or user_cache_path("photodrag"))


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cached(known: KnownFile) -> Path:
    """Where the file is, or would be."""
    return cache_folder() / known.file_name


def fetch(known: KnownFile, *, also_in: tuple[Path, ...] = (), offline: bool = False) -> Path:
    """The file's path, from the cache, from one of the folders `also_in`, or from its url.

    Raises WeightsMissing when it is nowhere, WeightsCorrupt when what is there or what came has another sha256.
    """
    for folder in (cache_folder(), *also_in):
        if (folder / known.file_name).is_file():
            return check(folder / known.file_name, known)
    if not offline:
        log.info("fetching %s: %s, %s", known.name, known.size, known.licence)
    deque(download(known, offline=offline), maxlen=0)
    return cached(known)


def download(known: KnownFile, *, offline: bool = False, waits: tuple[float, ...] = WAITS) -> Iterator[Received]:
    """Downloads a file into the cache, checked; it is there when this ends. Raises as `fetch` does."""
    target = cached(known)
    if known.manual:
        raise WeightsMissing(
            f"{known.name} can be had with a browser only: open {known.url} and save it, "
            f"then `photodrag weights import FILE --name {known.name}`"
        )
    if offline:
        raise WeightsMissing(f"{known.name} is not in the cache: get it from {known.url} and put it at {target}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_name(f"{target.name}.lock")):
            if not target.is_file():  # another process may have fetched it while this one waited
                yield from _download(known, target, waits)
    except OSError as error:
        if isinstance(error, WeightsMissing):
            raise
        room = "there is no room on its disk" if error.errno == errno.ENOSPC else str(error)
        raise WeightsMissing(
            f"{known.name} could not be fetched from {known.url} ({room}): try again, it goes on where it stopped; "
            f"or put the file at {target}"
        ) from error


def _download(known: KnownFile, target: Path, waits: tuple[float, ...]) -> Iterator[Received]:
    partial = target.with_name(f"{target.name}.part")
    for wait in (*waits, None):
        try:
            yield from _receive(known, partial)
            break
        except _Broken as error:
            if wait is None:
                raise
            log.info("%s: %s; again in %g s", known.name, error, wait)
            time.sleep(wait)
    _tag(partial).unlink(missing_ok=True)
    check(partial, known, target)
    partial.replace(target)


def _receive(known: KnownFile, partial: Path) -> Iterator[Received]:
    """One connection: what is missing of the file, or all of it where the server can't go on or has another by now."""
    have, tag = partial.stat().st_size if partial.is_file() else 0, _tag(partial)
    request = urllib.request.Request(known.url, headers={"User-Agent": "photodrag"})
    if have and tag.is_file():
        request.add_header("Range", f"bytes={have}-")
        request.add_header("If-Range", tag.read_text())
    with _open(request) as answer:
        goes_on = answer.status == http.HTTPStatus.PARTIAL_CONTENT
        have = have if goes_on else 0
        rest = answer.headers.get("Content-Length")
        total = have + int(rest) if rest and rest.isdigit() else None
        _check_answer(known, answer, total)
        if total is not None and shutil.disk_usage(partial.parent).free < total - have:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if not goes_on:
            tag.write_text(answer.headers.get("ETag") or answer.headers.get("Last-Modified") or "*")
        with partial.open("ab" if goes_on else "wb") as file:
            for now in _copy(answer, file, have):
                have = now
                yield Received(have, total)
        if total is not None and have < total:
            raise _Broken(f"the server stopped after {have:,} of {total:,} bytes")
        if total is None:
            yield Received(have, None)


def _open(request: urllib.request.Request) -> http.client.HTTPResponse:
    try:
        answer: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=TIMEOUT)
        return answer
    except urllib.error.HTTPError as error:
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            request.remove_header("Range")
            request.remove_header("If-range")
            return _open(request)
        if error.code >= 500 or error.code in (http.HTTPStatus.REQUEST_TIMEOUT, http.HTTPStatus.TOO_MANY_REQUESTS):
            raise _Broken(f"the server says {error.code} {error.reason}") from error
        raise
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
        if isinstance(getattr(error, "reason", None), socket.gaierror):
            raise OSError("there is no network, or no such server") from error  # asking again would not help
        raise _Broken(str(getattr(error, "reason", error)) or type(error).__name__) from error


def _check_answer(known: KnownFile, answer: http.client.HTTPResponse, total: int | None) -> None:
    if answer.headers.get_content_type() == "text/html":
        raise WeightsCorrupt(f"{known.url} gave a web page instead of {known.name}: open it in a browser to see why")
    if known.bytes and total not in (None, known.bytes):
        raise WeightsCorrupt(
            f"{known.url} has {total:,} bytes, {known.name} should have {known.bytes:,}: another file, not fetched"
        )


def _copy(answer: http.client.HTTPResponse, file: BinaryIO, have: int) -> Iterator[int]:
    """Yields how much the file has; a connection that ends early just ends."""
    while True:
        try:
            chunk = answer.read(CHUNK)
        except (http.client.HTTPException, TimeoutError, ConnectionError) as error:
            file.write(error.partial if isinstance(error, http.client.IncompleteRead) else b"")
            raise _Broken(f"the connection broke ({type(error).__name__})") from error
        if not chunk:
            return
        file.write(chunk)
        have += len(chunk)
        yield have


def _tag(partial: Path) -> Path:
    """Beside a part: by what name the server calls this version of the file."""
    return partial.with_name(f"{partial.name}.tag")


def check(path: Path, known: KnownFile, target: Path | None = None) -> Path:
    """The path, if it is the known file. A sum that nobody published is kept the first time, and compared from then on.

    Raises WeightsCorrupt, and sets a file of ours aside.
    """
    found, record = sha256_of(path), (target or path).with_name(f"{(target or path).name}.sha256")
    wanted = known.sha256 or (record.read_text().strip() if record.is_file() else "")
    if not wanted:
        record.write_text(found + "\n")
        log.info("%s: nobody published its sha256; %s... is kept, and checked from now on", known.name, found[:12])
    elif not found.startswith(wanted):
        told = f"has sha256 {found[:12]}..., {known.name} should have {wanted[:12]}"
        if path.parent != cache_folder():
            raise WeightsCorrupt(f"{path} {told}: remove it, so that it is fetched again")
        aside = cache_folder() / f"{known.file_name}.rejected"
        path.replace(aside)
        raise WeightsCorrupt(f"{path} {told}: it is set aside as {aside}, and not used. Fetch it again")
    return path


def write_tensors(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    """A safetensors file, all or nothing: a stop in the middle leaves the old one. Raises NotSaved."""
    partial = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, partial, metadata)
        partial.replace(path)
    except (OSError, SafetensorError) as error:
        partial.unlink(missing_ok=True)
        raise NotSaved(
            f"{path} could not be written ({error}): free some space, or move the cache with PHOTODRAG_CACHE"
        ) from error
