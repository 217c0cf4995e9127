"""What is known about each file that photodrag may fetch: data, no code."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class KnownFile:
    """A file on somebody's server. `sha256` may be a prefix, where only that is published."""

    name: str
    url: str
    sha256: str
    licence: str


# torchvision's ImageNet networks, on which the `lpips` package stands. Their file names end in the first eight
# digits of the sha256; the whole sum is not published.
LPIPS_TRUNKS = {
    net: KnownFile(name, f"https://download.pytorch.org/models/{name}", sha256, "BSD-3-Clause (torchvision)")
    for net, name, sha256 in [
        ("alex", "alexnet-owt-7be5be79.pth", "7be5be79"),
        ("vgg", "vgg16-397923af.pth", "397923af"),
        ("squeeze", "squeezenet1_1-b8a52dc0.pth", "b8a52dc0"),
    ]
}
