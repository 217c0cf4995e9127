"""Generators by name: the embedded one, imported ones, and files. A pickle is opened once, then never again."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import safetensors
import torch
from filelock import FileLock
from safetensors import SafetensorError

from weights.checkpoints import read_checkpoint
from weights.encoder import encoder_path
from weights.generator import EMBEDDED, Generator, read_generator, save_generator
from weights.hub import NotSaved, WeightsCorrupt, WeightsMissing, cache_folder, cached, check, sha256_of
from weights.registry import KNOWN, KnownFile

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class BadName(ValueError):
    """A generator cannot be called that."""


def load_generator(name_or_path: str | Path = "embedded", device: torch.device | str = "cpu") -> Generator:
    """The embedded generator, an imported one by its name, or one from a file: .safetensors of ours, .pkl or .pt.

    Raises WeightsMissing where there is no such file, WeightsCorrupt where it holds no StyleGAN2 that we know, or the
    encoder beside it is another generator's.
    """
    return read_generator(find_generator(str(name_or_path)), str(name_or_path), device)


def find_generator(name_or_path: str) -> Path:
    """The safetensors file of a generator. What another program wrote is converted the first time it is asked for."""
    if name_or_path == "embedded":
        return EMBEDDED
    path = Path(name_or_path)
    if NAME.fullmatch(name_or_path) and generator_file(name_or_path).is_file():
        return generator_file(name_or_path)
    if path.is_file():
        return path if is_ours(path) else _converted(path)
    known = KNOWN.get(name_or_path)
    if known and known.kind == "generator":
        if cached(known).is_file():
            return import_generator(check(cached(known), known), known.name, overwrite=True)
        raise WeightsMissing(
            f"{known.name} is not here yet: run `photodrag weights fetch {known.name}` ({known.size}, {known.licence})"
        )
    here = ", ".join(['"embedded"', *imported()])
    raise WeightsMissing(
        f'no generator "{name_or_path}": say one of {here}, the path of a .safetensors, .pkl or .pt file, '
        "or fetch one that `photodrag weights list` shows"
    )


def generators_folder() -> Path:
    return cache_folder() / "generators"


def generator_file(name: str) -> Path:
    return generators_folder() / f"{name}.safetensors"


def imported() -> list[str]:
    """The names of the imported generators."""
    files = generators_folder().glob("*.safetensors")
    return sorted(path.stem for path in files if not path.stem.endswith("-encoder"))


def is_ours(path: Path) -> bool:
    """Whether a file is of safetensors, by its first bytes: the header's length and a brace."""
    with path.open("rb") as file:
        return file.read(9)[8:] == b"{"


def import_generator(path: Path, name: str, *, overwrite: bool = False) -> Path:
    """Converts a checkpoint to safetensors in the cache, where `name` finds it from then on.

    Raises BadName where that can't be a name or is taken; WeightsMissing, WeightsCorrupt as `read_checkpoint` does.
    """
    if not NAME.fullmatch(name) or name == "embedded" or name.endswith(("-encoder", ".safetensors", ".pkl", ".pt")):
        raise BadName(f'"{name}" is no name for a generator: letters, digits, ".", "-" and "_", as in my-cats')
    if not path.is_file():
        raise WeightsMissing(f"there is no file {path}")
    if generator_file(name).is_file() and not overwrite:
        raise BadName(f"there is a {name} already ({generator_file(name)}): take another --name, or --overwrite")
    known = KNOWN.get(name)
    if known and known.sha256 and not is_ours(path) and not sha256_of(path).startswith(known.sha256):
        raise WeightsCorrupt(
            f"{path} is not the {name} that is known (sha256 {known.sha256[:12]}...): take another --name for it"
        )
    return _convert(path, generator_file(name), known)


def _converted(path: Path) -> Path:
    """A pickle's safetensors file in the cache, known by the pickle's sum."""
    target = generators_folder() / "converted" / f"{sha256_of(path)}.safetensors"
    return target if target.is_file() else _convert(path, target, None)


def _convert(path: Path, target: Path, known: KnownFile | None) -> Path:
    """Brings a checkpoint into the cache: other people's converted, our own copied as it is, with its encoder."""
    checkpoint = None if is_ours(path) else read_checkpoint(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_name(f"{target.name}.lock")):
            if checkpoint is None:
                _copy(path, target)
            else:
                facts = {"family": checkpoint.family, "source": path.name, "source_sha256": sha256_of(path)}
                if known:
                    facts |= {"alignment": known.alignment or "", "domain": known.domain, "licence": known.licence}
                # In whole precision, so that the picture is the published one.
                save_generator(checkpoint.network, target, torch.float32, facts)
            target.with_suffix(".sha256").write_text(sha256_of(target) + "\n")
    except NotSaved:
        raise
    except OSError as error:
        told = (
            f"{target.parent} cannot be written to ({error}): free some space, or move the cache with PHOTODRAG_CACHE"
        )
        raise NotSaved(told) from error
    return target


def _copy(path: Path, target: Path) -> None:
    read_generator(path, path.name)  # so that only what can be read is taken in
    for source, end in ((encoder_path(path), encoder_path(target)), (path, target)):
        if source.is_file():
            partial = end.with_name(f"{end.name}.part")
            shutil.copyfile(source, partial)
            partial.replace(end)


def metadata_of(path: Path) -> dict[str, str]:
    """What a safetensors file says of itself. Raises WeightsCorrupt."""
    try:
        with safetensors.safe_open(path, "pt") as file:
            return dict(file.metadata() or {})
    except SafetensorError as error:
        raise WeightsCorrupt(f"{path} is damaged ({error}): import it again") from error


def verify_generator(name: str) -> str:
    """The sha256 of an imported generator's file, once it is the one that was written and can be read."""
    path = generator_file(name)
    found, record = sha256_of(path), path.with_suffix(".sha256")
    if record.is_file() and record.read_text().strip() != found:
        raise WeightsCorrupt(f"{path} has changed since it was imported: run `photodrag weights remove {name}`")
    read_generator(path, name)
    return found


def remove(name: str) -> list[Path]:
    """Removes what the cache holds under a name: the generator, the download, what was rejected; what it removed.

    The sum of a download that nobody published is kept, so that the next one is checked against it.
    """
    files = []
    if NAME.fullmatch(name):
        files = [generator_file(name), generator_file(name).with_suffix(".sha256"), encoder_path(generator_file(name))]
    if name in KNOWN:
        download = cached(KNOWN[name])
        files += [download, *(download.with_name(download.name + end) for end in (".part", ".part.tag", ".rejected"))]
    found = [file for file in files if file.is_file()]
    for file in found:
        file.unlink()
    return found
