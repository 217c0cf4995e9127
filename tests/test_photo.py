"""Photos: read upright, written whole or not at all, and what was not edited comes back bit for bit."""

import io
import os
import struct
from pathlib import Path
from xml.dom import minidom

import cv2
import numpy as np
import pillow_heif
import pytest
from PIL import Image, ImageCms, TiffImagePlugin

from align import photo as photo_module
from align.metadata import IPTC_EXT, RDF, SOURCE_TYPE
from align.photo import MAX_SIDE, Photo, PhotoError, read_mask

LISA = Path(__file__).parent / "data" / "lisa1.jpg"
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
SUFFIXES = [".jpg", ".png", ".webp", ".heic"]
XMP = f"""<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><r:RDF xmlns:r="{RDF}"><r:Description r:about="uuid:1"
 xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:tiff="http://ns.adobe.com/tiff/1.0/" xmlns:I="{IPTC_EXT}"
 dc:source="album" tiff:Orientation="6"><dc:rights>Zoë</dc:rights>
 <I:DigitalSourceType>old</I:DigitalSourceType>
</r:Description></r:RDF></x:xmpmeta><?xpacket end="w"?>""".encode()


def random(*shape: int, dtype=np.uint8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max + 1, shape, dtype=dtype)


def smooth(height: int = 48, width: int = 64) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.stack([4 * x % 256, 5 * y % 256, 128 + 0 * x], axis=2).astype(np.uint8)


def camera_exif(orientation: int = 1) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0110], exif[0x0112] = "Camera 5", orientation
    exif.get_ifd(0x8825)[1] = "N"  # GPS
    return exif


def png(path: Path, samples: np.ndarray) -> Path:
    """By OpenCV, so that our own writer is not asked about itself."""
    order = {1: [0], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[samples.shape[2]]
    assert cv2.imwrite(str(path), np.ascontiguousarray(samples[..., order]))
    return path


def xmp_of(path: Path) -> minidom.Document:
    image = pillow_heif.HeifImageFile(path) if path.suffix == ".heic" else Image.open(path)
    return minidom.parseString(image.info["xmp"])


def properties(document: minidom.Document, namespace: str, name: str) -> list[str]:
    """All values of an XMP property, as attributes or as elements."""
    found = document.getElementsByTagNameNS(RDF, "Description")
    values = [d.getAttributeNS(namespace, name) for d in found if d.hasAttributeNS(namespace, name)]
    return values + [e.firstChild.data for e in document.getElementsByTagNameNS(namespace, name)]


# Reading


def test_jpeg_is_read_as_pillow_reads_it():
    photo = Photo.load(LISA)
    assert photo.format == "JPEG" and not photo.lossless
    assert np.array_equal(photo.pixels, np.array(Image.open(LISA)))
    assert np.array_equal(photo.pixels, photo.samples)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("bits", [8, 16])
def test_every_orientation_gives_the_same_upright_pixels(tmp_path, orientation, bits):
    upright = random(5, 7, 3, dtype=np.uint16)
    if bits == 8:
        upright = (upright >> 8).astype(np.uint8)
    # How the camera would have stored it: rows and columns as the EXIF standard words it.
    row0, column0 = [
        ("t", "l"),
        ("t", "r"),
        ("b", "r"),
        ("b", "l"),
        ("l", "t"),
        ("r", "t"),
        ("r", "b"),
        ("l", "b"),
    ][orientation - 1]
    stored = upright.swapaxes(0, 1) if row0 in "lr" else upright
    stored = stored[::-1] if row0 in "br" else stored
    stored = stored[:, ::-1] if column0 in "br" else stored
    path = png(tmp_path / "turned.png", stored)
    exif = camera_exif(orientation).tobytes().removeprefix(b"Exif\0\0")
    data = path.read_bytes()
    path.write_bytes(data[:33] + photo_module._chunk(b"eXIf", exif) + data[33:])  # after the signature and IHDR
    photo = Photo.load(path)
    assert np.array_equal(photo.samples, upright)
    photo.save(tmp_path / "out.jpg")
    again = Image.open(tmp_path / "out.jpg").getexif()
    assert again[0x0112] == 1 and again[0x0110] == "Camera 5"


def test_jpeg_and_heic_are_upright_too(tmp_path):
    Image.fromarray(smooth()).save(tmp_path / "a.jpg", exif=camera_exif(6), quality=95)
    Image.fromarray(smooth()).save(tmp_path / "a.webp", exif=camera_exif(6), lossless=True)
    heif = pillow_heif.from_pillow(Image.fromarray(smooth()))
    heif.save(tmp_path / "a.heic", exif=camera_exif(6).tobytes(), quality=95)
    for name in ("a.jpg", "a.webp", "a.heic"):
        pixels = Photo.load(tmp_path / name).pixels
        assert pixels.shape == (64, 48, 3)
        assert np.abs(pixels.astype(int) - np.rot90(smooth(), -1)).mean() < 6, name


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA", "P clear", "L clear", "RGB clear"])
def test_every_kind_of_8_bit_png(tmp_path, mode):
    rgba = Image.fromarray(random(6, 8, 4))
    has_alpha = mode in ("LA", "RGBA")
    image = (rgba if has_alpha else rgba.convert("RGB")).convert(mode.split()[0])
    transparency = {"P clear": 3, "L clear": 7, "RGB clear": (1, 2, 3)}.get(mode)
    image.save(tmp_path / "a.png", **({"transparency": transparency} if transparency else {}))
    photo = Photo.load(tmp_path / "a.png")
    channels = {"1": 1, "L": 1, "P": 3, "LA": 2, "L clear": 2}.get(mode, 4)
    assert photo.samples.shape == (6, 8, channels)
    truth = np.array(Image.open(tmp_path / "a.png").convert("RGBA"))
    assert np.array_equal(photo.pixels, truth[..., :3])
    if channels in (2, 4):
        assert np.array_equal(photo.samples[..., -1], truth[..., 3])


def test_16_bits_are_rounded_to_8(tmp_path):
    samples = np.array([[[0, 128, 129], [257 * 254, 257 * 254 + 129, 65535]]], np.uint16)
    photo = Photo.load(png(tmp_path / "deep.png", samples))
    assert photo.pixels.tolist() == [[[0, 0, 1], [254, 255, 255]]]
    assert np.array_equal(photo.samples, samples)


def test_a_phones_jpeg_with_a_second_picture_is_a_jpeg(tmp_path):
    first, second = Image.fromarray(smooth()), Image.fromarray(smooth()[::2])
    first.save(tmp_path / "phone.jpg", "MPO", save_all=True, append_images=[second])
    photo = Photo.load(tmp_path / "phone.jpg")
    assert photo.format == "JPEG" and photo.pixels.shape == (48, 64, 3)


def test_the_thumbnail_goes_and_the_rest_of_exif_stays(tmp_path):
    thumb = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(thumb, "JPEG")
    tiff = bytearray(camera_exif(3).tobytes().removeprefix(b"Exif\0\0"))
    order = "<" if tiff[:2] == b"II" else ">"
    start = struct.unpack_from(order + "I", tiff, 4)[0]
    pointer = start + 2 + 12 * struct.unpack_from(order + "H", tiff, start)[0]
    struct.pack_into(order + "I", tiff, pointer, len(tiff))
    place = len(tiff) + 2 + 24 + 4
    tiff += struct.pack(order + "HHHIIHHIII", 2, 0x0201, 4, 1, place, 0x0202, 4, 1, len(thumb.getvalue()), 0)
    tiff += thumb.getvalue()
    Image.fromarray(smooth()).save(tmp_path / "a.jpg", exif=b"Exif\0\0" + bytes(tiff))
    assert thumb.getvalue() in (tmp_path / "a.jpg").read_bytes()
    photo = Photo.load(tmp_path / "a.jpg")
    assert photo.exif is not None and len(photo.exif) == len(tiff)
    assert photo.exif[pointer : pointer + 4] == bytes(4)  # no second directory
    photo.save(tmp_path / "b.jpg")
    assert thumb.getvalue()[:40] not in (tmp_path / "b.jpg").read_bytes()
    after = Image.open(tmp_path / "b.jpg").getexif()
    assert after[0x0112] == 1 and after[0x0110] == "Camera 5" and after.get_ifd(0x8825)[1] == "N"


@pytest.mark.parametrize("exif", [b"", b"junk", b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\xff\xff"])
def test_exif_in_disorder_does_not_stop_a_photo(tmp_path, exif):
    Image.fromarray(smooth()).save(tmp_path / "a.jpg", exif=b"Exif\0\0" + exif)
    assert Photo.load(tmp_path / "a.jpg").exif is None


def test_cmyk_becomes_rgb_by_its_profile_or_is_refused(tmp_path):
    Image.new("CMYK", (8, 8)).save(tmp_path / "a.jpg")
    with pytest.raises(PhotoError, match="CMYK without a colour profile"):
        Photo.load(tmp_path / "a.jpg")
    Image.new("CMYK", (8, 8)).save(tmp_path / "b.jpg", icc_profile=SRGB)  # a profile, but not of CMYK
    with pytest.raises(PhotoError, match="CMYK profile that cannot be used"):
        Photo.load(tmp_path / "b.jpg")


# Editing and writing


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_lossless_round_trip(tmp_path, dtype, channels):
    photo = photo_of(random(6, 8, channels, dtype=dtype))
    photo.save(tmp_path / "a.png")
    again = Photo.load(tmp_path / "a.png")
    assert again.samples.dtype == dtype and np.array_equal(again.samples, photo.samples)
    # And what others read: OpenCV knows nothing of ours.
    read = cv2.imread(str(tmp_path / "a.png"), cv2.IMREAD_UNCHANGED).reshape(6, 8, -1)
    assert read.dtype == dtype and np.array_equal(read[..., -1], photo.samples[..., -1 if channels in (2, 4) else 0])
    if dtype == np.uint8 and channels >= 3:
        photo.save(tmp_path / "a.webp")
        again = Photo.load(tmp_path / "a.webp")
        assert again.lossless and np.array_equal(again.samples, photo.samples)


def photo_of(samples: np.ndarray) -> Photo:
    return Photo(photo_module._rgb8(samples), samples, "PNG")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_an_edit_changes_only_what_it_changes(dtype, channels):
    photo = photo_of(random(6, 8, channels, dtype=dtype))
    new = photo.pixels.copy()
    new[2:4, 3:5] = 255 - new[2:4, 3:5]
    edited = photo.edited(new)
    assert np.array_equal(edited.pixels, new)
    same = np.ones((6, 8), bool)
    same[2:4, 3:5] = False
    assert np.array_equal(edited.samples[same], photo.samples[same])
    assert (edited.samples[~same][:, 0] != photo.samples[~same][:, 0]).all()
    if channels in (2, 4):
        assert np.array_equal(edited.samples[..., -1], photo.samples[..., -1])
    assert np.array_equal(photo.pixels, photo_module._rgb8(photo.samples))  # the first one is as it was


def test_an_edit_keeps_the_fine_gradation_of_16_bits():
    photo = photo_of(np.array([[[1000], [65535], [100]]], np.uint16))  # 8-bit: 4, 255, 0
    edited = photo.edited(np.full((1, 3, 3), [[[6], [254], [1]]], np.uint8))
    assert edited.samples.ravel().tolist() == [1000 + 2 * 257, 65535 - 257, 100 + 257]


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_other_colours_leave_alpha_and_the_photo_as_they_are(channels):
    photo = photo_of(random(6, 8, channels, dtype=np.uint16))
    before = photo.samples.copy()
    new = photo.with_colours(photo.colours // 2)
    assert new.samples.dtype == np.uint16 and np.array_equal(new.colours, photo.colours // 2)
    assert np.array_equal(new.pixels, photo_module._rgb8(new.samples))
    assert np.array_equal(photo.samples, before)
    if channels in (2, 4):
        assert np.array_equal(new.samples[..., -1], photo.samples[..., -1])


def test_a_grey_photo_stays_grey():
    photo = photo_of(np.full((1, 1, 1), 10, np.uint8))
    edited = photo.edited(np.array([[[255, 0, 0]]], np.uint8))
    assert edited.samples.tolist() == [[[76]]] and edited.pixels.tolist() == [[[76, 76, 76]]]  # 0.299 x 255


def test_jpeg_keeps_tables_and_subsampling(tmp_path):
    for quality, subsampling in ((60, 2), (83, 1), (98, 0)):
        Image.fromarray(smooth()).save(tmp_path / "a.jpg", quality=quality, subsampling=subsampling)
        photo = Photo.load(tmp_path / "a.jpg")
        photo.save(tmp_path / "b.jpg", overwrite=True)
        before, after = Image.open(tmp_path / "a.jpg"), Image.open(tmp_path / "b.jpg")
        assert before.quantization == after.quantization
        assert before.layer == after.layer  # sampling factors
        assert Photo.load(tmp_path / "b.jpg").jpeg == photo.jpeg
        assert np.abs(np.array(before).astype(int) - np.array(after)).mean() < 1


def test_grey_jpeg_keeps_its_table(tmp_path):
    Image.fromarray(smooth()[..., 0]).save(tmp_path / "a.jpg", quality=70)
    Photo.load(tmp_path / "a.jpg").save(tmp_path / "b.jpg")
    before, after = Image.open(tmp_path / "a.jpg"), Image.open(tmp_path / "b.jpg")
    assert after.mode == "L" and before.quantization == after.quantization


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_any_samples_in_any_format(tmp_path, suffix, channels):
    deep = np.dstack([smooth(), smooth()[..., :1]])[..., :channels].astype(np.uint16) * 257
    photo = photo_of(deep)
    photo.save(tmp_path / f"a{suffix}")
    again = Photo.load(tmp_path / f"a{suffix}")
    assert again.pixels.shape == photo.pixels.shape
    assert np.abs(again.pixels.astype(int) - photo.pixels).mean() < 6
    assert again.samples.dtype == (np.uint16 if suffix == ".png" else np.uint8)


def test_lossy_webp_stays_lossy(tmp_path):
    Image.open(LISA).save(tmp_path / "a.webp", quality=80)
    photo = Photo.load(tmp_path / "a.webp")
    assert not photo.lossless
    photo.save(tmp_path / "b.webp")
    assert not Photo.load(tmp_path / "b.webp").lossless


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_metadata_travel_from_every_format_to_every_format(tmp_path, suffix):
    exif = camera_exif().tobytes().removeprefix(b"Exif\0\0")
    first = Photo(smooth(), smooth(), "PNG", icc=SRGB, exif=exif, xmp=XMP)
    first.save(tmp_path / f"first{suffix}")
    for target in SUFFIXES:
        path = tmp_path / f"to{target}"
        Photo.load(tmp_path / f"first{suffix}").save(path, overwrite=True)
        photo = Photo.load(path)
        assert photo.icc == SRGB
        kept = Image.Exif()
        kept.load(photo.exif)
        assert kept[0x0110] == "Camera 5" and kept.get_ifd(0x8825)[1] == "N"
        document = xmp_of(path)
        assert properties(document, IPTC_EXT, "DigitalSourceType") == [SOURCE_TYPE]
        assert properties(document, "http://purl.org/dc/elements/1.1/", "source") == ["album"]
        assert properties(document, "http://purl.org/dc/elements/1.1/", "rights") == ["Zoë"]
        assert properties(document, "http://ns.adobe.com/tiff/1.0/", "Orientation") == []


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("xmp", [None, b"<not xml", b"<!DOCTYPE a><a/>", b"<a/>"])
def test_source_type_without_a_packet_to_merge_with(tmp_path, suffix, xmp):
    path = tmp_path / f"a{suffix}"
    Photo(smooth(), smooth(), "PNG", xmp=xmp).save(path)
    assert properties(xmp_of(path), IPTC_EXT, "DigitalSourceType") == [SOURCE_TYPE]


def test_an_unedited_photo_does_not_claim_an_edit(tmp_path):
    Photo(smooth(), smooth(), "PNG").save(tmp_path / "a.png", edited=False)
    assert Photo.load(tmp_path / "a.png").xmp is None
    Photo(smooth(), smooth(), "PNG", xmp=XMP).save(tmp_path / "b.png", edited=False)
    assert properties(xmp_of(tmp_path / "b.png"), IPTC_EXT, "DigitalSourceType") == ["old"]


# Errors


def bad_file(folder: Path, kind: str) -> Path:
    path = folder / "photo.jpg"
    if kind == "folder":
        path.mkdir()
    elif kind != "missing":
        path.write_bytes({"empty": b"", "text": b"hello, I am a text", "cut": LISA.read_bytes()[:200_000]}[kind])
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing", "no file .*photo.jpg: check"),
        ("folder", "is a folder: name one photo"),
        ("empty", "photo.jpg is empty: copy"),
        ("text", "photo.jpg is not a photo .* JPEG, PNG, WebP or HEIC"),
        ("cut", "photo.jpg is damaged or cut short .* copy"),
    ],
)
def test_unreadable_files_say_why(tmp_path, kind, message):
    with pytest.raises(PhotoError, match=message) as caught:
        Photo.load(bad_file(tmp_path, kind))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_cut_short_is_refused_in_every_format(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    photo_of(random(64, 64, 3)).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.raises(PhotoError, match="damaged or cut short"):
        Photo.load(path)


def test_a_cut_deep_png_is_refused(tmp_path):
    path = png(tmp_path / "a.png", random(64, 64, 3, dtype=np.uint16))
    path.write_bytes(path.read_bytes()[:9000])
    with pytest.raises(PhotoError, match="damaged or cut short"):
        Photo.load(path)


def test_too_large_is_said_from_the_header(tmp_path, monkeypatch):
    Image.new("1", (20000, 3000)).save(tmp_path / "photo.png")
    monkeypatch.setattr(photo_module, "_decode", None)  # must not be reached
    with pytest.raises(PhotoError, match=r"photo.png is 20000 x 3000 px; .* 16384 px a side: make it smaller first"):
        Photo.load(tmp_path / "photo.png")


def test_a_photo_within_the_limit_is_no_bomb(tmp_path, monkeypatch, recwarn):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # Image.open would refuse this at 64 x 48
    Photo(smooth(), smooth(), "PNG").save(tmp_path / "a.png")
    assert Photo.load(tmp_path / "a.png").pixels.shape == (48, 64, 3)
    assert not recwarn.list and MAX_SIDE == 16384


def test_animated_is_refused(tmp_path):
    frames = [Image.fromarray(random(8, 8, 3)), Image.fromarray(smooth(8, 8))]
    for name in ("a.webp", "a.png"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
        with pytest.raises(PhotoError, match="animated: save one picture"):
            Photo.load(tmp_path / name)


def test_where_it_cannot_be_written(tmp_path):
    photo = Photo(smooth(), smooth(), "PNG")
    with pytest.raises(PhotoError, match=r"ends in .jpg, .jpeg, .png, .webp, .heic, .heif"):
        photo.save(tmp_path / "a.gif")
    with pytest.raises(PhotoError, match=r"no folder .*: make it first"):
        photo.save(tmp_path / "none" / "a.png")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(PhotoError, match="is a folder"):
        photo.save(tmp_path / "folder.png", overwrite=True)


def test_a_folder_that_refuses_writing(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)  # root may write anywhere, so the mode of a folder would not do
    with pytest.raises(PhotoError, match=r"Permission denied.*another folder"):
        Photo(smooth(), smooth(), "PNG").save(tmp_path / "a.png")


def test_an_existing_file_is_kept_unless_told(tmp_path):
    photo = Photo(smooth(), smooth(), "PNG")
    (tmp_path / "a.png").write_bytes(b"mine")
    with pytest.raises(PhotoError, match="exists: choose another name"):
        photo.save(tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes() == b"mine"
    photo.save(tmp_path / "a.png", overwrite=True)
    assert np.array_equal(Photo.load(tmp_path / "a.png").pixels, smooth())


def test_a_full_disk_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    (tmp_path / "a.png").write_bytes(b"mine")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(PhotoError, match=r"No space left.*free some space"):
        Photo(smooth(), smooth(), "PNG").save(tmp_path / "a.png", overwrite=True)
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]
    assert (tmp_path / "a.png").read_bytes() == b"mine"


def test_what_a_format_cannot_hold_is_one_line(tmp_path):
    wide = np.zeros((1, 16384, 3), np.uint8)  # WebP ends at 16383
    with pytest.raises(PhotoError, match=r"cannot write a.webp .* try .png"):
        Photo(wide, wide, "PNG").save(tmp_path / "a.webp")
    assert not list(tmp_path.iterdir())


# Masks


def test_mask_is_where_it_is_white(tmp_path):
    grey = np.array([[0, 127, 128, 255]], np.uint8)
    Image.fromarray(grey).save(tmp_path / "mask.png")
    assert read_mask(tmp_path / "mask.png", (1, 4)).tolist() == [[False, False, True, True]]
    png(tmp_path / "deep.png", grey[..., None].astype(np.uint16) * 257)
    assert read_mask(tmp_path / "deep.png", (1, 4)).tolist() == [[False, False, True, True]]


def test_mask_painted_on_a_transparent_layer(tmp_path):
    rgba = np.full((1, 4, 4), 255, np.uint8)
    rgba[0, :, 3] = [0, 100, 200, 255]
    Image.fromarray(rgba).save(tmp_path / "mask.png")
    assert read_mask(tmp_path / "mask.png", (1, 4)).tolist() == [[False, False, True, True]]


def test_mask_is_turned_as_its_photo_is(tmp_path):
    picture = np.zeros((48, 64), np.uint8)
    picture[:16] = 255
    Image.fromarray(picture).save(tmp_path / "mask.png", exif=camera_exif(6))
    mask = read_mask(tmp_path / "mask.png", (64, 48))
    assert mask[:, -16:].all() and not mask[:, :-16].any()


def test_masks_that_will_not_do(tmp_path):
    Image.new("L", (300, 200), 255).save(tmp_path / "mask.png")
    with pytest.raises(PhotoError, match=r"mask.png is 300 x 200 px, the photo 600 x 800: paint the mask on"):
        read_mask(tmp_path / "mask.png", (800, 600))
    assert read_mask(tmp_path / "mask.png", (200, 300)).all()
    Image.new("L", (30, 20)).save(tmp_path / "black.png")
    with pytest.raises(PhotoError, match="black all over, so nothing may change"):
        read_mask(tmp_path / "black.png", (20, 30))


def test_tiff_numbers_of_gps_survive(tmp_path):
    exif = camera_exif()
    exif.get_ifd(0x8825)[2] = tuple(TiffImagePlugin.IFDRational(v) for v in (51, 30, 12))
    Image.fromarray(smooth()).save(tmp_path / "a.jpg", exif=exif)
    Photo.load(tmp_path / "a.jpg").save(tmp_path / "b.png")
    gps = Image.open(tmp_path / "b.png").getexif().get_ifd(0x8825)
    assert [float(v) for v in gps[2]] == [51, 30, 12]
