"""Image files that are damaged, false, or only unusual. Small in bytes and made of nothing but numbers."""

import io
import struct
import zlib
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin

# Where files are cut off, and where a byte of them is changed: shares of their length.
CUTS = (0.05, 0.12, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.97, 0.999)
SIGNATURES = {"PNG": b"\x89PNG\r\n\x1a\n", "JPEG": b"\xff\xd8\xff\xe0", "WebP": b"RIFF\x10\x00\x00\x00WEBP"}
File = tuple[str, bytes, bool | None]  # what it is, its bytes, whether it is accepted; None: either


def files() -> Iterator[File]:
    """All files."""
    yield from _honest()
    for name, data in _bases().items():
        for share in CUTS:
            at = int(len(data) * share)
            yield f"{name} cut at {share:g}", data[:at], None
            yield f"{name} changed at {share:g}", data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :], None
        yield f"{name} and 100 kB more", data + bytes(100_000), None
        yield f"{name} twice", data * 2, None
    yield from _not_images()
    yield from _false_sizes()
    yield from _bombs()
    yield from _metadata()


def good() -> bytes:
    """A PNG that every model takes."""
    return _bases()["PNG"]


def _save(image: Image.Image, kind: str, **options: Any) -> bytes:
    output = io.BytesIO()
    image.save(output, kind, **options)
    return output.getvalue()


@cache
def _scene() -> Image.Image:
    y, x = np.mgrid[:20, :24]
    return Image.fromarray(np.stack([x * 10, y * 12, (x * y) % 256], -1).astype(np.uint8))


@cache
def _bases() -> dict[str, bytes]:
    """The files that are damaged."""
    scene = _scene()
    return {
        "PNG": _save(scene, "PNG"),
        "interlaced PNG": _interlaced(),
        "JPEG": _save(scene, "JPEG"),
        "progressive JPEG": _save(scene, "JPEG", progressive=True),
        "WebP": _save(scene, "WEBP"),
        "lossless WebP": _save(scene, "WEBP", lossless=True),
    }


def _honest() -> Iterator[File]:
    """Files that are unusual and right; what is not served is refused."""
    scene = _scene()
    sixteen = Image.fromarray((np.arange(480, dtype=np.uint16) * 130).reshape(20, 24))
    for name, image in {
        "grey": scene.convert("L"), "alpha": scene.convert("RGBA"), "grey and alpha": scene.convert("LA"),
        "palette": scene.convert("P"), "1 bit": scene.convert("1"), "16 bits": sixteen,
    }.items():  # fmt: skip
        yield f"PNG, {name}", _save(image, "PNG"), True
    yield "CMYK JPEG", _save(scene.convert("CMYK"), "JPEG"), True
    yield "grey JPEG", _save(scene.convert("L"), "JPEG"), True
    yield "1 x 1 PNG", _save(scene.crop((0, 0, 1, 1)), "PNG"), True
    yield "1 x 5000 PNG", _save(Image.new("RGB", (1, 5000)), "PNG"), True
    flipped = scene.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    yield "animated WebP", _save(scene, "WEBP", save_all=True, append_images=[flipped]), False
    yield "animated PNG", _save(scene, "PNG", save_all=True, append_images=[flipped]), False
    for kind in ("GIF", "BMP", "TIFF", "ICO"):
        yield kind, _save(scene, kind), False


def _not_images() -> Iterator[File]:
    yield "no bytes of an image", b"", False
    yield "one byte", b"\x89", False
    yield "a megabyte of zeros", bytes(1 << 20), False
    yield "a page", b"<!DOCTYPE html><html><svg onload=x></svg></html>", False
    yield "an SVG", b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>', False
    yield "a zip", b"PK\x03\x04" + bytes(60), False
    for name, signature in SIGNATURES.items():
        yield f"{name}'s signature alone", signature, False
        yield f"{name}'s signature and zeros", signature + bytes(3000), False
        yield f"{name}'s signature and 0xff", signature + b"\xff" * 3000, False
        for other, data in _bases().items():
            yield f"{name}'s signature before a {other}", signature + data, None


def chunk(name: bytes, data: bytes) -> bytes:
    """One chunk of a PNG."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(name)))


def png(
    width: int,
    height: int,
    bits: int = 8,
    colour: int = 2,
    *,
    before: bytes = b"",
    data: bytes = b"",
    how: bytes = bytes(3),
) -> bytes:
    """A PNG that says that size.

    Args:
        before: chunks before the pixels.
        data: what is compressed as pixels.
        how: compression, filter and interlacing, as the header has them.
    """
    head = chunk(b"IHDR", struct.pack(">IIBB", width, height, bits, colour) + how)
    return SIGNATURES["PNG"] + head + before + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def _interlaced() -> bytes:
    """8 x 8 grey pixels in the seven passes of Adam7."""
    passes = ((1, 1), (1, 1), (2, 1), (2, 2), (4, 2), (4, 4), (8, 4))
    data = b"".join((b"\x00" + bytes(range(width))) * height for width, height in passes)
    return png(8, 8, colour=0, data=data, how=b"\0\0\1")


def _false_sizes() -> Iterator[File]:
    """Headers that say what the pixels are not."""
    largest = (1 << 31) - 1
    sides = ((0, 0), (0, 9), (9, 0), (1, largest), (largest, 1), (largest, largest), (1 << 31, 1), ((1 << 32) - 1, 4))
    for width, height in sides:
        yield f"PNG of {width} x {height}", png(width, height, data=bytes(100)), False
    for width, height in ((60_000, 60_000), (8001, 8001), (2000, 2000), (30, 30)):
        yield f"PNG of {width} x {height} with 100 B", png(width, height, data=bytes(100)), False
    for bits, colour in ((3, 0), (0, 2), (255, 2), (16, 3), (1, 2), (8, 1), (8, 5), (8, 7), (8, 255)):
        yield f"PNG of {bits} bits, colour {colour}", png(4, 4, bits, colour, data=bytes(52)), False
    for how in (b"\x09\0\0", b"\0\x09\0", b"\0\0\x09"):
        yield f"PNG with methods {how.hex()}", png(4, 4, data=bytes(52), how=how), None
    yield "PNG with a filter of 9 in each row", png(4, 4, data=(b"\x09" + bytes(12)) * 4), None
    yield "PNG without pixels", SIGNATURES["PNG"] + chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 4, 8, 2, 0, 0, 0)), False
    yield (
        "PNG with a palette beyond its end",
        png(4, 4, 8, 3, before=chunk(b"PLTE", bytes(3)), data=b"\x00\xff\xff\xff\xff" * 4),
        None,
    )
    yield "PNG without its palette", png(4, 4, 8, 3, data=bytes(20)), None
    yield "PNG with two headers", png(4, 4, before=chunk(b"IHDR", bytes(13)), data=bytes(52)), None
    jpeg, webp, lossless = _bases()["JPEG"], _bases()["WebP"], _bases()["lossless WebP"]
    frame = jpeg.index(b"\xff\xc0") + 5
    for height, width in ((0, 0), (0, 24), (20, 0), (65_535, 65_535), (21, 24), (20, 25), (2000, 2000)):
        said = struct.pack(">HH", height, width)
        yield f"JPEG of {width} x {height}", jpeg[:frame] + said + jpeg[frame + 4 :], None
    for components in (0, 2, 5, 255):
        yield f"JPEG of {components} components", jpeg[: frame + 4] + bytes([components]) + jpeg[frame + 5 :], False
    for bits in (0, 12, 16):
        yield f"JPEG of {bits} bits", jpeg[: frame - 1] + bytes([bits]) + jpeg[frame:], False
    for width, height in ((0, 0), (16_383, 16_383), (25, 20), (1, 1)):
        yield f"WebP of {width} x {height}", webp[:26] + struct.pack("<HH", width, height) + webp[30:], None
        packed = struct.pack("<I", (width - 1 & 0x3FFF) | (height - 1 & 0x3FFF) << 14)
        yield f"lossless WebP of {width} x {height}", lossless[:21] + packed + lossless[25:], None
    for size in (0, 1, (1 << 32) - 1):
        yield f"WebP that says {size} B", webp[:4] + struct.pack("<I", size) + webp[8:], None
        yield f"WebP whose chunk says {size} B", webp[:16] + struct.pack("<I", size) + webp[20:], False


def _bombs() -> Iterator[File]:
    """Files that are small and whose pixels are many, or that take long."""
    yield "PNG of 64 million grey pixels", png(8000, 8000, 1, 0, data=bytes(8000 * 1001)), False
    yield "PNG of more pixels than it says", png(4, 4, data=bytes(5_000_000)), None
    yield "PNG of 3,000 empty chunks of pixels", png(4, 4, before=chunk(b"IDAT", b"") * 3000, data=bytes(52)), None
    progressive = _save(Image.new("RGB", (200, 200), (9, 99, 30)), "JPEG", progressive=True)[:-2]
    last = progressive[progressive.rindex(b"\xff\xda") :]
    for scans in (90, 200, 5000):
        yield f"JPEG of {scans} more scans", progressive + last * scans + b"\xff\xd9", scans < 100 or False
    yield "JPEG without an end", progressive, None
    jpeg = _bases()["JPEG"]
    body = jpeg.index(b"\xff\xda")
    for segment in (b"\xff\xdd\x00\x04\x00\x01", b"\xff\xd0", b"\xff\xff"):
        yield f"JPEG with 20,000 times {segment.hex()}", jpeg[:body] + segment * 20_000 + jpeg[body:], None
    tables = jpeg[jpeg.index(b"\xff\xdb") : jpeg.index(b"\xff\xc0")]
    yield "JPEG of 1,000 quantization tables", jpeg[:body] + tables * 500 + jpeg[body:], None


def _metadata() -> Iterator[File]:
    """Things beside the pixels: much of them, or damaged."""
    rows = (b"\x00" + bytes(12)) * 4
    inflated = zlib.compress(bytes(50_000_000))
    for name, data in {
        "zTXt that inflates to 50 MB": chunk(b"zTXt", b"k\x00\x00" + inflated),
        "iTXt that inflates to 50 MB": chunk(b"iTXt", b"k\x00\x01\x00\x00\x00" + inflated),
        "iCCP that inflates to 50 MB": chunk(b"iCCP", b"k\x00\x00" + inflated),
        "iCCP of zeros": chunk(b"iCCP", b"k\x00\x00" + zlib.compress(bytes(200))),
        "3,000 texts": chunk(b"tEXt", b"k\x00v") * 3000,
        "2 MB of text": chunk(b"tEXt", b"k\x00" + b"v" * 2_000_000),
        "a text without a key": chunk(b"tEXt", b""),
        "an unknown critical chunk": chunk(b"ABCD", bytes(4)),
        "names of chunks that are no letters": chunk(b"\x00\xff\n\x1b", b""),
        "a short tRNS": chunk(b"tRNS", b"\x00"),
        "a long tRNS": chunk(b"tRNS", bytes(5000)),
        "a gAMA of 0": chunk(b"gAMA", bytes(4)),
        "a pHYs of 1 B": chunk(b"pHYs", b"\x01"),
        "a cHRM of 3 B": chunk(b"cHRM", b"\x01\x02\x03"),
        "an acTL of 0 frames": chunk(b"acTL", bytes(8)),
        "an acTL of 1 B": chunk(b"acTL", b"\x01"),
        "an fcTL before the pixels": chunk(b"fcTL", bytes(26)),
    }.items():
        yield f"PNG with {name}", png(4, 4, before=data, data=rows), None
    for what, exif in _exif().items():
        yield f"PNG, EXIF {what}", png(4, 4, before=chunk(b"eXIf", exif), data=rows), None
        yield f"JPEG, EXIF {what}", _with_segment(0xE1, b"Exif\0\0" + exif), None
    for what, marker, data in (
        ("ICC part 2 of 1", 0xE2, b"ICC_PROFILE\x00\x02\x01" + bytes(200)),
        ("ICC part 0 of 0", 0xE2, b"ICC_PROFILE\x00\x00\x00" + bytes(200)),
        ("MPF that is cut off", 0xE2, b"MPF\x00MM\x00*"),
        ("Adobe segment of another transform", 0xEE, b"Adobe\x00\x64\x00\x00\x00\x00\xff"),
        ("Photoshop data that is cut off", 0xED, b"Photoshop 3.0\x008BIM\x04\x04\x00\x00\x7f\xff\xff\xff"),
        ("JFIF of 0 dpi", 0xE0, b"JFIF\x00\x01\x01\x01\x00\x00\x00\x00\x00\x00"),
        ("comment of 65,533 B", 0xFE, b"c" * 65_533),
    ):
        yield f"JPEG with {what}", _with_segment(marker, data), None
    jpeg = _bases()["JPEG"]
    yield "JPEG with 3,000 comments", jpeg[:2] + b"\xff\xfe\x00\x03c" * 3000 + jpeg[2:], None
    yield "JPEG with 2 MB of comments", jpeg[:2] + (b"\xff\xfe\xff\xff" + b"c" * 65_533) * 30 + jpeg[2:], None
    yield "JPEG with a segment of length 0", jpeg[:2] + b"\xff\xe5\x00\x00" + jpeg[2:], None
    text = PngImagePlugin.PngInfo()
    text.add_itxt("k", "\u202e" * 1000, zip=True)
    yield "PNG with right-to-left text", _save(_scene(), "PNG", pnginfo=text), None


def _exif() -> dict[str, bytes]:
    entry = struct.pack("<HHII", 0x0112, 3, 1, 9)
    return {
        "of nothing": b"",
        "cut off": b"II*\x00",
        "at an offset beyond the end": b"II*\x00\xff\xff\xff\xff",
        "of a directory that is itself": b"II*\x00\x08\x00\x00\x00\x00\x00\x08\x00\x00\x00",
        "of 65,535 entries": b"II*\x00\x08\x00\x00\x00\xff\xff" + entry * 500,
        "of orientation 9": b"II*\x00\x08\x00\x00\x00\x01\x00" + entry + bytes(4),
        "of a type 65,535": b"II*\x00\x08\x00\x00\x00\x01\x00"
        + struct.pack("<HHII", 0x0112, 65535, 1 << 31, 6)
        + bytes(4),
    }


def _with_segment(marker: int, data: bytes) -> bytes:
    jpeg = _bases()["JPEG"]
    return jpeg[:2] + b"\xff" + bytes([marker]) + struct.pack(">H", len(data) + 2) + data + jpeg[2:]
