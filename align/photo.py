"""A photo: its pixels upright, with all that its file holds besides, so that an edited copy loses nothing.

Arrays are [height, width, channels], upright (EXIF orientation applied), RGB. A file's own samples are kept
beside the 8-bit pixels that detectors and networks see, and edits are made in them: where a pixel was not edited,
a lossless format gets back exactly what the file held, be it 16 bits, grey or alpha.
"""

from __future__ import annotations

import io
import os
import secrets
import struct
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pillow_heif
from PIL import Image, ImageCms, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

from align.metadata import EXIF_START, clean_exif, read_exif, read_orientation, xmp_packet

MAX_SIDE = 16384  # pixels; such a photo takes 0.8 GB in each of its copies
PNG_LEVEL = 4  # of 9; the usual 6 makes files 1 to 5% smaller and takes 2.5 to 5 times as long
WEBP_EFFORT = 50  # of 100, without loss; 95 makes the same size in three times the time
QUALITY = 95  # of 100, for what was not compressed that way before


class PhotoError(ValueError):
    """A photo or mask that cannot be read, or written as asked."""


@dataclass(frozen=True)
class JpegQuality:
    """How strongly a JPEG was compressed."""

    tables: tuple[tuple[int, ...], ...]  # quantisation tables of 64
    subsampling: int  # 0: 4:4:4, 1: 4:2:2, 2: 4:2:0


@dataclass(frozen=True, eq=False)
class Photo:
    """A photo in memory.

    `exif` is the TIFF block alone, with orientation 1 and without the thumbnail, which would show the photo
    as it was before the edit.
    """

    pixels: np.ndarray  # uint8 [H, W, 3]; alpha is dropped, not blended
    samples: np.ndarray  # uint8 or uint16 [H, W, C]: grey, grey and alpha, RGB or RGBA; palettes are expanded
    format: str  # "JPEG", "PNG", "WEBP" or "HEIF"
    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    jpeg: JpegQuality | None = None
    lossless: bool = True

    @classmethod
    def load(cls, path: str | Path) -> Photo:
        """The photo in a JPEG, PNG, WebP or HEIC file; PhotoError says what is wrong with it."""
        path = Path(path)
        data = _read(path)
        try:
            image = _open(path, data)
            samples, icc = _decode(path, image, data)
        except PhotoError:
            raise
        except (OSError, SyntaxError, ValueError, RuntimeError, EOFError, struct.error) as error:
            raise PhotoError(f"{path.name} is damaged or cut short ({error}): copy it anew") from error
        samples = _upright(samples, read_orientation(image))
        return cls(
            pixels=_rgb8(samples),
            samples=samples,
            format=str(image.format),
            icc=icc,
            exif=clean_exif(read_exif(image)),
            xmp=image.info.get("xmp"),
            jpeg=_jpeg_quality(image),
            lossless=image.format == "PNG" or _is_lossless_webp(data),
        )

    @classmethod
    def peek(cls, path: str | Path) -> tuple[str, int, int]:
        """The format, width and height that a file says of itself; its pixels are not decoded. Raises PhotoError."""
        path = Path(path)
        try:
            image = _open(path, _read(path))
        except (OSError, SyntaxError, ValueError, RuntimeError, EOFError, struct.error) as error:
            if isinstance(error, PhotoError):
                raise
            raise PhotoError(f"{path.name} is damaged or cut short ({error}): copy it anew") from error
        return str(image.format), *image.size

    @property
    def colours(self) -> np.ndarray:
        """The samples without alpha, uint8 or uint16 [H, W, 1 or 3]; not to be written to."""
        colours = _colours(self.samples)
        colours.flags.writeable = False
        return colours

    def with_colours(self, colours: np.ndarray) -> Photo:
        """This photo with other colours, of the kind that `colours` is; alpha stays."""
        assert colours.shape == self.colours.shape and colours.dtype == self.samples.dtype
        samples = self.samples.copy()
        _colours(samples)[...] = colours
        return replace(self, pixels=_rgb8(samples), samples=samples)

    def edited(self, pixels: np.ndarray) -> Photo:
        """This photo with other pixels, uint8 [H, W, 3]: what they do not change stays, to the last bit."""
        assert pixels.shape == self.pixels.shape and pixels.dtype == np.uint8
        change = _like(self.colours, pixels) - _like(self.colours, self.pixels)
        step, top = (257, 65535) if self.samples.dtype == np.uint16 else (1, 255)
        return self.with_colours(np.clip(self.colours + step * change, 0, top).astype(self.samples.dtype))

    def check_output(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Raises PhotoError where `save` would refuse this path; worth knowing before long work."""
        path = Path(path)
        if path.suffix.lower() not in ENCODERS:
            raise PhotoError(f"cannot write {path.name}: give a name that ends in {', '.join(ENCODERS)}")
        if not path.parent.is_dir():
            raise PhotoError(f"there is no folder {path.parent}: make it first, or choose another")
        if path.is_dir():
            raise PhotoError(f"{path} is a folder: give the name of a file in it")
        if path.exists() and not overwrite:
            raise PhotoError(f"{path} exists: choose another name, or give --overwrite")
        if not os.access(path.parent, os.W_OK):
            raise PhotoError(f"{path.parent} may not be written to: choose another folder")

    def save(self, path: str | Path, *, overwrite: bool = False, edited: bool = True) -> None:
        """Writes the file, whole or not at all, in the format that its name ends in.

        The metadata go with it; with `edited` they also say that a generator had a hand in it. JPEG keeps the
        compression that the photo came with and has no alpha.
        """
        path = Path(path)
        self.check_output(path, overwrite=overwrite)
        encode = ENCODERS[path.suffix.lower()]
        try:
            data = encode(replace(self, xmp=xmp_packet(self.xmp, edited)))
        except (OSError, ValueError, RuntimeError) as error:
            raise PhotoError(f"cannot write {path.name} ({error}): try .png, which has fewer limits") from error
        _write(path, data)


def read_mask(path: str | Path, photo_size: tuple[int, int]) -> np.ndarray:
    """Where the photo may change, bool [H, W]: what is white (over 127) in a picture of the photo's size.

    `photo_size` is (height, width). Transparent counts as black.
    """
    path = Path(path)
    mask = Photo.load(path)
    (height, width), (rows, columns) = mask.pixels.shape[:2], photo_size
    if (height, width) != (rows, columns):
        raise PhotoError(
            f"{path.name} is {width} x {height} px, the photo {columns} x {rows}: paint the mask on the photo itself"
        )
    light, alpha = _luma(mask.pixels).astype(np.float32), _alpha(mask.samples)
    if alpha is not None:
        light *= _eight_bit(alpha) / np.float32(255)
    if not (light > 127).any():
        raise PhotoError(f"{path.name} is black all over, so nothing may change: paint white what may")
    return light > 127


# Reading


def _read(path: Path) -> bytes:
    if path.is_dir():
        raise PhotoError(f"{path} is a folder: name one photo in it")
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise PhotoError(f"there is no file {path}: check the name") from None
    except OSError as error:
        raise PhotoError(f"cannot read {path} ({error.strerror}): check who may read it") from error
    if not data:
        raise PhotoError(f"{path.name} is empty: copy it anew from where it came")
    return data


def _open(path: Path, data: bytes) -> Image.Image:
    """The picture, its header read and checked but its pixels not yet.

    Pillow's readers are called directly: `Image.open` refuses photos within our limit as bombs, and
    can be told otherwise only for the whole process; and it makes a format of its own (MPO) of phones' JPEGs.
    """
    reader = _reader(data)
    if reader is None:
        raise PhotoError(f"{path.name} is not a photo that can be read here: give a JPEG, PNG, WebP or HEIC file")
    image = reader(io.BytesIO(data))
    width, height = image.size
    if max(width, height) > MAX_SIDE:
        raise PhotoError(
            f"{path.name} is {width} x {height} px; photodrag takes at most {MAX_SIDE} px a side: make it smaller first"
        )
    if image.format in ("PNG", "WEBP") and getattr(image, "is_animated", False):
        raise PhotoError(f"{path.name} is animated: save one picture of it first")
    return image


def _reader(data: bytes) -> Callable[[io.BytesIO], Image.Image] | None:
    if data.startswith(b"\xff\xd8\xff"):
        return JpegImagePlugin.JpegImageFile
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return PngImagePlugin.PngImageFile
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return WebPImagePlugin.WebPImageFile
    if data[4:8] == b"ftyp" and data[8:11] in (b"hei", b"hev", b"mif", b"msf"):
        return pillow_heif.HeifImageFile
    return None


def _decode(path: Path, image: Image.Image, data: bytes) -> tuple[np.ndarray, bytes | None]:
    """The samples as the file has them turned, uint8 or uint16 [H, W, 1 to 4], and their ICC profile."""
    image.load()
    icc = image.info.get("icc_profile")
    if image.mode == "CMYK":
        return _from_cmyk(path, image, icc)
    if image.format == "PNG" and data[24] == 16:  # bits; Pillow would keep 8 of them
        return _decode_deep_png(data), icc
    clear = "transparency" in image.info
    mode = {"1": "L", "L": "L", "I": "L", "LA": "LA", "La": "LA", "RGBA": "RGBA", "RGBa": "RGBA"}.get(image.mode, "RGB")
    samples = np.array(image.convert({"L": "LA", "RGB": "RGBA"}.get(mode, mode) if clear else mode))
    return samples.reshape(*samples.shape[:2], -1), icc


def _decode_deep_png(data: bytes) -> np.ndarray:
    samples = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)  # BGR
    if samples is None:
        raise ValueError("OpenCV cannot decode it")
    if data[25] in (0, 4):  # colour type grey, or grey and alpha; OpenCV makes BGRA of the second
        return samples[..., None] if samples.ndim == 2 else samples[..., [0, -1]]
    return samples[..., [2, 1, 0, 3][: samples.shape[2]]]


def _from_cmyk(path: Path, image: Image.Image, icc: bytes | None) -> tuple[np.ndarray, bytes]:
    if icc is None:
        raise PhotoError(f"{path.name} is CMYK without a colour profile: save it as RGB first")
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    try:
        rgb = ImageCms.profileToProfile(image, io.BytesIO(icc), srgb, outputMode="RGB")
    except ImageCms.PyCMSError as error:
        raise PhotoError(f"{path.name} has a CMYK profile that cannot be used: save it as RGB first") from error
    return np.array(rgb), srgb.tobytes()


def _upright(samples: np.ndarray, orientation: int) -> np.ndarray:
    """Undoes the turn and flip of an EXIF orientation, 1 to 8."""
    if orientation in (5, 6, 7, 8):
        samples = samples.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        samples = samples[::-1]
    if orientation in (2, 3, 6, 7):
        samples = samples[:, ::-1]
    return np.ascontiguousarray(samples)


def _jpeg_quality(image: Image.Image) -> JpegQuality | None:
    if not isinstance(image, JpegImagePlugin.JpegImageFile) or image.mode == "CMYK":
        return None
    tables = tuple(tuple(table) for _, table in sorted(image.quantization.items()))
    return JpegQuality(tables, max(JpegImagePlugin.get_sampling(image), 0))  # -1: grey, or a rare one


def _is_lossless_webp(data: bytes) -> bool:
    at = 12  # past RIFF, size, WEBP; then chunks: name, size, content
    while data[:4] == b"RIFF" and at + 8 <= len(data):
        if data[at : at + 4] in (b"VP8 ", b"VP8L"):
            return data[at : at + 4] == b"VP8L"
        at += 8 + (struct.unpack_from("<I", data, at + 4)[0] + 1) // 2 * 2
    return False


# Samples and pixels


def _colours(samples: np.ndarray) -> np.ndarray:
    """A view of the channels that are not alpha: 1 or 3."""
    return samples[..., :1] if samples.shape[2] < 3 else samples[..., :3]


def _alpha(samples: np.ndarray) -> np.ndarray | None:
    return samples[..., -1] if samples.shape[2] in (2, 4) else None


def _like(colours: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """`pixels` as int32 with as many channels as `colours`: the same, or their luma."""
    return (_luma(pixels)[..., None] if colours.shape[2] == 1 else pixels).astype(np.int32)


def _luma(pixels: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2GRAY)  # Rec. 601; grey stays as it is


def _eight_bit(samples: np.ndarray) -> np.ndarray:
    if samples.dtype == np.uint8:
        return samples
    return ((samples.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _rgb8(samples: np.ndarray) -> np.ndarray:
    colours = _eight_bit(_colours(samples))
    return np.repeat(colours, 3, axis=2) if colours.shape[2] == 1 else colours.copy()


# Writing


def _image(samples: np.ndarray) -> Image.Image:
    eight = _eight_bit(samples)
    return Image.fromarray(np.ascontiguousarray(eight[..., 0] if eight.shape[2] == 1 else eight))


def _metadata(photo: Photo) -> dict[str, bytes]:
    """As Pillow and pillow-heif take them."""
    exif = EXIF_START + photo.exif if photo.exif else None
    metadata = {"icc_profile": photo.icc, "exif": exif, "xmp": photo.xmp}
    return {name: value for name, value in metadata.items() if value}


def _jpeg(photo: Photo) -> bytes:
    how: dict[str, Any] = {"quality": QUALITY, "subsampling": 0}
    if photo.jpeg:
        how = {"qtables": photo.jpeg.tables, "subsampling": photo.jpeg.subsampling}
    file = io.BytesIO()
    _image(_colours(photo.samples)).save(file, "JPEG", **how, **_metadata(photo))
    return file.getvalue()


def _webp(photo: Photo) -> bytes:
    """Without loss, unless the photo came as a WebP with loss."""
    lossless = photo.lossless or photo.format != "WEBP"
    image = _image(photo.samples).convert("RGB" if _alpha(photo.samples) is None else "RGBA")
    if photo.icc and photo.icc[16:20] == b"GRAY":  # WebP has no grey that it could describe
        photo = replace(photo, icc=None)
    file = io.BytesIO()
    quality = WEBP_EFFORT if lossless else QUALITY
    # `exact`: the colours of transparent pixels too.
    image.save(file, "WEBP", lossless=lossless, quality=quality, exact=True, **_metadata(photo))
    return file.getvalue()


def _heic(photo: Photo) -> bytes:
    file = io.BytesIO()
    heif = pillow_heif.from_pillow(_image(photo.samples))
    # The preset takes a third of the default's time, for as large and as good a file: 2.7 s per megapixel.
    heif.save(file, quality=QUALITY, enc_params={"preset": "fast"}, **_metadata(photo))
    return file.getvalue()


def _png(photo: Photo) -> bytes:
    """By hand, because Pillow writes no 16-bit colour and OpenCV no metadata. W3C, PNG (third edition)."""
    height, width, channels = photo.samples.shape
    bits = 8 * photo.samples.itemsize
    colour_type = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    big_endian = photo.samples.astype(photo.samples.dtype.newbyteorder(">"))
    rows = big_endian.view(np.uint8).reshape(height, -1)
    rows[1:] -= rows[:-1]  # filter 2: what differs from the row above, mod 256
    rows = np.column_stack([np.full(height, 2, np.uint8), rows])
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0))]
    if photo.icc:
        chunks.append((b"iCCP", b"ICC profile\0\0" + zlib.compress(photo.icc)))
    if photo.xmp:
        chunks.append((b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + photo.xmp))
    if photo.exif:
        chunks.append((b"eXIf", photo.exif))
    chunks += [(b"IDAT", zlib.compress(rows.tobytes(), PNG_LEVEL)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*chunk) for chunk in chunks)


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(content, zlib.crc32(name)))


ENCODERS: dict[str, Callable[[Photo], bytes]] = {
    ".jpg": _jpeg,
    ".jpeg": _jpeg,
    ".png": _png,
    ".webp": _webp,
    ".heic": _heic,
    ".heif": _heic,
}


def _write(path: Path, data: bytes) -> None:
    """Under another name in the same folder first, so that `path` is never half a file."""
    part = path.with_name(f".{secrets.token_hex(4)}.part")
    try:
        with part.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())  # a full disk may show only here
        part.replace(path)
    except OSError as error:
        raise PhotoError(
            f"cannot write {path} ({error.strerror}): free some space, or choose another folder"
        ) from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)
