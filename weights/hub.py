"""Files of weights: found in the cache or fetched, their sha256 checked before anybody opens them; and written."""

from __future__ import annotations

import hashlib
import os
import shutil
import urllib.request
from pathlib import Path

from platformdirs import user_cache_path
from safetensors.torch import save_file
from torch import Tensor

from weights.registry import KnownFile


class WeightsMissing(FileNotFoundError):
    """A file of weights is neither here nor can it be fetched."""


class WeightsCorrupt(ValueError):
    """A file of weights is not what it should be."""


def cache_folder() -> Path:
    """Where fetched files are kept; PHOTODRAG_CACHE moves it."""
    return Path(os.environ.get("PHOTODRAG_CACHE") or user_cache_path("photodrag"))


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fetch(known: KnownFile, *, also_in: tuple[Path, ...] = (), offline: bool = False) -> Path:
    """The file's path, from the cache, from one of the folders `also_in`, or from its url.

    Raises WeightsMissing when it is nowhere, WeightsCorrupt when what is there or what came has another sha256.
    """
    target = cache_folder() / known.name
    for path in (target, *(folder / known.name for folder in also_in)):
        if path.is_file():
            return _checked(path, known)
    if offline:
        raise WeightsMissing(f"{known.name} is not in the cache: get it from {known.url} and put it at {target}")
    return _download(known, target)


def _download(known: KnownFile, target: Path) -> Path:
    partial = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with urllib.request.urlopen(known.url, timeout=30) as answer, partial.open("wb") as file:
            shutil.copyfileobj(answer, file)
        _checked(partial, known)
        partial.replace(target)
    except WeightsCorrupt:
        raise
    except OSError as error:
        raise WeightsMissing(
            f"{known.name} could not be fetched from {known.url} ({error}): try again, or put it at {target}"
        ) from error
    finally:
        partial.unlink(missing_ok=True)
    return target


def _checked(path: Path, known: KnownFile) -> Path:
    found = sha256_of(path)
    if not found.startswith(known.sha256):
        raise WeightsCorrupt(
            f"{path} has sha256 {found[:12]}..., {known.name} should have {known.sha256[:12]}: "
            "remove it, so that it is fetched again"
        )
    return path


def write_tensors(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    """A safetensors file, all or nothing: a stop in the middle leaves the old one."""
    partial = path.with_name(path.name + ".part")
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, partial, metadata)
    partial.replace(path)
