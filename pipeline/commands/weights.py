"""`photodrag weights`: the generators there are, fetching known ones, importing other people's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from tqdm import tqdm

from pipeline.commands.common import say
from weights import (
    KNOWN,
    KnownFile,
    WeightsMissing,
    cache_folder,
    cached,
    check,
    download,
    find_generator,
    generator_file,
    import_generator,
    imported,
    metadata_of,
    remove,
    verify_generator,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class List:
    """Lists the generators that are here, and the known files that can be fetched."""

    def run(self) -> None:
        size = f"{metadata_of(find_generator('embedded'))['img_resolution']} px"
        rows = [("embedded", "here", size, "faces", "comes with photodrag")]
        rows += [_row(name) for name in imported() if name not in KNOWN]
        rows += [_known_row(known) for known in KNOWN.values()]
        widths = [max(len(row[column]) for row in rows) for column in range(4)]
        for *cells, last in rows:
            say("  ".join(f"{cell:{width}}" for cell, width in zip(cells, widths, strict=True)) + f"  {last}")
        say("\nphotodrag weights fetch NAME, or import FILE --name NAME; then --generator NAME.")


def _row(name: str) -> tuple[str, str, str, str, str]:
    facts = metadata_of(generator_file(name))
    return name, "here", f"{facts.get('img_resolution', '?')} px", facts.get("domain", ""), facts.get("family", "")


def _known_row(known: KnownFile) -> tuple[str, str, str, str, str]:
    here = generator_file(known.name).is_file() or cached(known).is_file()
    state = "here" if here else "by browser" if known.manual else known.size.removeprefix("about ")
    return known.name, state, f"{known.resolution} px" if known.resolution else "", known.domain, known.licence


@dataclass(frozen=True, kw_only=True)
class Show:
    """Tells all that is known about one: size, licence, where it comes from, how its pictures were cut."""

    name: tyro.conf.Positional[str]

    def run(self) -> None:
        known = KNOWN.get(self.name)
        facts = {}
        if known:
            facts = {
                "url": known.url, "size": known.size, "licence": known.licence, "domain": known.domain,
                "resolution": f"{known.resolution} px" if known.resolution else "",
                "alignment": known.alignment or "",
                "sha256": known.sha256 or "not published; the first download's is kept and checked from then on",
            }  # fmt: skip
        if known is None or generator_file(self.name).is_file():
            path = find_generator(self.name)
            facts |= {"file": str(path)} | metadata_of(path)
        for key, value in facts.items():
            if value:
                say(f"{key}: {value}")


@dataclass(frozen=True, kw_only=True)
class Fetch:
    """Downloads a known file into the cache, and imports it if it is a generator. A broken one goes on."""

    name: tyro.conf.Positional[str]
    """As `photodrag weights list` shows it."""
    offline: bool = False
    """Only look whether it is here."""

    def run(self) -> None:
        known = _known(self.name)
        say(f"{known.name}: {known.size}, {known.licence}")
        if known.kind == "generator" and generator_file(known.name).is_file():
            say(f"{generator_file(known.name)}: here already")
            return
        if not cached(known).is_file():
            self._download(known)
        path = check(cached(known), known)
        if known.kind == "generator":
            path = find_generator(known.name)
            say(f"imported: use it with --generator {known.name}")
        say(f"{path}: here")

    def _download(self, known: KnownFile) -> None:
        steps = download(known, offline=self.offline)
        first = next(steps, None)  # what can't be fetched is told before there is a bar
        if first is None:
            return  # another process had it by then
        with tqdm(desc=known.name, unit="B", unit_scale=True, total=first.limit, initial=first.index) as bar:
            for received in steps:
                bar.total = received.limit
                bar.update(max(received.index - bar.n, 0))


@dataclass(frozen=True, kw_only=True)
class Import:
    """Converts a checkpoint (.pkl, .pt, .safetensors) once, without running anything of it; then its name is enough."""

    file: tyro.conf.Positional[Path]
    """A StyleGAN2: NVIDIA's pickles, PTI's tuned .pt, rosinality's .pt, photodrag's own."""
    name: str
    """What to call it: then --generator NAME."""
    overwrite: bool = False
    """Replace the one of that name."""

    def run(self) -> None:
        path = import_generator(self.file, self.name, overwrite=self.overwrite)
        facts = metadata_of(path)
        say(f"{facts.get('family', 'photodrag')}, {facts['img_resolution']} px -> {path}")
        say(f"use it with --generator {self.name}")


@dataclass(frozen=True, kw_only=True)
class Verify:
    """Checks the files in the cache against their sha256; all of them, or one."""

    name: tyro.conf.Positional[str | None] = None

    def run(self) -> None:
        names = [self.name] if self.name else [*KNOWN, *(name for name in imported() if name not in KNOWN)]
        checked = [path for name in names for path in _verified(name)]
        if self.name and not checked:
            raise WeightsMissing(f"{self.name} is not in the cache: `photodrag weights list` shows what is")
        for path in checked:
            say(f"{path}: as it should be")
        if not checked:
            say("nothing is in the cache")


def _verified(name: str) -> list[Path]:
    paths = []
    if name in KNOWN and cached(KNOWN[name]).is_file():
        paths.append(check(cached(KNOWN[name]), KNOWN[name]))
    if name in imported():
        verify_generator(name)
        paths.append(generator_file(name))
    return paths


@dataclass(frozen=True, kw_only=True)
class Remove:
    """Removes a generator, its download and what was left of a broken one from the cache."""

    name: tyro.conf.Positional[str]

    def run(self) -> None:
        removed = remove(self.name)
        if not removed:
            raise WeightsMissing(f"{self.name} is not in the cache: `photodrag weights list` shows what is")
        for path in removed:
            say(f"{path}: removed")


@dataclass(frozen=True, kw_only=True)
class Where:
    """Prints the cache's folder (PHOTODRAG_CACHE moves it), or the file of one."""

    name: tyro.conf.Positional[str | None] = None

    def run(self) -> None:
        if self.name is None:
            say(str(cache_folder()))
        elif self.name in KNOWN and KNOWN[self.name].kind == "other":
            say(str(cached(KNOWN[self.name])))
        else:
            say(str(find_generator(self.name)))


def _known(name: str) -> KnownFile:
    if name not in KNOWN:
        raise WeightsMissing(f'no file "{name}" is known: `photodrag weights list` shows those that are')
    return KNOWN[name]


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Generators and other weights: lists, fetches, imports, verifies and removes them."""

    command: Annotated[
        Annotated[List, tyro.conf.subcommand("list")]
        | Annotated[Show, tyro.conf.subcommand("show")]
        | Annotated[Fetch, tyro.conf.subcommand("fetch")]
        | Annotated[Import, tyro.conf.subcommand("import")]
        | Annotated[Verify, tyro.conf.subcommand("verify")]
        | Annotated[Remove, tyro.conf.subcommand("remove")]
        | Annotated[Where, tyro.conf.subcommand("where")],
        tyro.conf.arg(name=""),
    ]

    def run(self) -> None:
        self.command.run()
