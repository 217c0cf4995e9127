"""What a photo's file says besides its pixels: EXIF, kept but for what an edit makes untrue, and XMP, to which an edit
adds that a generator had a hand in it.
"""

from __future__ import annotations

import struct
from xml.dom import minidom
from xml.parsers.expat import ExpatError

from PIL import Image

ORIENTATION = 0x0112  # the EXIF tag
EXIF_START = b"Exif\0\0"  # stands before EXIF in JPEG and HEIC, not in PNG

# Where a picture was edited by a trained generator and pasted into a real photo, IPTC asks for this word.
# https://cv.iptc.org/newscodes/digitalsourcetype/
SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
IPTC_EXT = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
# XMP that an upright copy would make wrong: it is no longer turned, and what these point to is not in it.
STALE_XMP = [
    ("http://ns.adobe.com/tiff/1.0/", "Orientation"),
    ("http://ns.adobe.com/xap/1.0/", "Thumbnails"),
    ("http://ns.adobe.com/xmp/note/", "HasExtendedXMP"),
    ("http://ns.adobe.com/hdr-gain-map/1.0/", "Version"),
    ("http://ns.google.com/photos/1.0/container/", "Directory"),
]
NEW_XMP = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
    f'<rdf:RDF xmlns:rdf="{RDF}"/></x:xmpmeta><?xpacket end="w"?>'
).encode()


def read_orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(ORIENTATION, 1)
    except (
        SyntaxError,
        ValueError,
        TypeError,
        KeyError,
        struct.error,
    ):  # EXIF in disorder: as if there were none
        return 1


def read_exif(image: Image.Image) -> bytes | None:
    if "Raw profile type exif" in image.info:  # as text, in old PNGs
        return image.getexif().tobytes()
    return image.info.get("exif")


def clean_exif(exif: bytes | None) -> bytes | None:
    """The TIFF block, with orientation 1 and no thumbnail; None if it is in disorder.

    Changed in place and not written anew, because makers' notes count on where things are.
    """
    tiff = bytearray((exif or b"").removeprefix(EXIF_START))
    order = {b"II": "<", b"MM": ">"}.get(bytes(tiff[:2]))
    if order is None:
        return None
    try:
        (first,) = struct.unpack_from(order + "I", tiff, 4)
        tags, end = _directory(tiff, order, first)
        if ORIENTATION in tags:
            struct.pack_into(order + "H", tiff, tags[ORIENTATION], 1)
        _drop_thumbnail(tiff, order, end)
    except struct.error:
        return None
    return bytes(tiff)


def _directory(tiff: bytearray, order: str, start: int) -> tuple[dict[int, int], int]:
    """The place of each tag's value, and that of the pointer to the next directory."""
    (count,) = struct.unpack_from(order + "H", tiff, start)
    entries = range(start + 2, start + 2 + 12 * count, 12)
    return {struct.unpack_from(order + "H", tiff, at)[0]: at + 8 for at in entries}, start + 2 + 12 * count


def _drop_thumbnail(tiff: bytearray, order: str, pointer: int) -> None:
    """Cuts off the second directory, which is the thumbnail's, and blanks the thumbnail."""
    (second,) = struct.unpack_from(order + "I", tiff, pointer)
    if not second:
        return
    tags, _ = _directory(tiff, order, second)
    if 0x0201 in tags and 0x0202 in tags:
        start, size = (struct.unpack_from(order + "I", tiff, tags[tag])[0] for tag in (0x0201, 0x0202))
        tiff[start : start + size] = bytes(len(tiff[start : start + size]))
    struct.pack_into(order + "I", tiff, pointer, 0)


def xmp_packet(xmp: bytes | None, edited: bool) -> bytes | None:
    """The photo's XMP, without what is no longer true of it, and with the source type if it was edited."""
    document = _parse_xmp(xmp)
    if document is None:
        if not edited:
            return None
        document = minidom.parseString(NEW_XMP)
    for name in STALE_XMP:
        _remove_property(document, *name)
    if edited:
        _remove_property(document, IPTC_EXT, "DigitalSourceType")
        _add_source_type(document)
    return "".join(node.toxml() for node in document.childNodes).encode()


def _parse_xmp(xmp: bytes | None) -> minidom.Document | None:
    if not xmp or b"<!DOCTYPE" in xmp:  # XMP has none, and entities could make it grow without end
        return None
    try:
        document = minidom.parseString(xmp.strip(b"\0 \r\n\t"))
    except (ExpatError, ValueError):
        return None
    return document if document.getElementsByTagNameNS(RDF, "RDF") else None


def _remove_property(document: minidom.Document, namespace: str, name: str) -> None:
    """XMP keeps a property as an attribute or as a child of any rdf:Description."""
    for description in document.getElementsByTagNameNS(RDF, "Description"):
        if description.hasAttributeNS(namespace, name):
            description.removeAttributeNS(namespace, name)
        for child in list(description.childNodes):
            if (child.namespaceURI, child.localName) == (namespace, name):
                description.removeChild(child)


def _add_source_type(document: minidom.Document) -> None:
    root = document.getElementsByTagNameNS(RDF, "RDF")[0]
    about = [d.getAttributeNS(RDF, "about") for d in root.getElementsByTagNameNS(RDF, "Description")]
    prefix = f"{root.prefix}:" if root.prefix else ""
    description = document.createElementNS(RDF, f"{prefix}Description")
    description.setAttribute(f"{prefix}about", about[0] if about else "")
    description.setAttribute("xmlns:Iptc4xmpExt", IPTC_EXT)
    description.setAttribute("Iptc4xmpExt:DigitalSourceType", SOURCE_TYPE)
    root.appendChild(description)
