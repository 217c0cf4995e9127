"""What is known about each file that photodrag may fetch: read from known.toml, which is data and no code."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Alignment = Literal["face", "square", "none"]


@dataclass(frozen=True)
class KnownFile:
    """A file on somebody's server. `sha256` may be a prefix, where only that is published, or empty."""

    name: str
    url: str
    sha256: str
    licence: str
    file: str = ""  # its name in the cache, where it is not `name`
    bytes: int = 0  # exactly, 0 where nobody says
    about: str = ""  # how large it is about
    resolution: int = 0
    domain: str = ""
    alignment: Alignment | None = None
    kind: Literal["generator", "other"] = "generator"
    manual: bool = False  # to be had with a browser only

    @property
    def file_name(self) -> str:
        return self.file or self.name

    @property
    def size(self) -> str:
        """For people to read."""
        return f"{self.bytes / 1e6:.0f} MB" if self.bytes else f"about {self.about}" if self.about else "size unknown"


def _read() -> dict[str, KnownFile]:
    tables = tomllib.loads((Path(__file__).parent / "known.toml").read_text("utf-8"))
    defaults = tables.pop("defaults")
    known = {}
    for name, table in tables.items():
        fields = defaults.get(table.pop("like", ""), {}) | {"sha256": "", "file": table["url"].rsplit("/", 1)[1]}
        known[name] = KnownFile(name, **fields | table)
    return known


KNOWN = _read()
LPIPS_TRUNKS = {net: KNOWN[f"lpips-{net}"] for net in ("alex", "vgg", "squeeze")}
