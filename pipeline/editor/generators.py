"""The generators that a page lets one choose from, and their download: it can be watched, and left at any time."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from weights import KNOWN, KnownFile, cached, generator_file, imported

T = TypeVar("T")


@dataclass(frozen=True)
class Offer:
    """A generator to choose."""

    name: str
    about: str = ""  # what it draws, and how large
    size: str = ""  # of its download; nothing where it is here
    licence: str = ""


def default_names() -> list[str]:
    """The embedded generator, those that were imported, and known ones of faces."""
    known = [known.name for known in KNOWN.values() if known.alignment == "face" and not known.manual]
    return list(dict.fromkeys(["embedded", *imported(), *known]))


def offers(names: Sequence[str]) -> list[Offer]:
    return [_offer(name) for name in names]


def _offer(name: str) -> Offer:
    known = KNOWN.get(name)
    if known is None or known.kind != "generator":
        return Offer(name)
    about = f"{known.domain}, {known.resolution} px" if known.resolution else known.domain
    return Offer(name, about, known.size if to_fetch(name) else "", known.licence)


def to_fetch(name: str) -> KnownFile | None:
    """What has to be downloaded before that generator can be used."""
    known = KNOWN.get(name)
    if known is None or known.kind != "generator" or generator_file(name).is_file() or cached(known).is_file():
        return None
    return known


def polled(items: Iterator[T], every: float = 0.2) -> Iterator[T | None]:
    """The items, and None wherever none came for `every` seconds: whoever waits for the network can be stopped.

    When this is closed, the items are left at the next one.
    """
    news: queue.Queue[T | Exception | None] = queue.Queue()
    left = threading.Event()

    def receive() -> None:
        try:
            for item in items:
                news.put(item)
                if left.is_set():
                    break
            news.put(None)
        except Exception as error:
            news.put(error)

    threading.Thread(target=receive, name="download", daemon=True).start()
    try:
        while True:
            try:
                item = news.get(timeout=every)
            except queue.Empty:
                yield None
                continue
            if item is None:
                return
            if isinstance(item, Exception):
                raise item
            yield item
    finally:
        left.set()
