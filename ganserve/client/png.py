"""PNG with 8 or 16 bits, in and out: Pillow reads colours of 16 bits as 8 and cannot write them."""

import io
import struct
import zlib
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, PngImagePlugin

from ganserve.client.iptc import as_raw_profile

Pixels = NDArray[np.uint8] | NDArray[np.uint16]

SIGNATURE = b"\x89PNG\r\n\x1a\n"
COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}  # by the number of channels
UP = 2  # a row as its difference from the one above
XMP_KEYWORD = "XML:com.adobe.xmp"
METRE_PER_INCH = 0.0254
# Which raw mode unpacks the low bytes of the file's big-endian numbers, for each that unpacks the high ones.
LOW_BYTES = {"RGB;16B": "RGB;16L", "RGBA;16B": "RGBA;16L"}


def encode_png(
    pixels: Pixels,
    *,
    level: int = 1,
    icc: bytes | None = None,
    exif: bytes | None = None,
    dpi: tuple[float, float] | None = None,
    xmp: bytes | None = None,
    iptc: bytes | None = None,
    texts: Mapping[str, str] | None = None,
) -> bytes:
    """A PNG of (H, W, 1..4) uint8 or uint16: grey, grey and alpha, RGB, RGBA.

    Args:
        pixels: as above.
        level: of compression, 0..9.
        icc: colour profile.
        exif: what follows `Exif\\0\\0`.
        dpi: horizontal and vertical.
        xmp: a packet in UTF-8.
        iptc: a block of IPTC-IIM.
        texts: by keyword.
    """
    height, width, channels = pixels.shape
    bits = pixels.dtype.itemsize * 8
    stored = np.ascontiguousarray(pixels.astype(">u2") if bits == 16 else pixels)
    rows = stored.view(np.uint8).reshape(height, -1)
    filtered = np.empty((height, rows.shape[1] + 1), np.uint8)
    filtered[:, 0] = UP
    filtered[0, 1:] = rows[0]
    np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])
    chunks = [_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, COLOUR_TYPES[channels], 0, 0, 0))]
    if icc:
        chunks.append(_chunk(b"iCCP", b"ICC Profile\0\0" + zlib.compress(icc)))
    if dpi:
        chunks.append(_chunk(b"pHYs", struct.pack(">IIB", *(round(float(n) / METRE_PER_INCH) for n in dpi), 1)))
    if exif:
        chunks.append(_chunk(b"eXIf", exif.removeprefix(b"Exif\0\0")))
    if xmp:
        chunks.append(_chunk(b"iTXt", XMP_KEYWORD.encode() + bytes(5) + xmp))
    if iptc:
        chunks.append(_chunk(b"zTXt", as_raw_profile(iptc)))
    for keyword, words in (texts or {}).items():
        name = keyword.encode("latin-1", "replace")[:79]
        chunks.append(_chunk(b"iTXt", name + bytes(5) + words.replace("\0", " ").encode()))
    return b"".join([SIGNATURE, *chunks, _chunk(b"IDAT", zlib.compress(filtered.data, level)), _chunk(b"IEND", b"")])


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))


def is_deep(image: ImageFile.ImageFile) -> bool:
    """Whether a PNG that is not loaded yet has 16 bits."""
    return bool(image.tile) and str(image.tile[0].args).endswith(";16B")


def decode_png(data: bytes) -> Pixels:
    """(H, W, 1..4) uint8 or uint16, as many bits as the file has; palettes as colours."""
    image = PngImagePlugin.PngImageFile(io.BytesIO(data))
    raw_mode = image.tile[0].args if image.tile else ""
    if raw_mode in LOW_BYTES:
        low = PngImagePlugin.PngImageFile(io.BytesIO(data))
        low.tile = [tile._replace(args=LOW_BYTES[raw_mode]) for tile in low.tile]
        return _joined(np.asarray(image), np.asarray(low))
    if raw_mode == "LA;16B":  # four bytes a pixel: unpacked as they lie
        image.tile = [tile._replace(args="RGBA") for tile in image.tile]
        bytes_ = np.asarray(image)
        return _joined(bytes_[..., 0::2], bytes_[..., 1::2])
    if image.mode.startswith("I"):
        return np.asarray(image).astype(np.uint16)[..., None]
    return pixels_of(image)


def _joined(high: NDArray[np.uint8], low: NDArray[np.uint8]) -> NDArray[np.uint16]:
    return np.left_shift(high, 8, dtype=np.uint16) | low


def pixels_of(image: Image.Image) -> NDArray[np.uint8]:
    """(H, W, C) uint8 of an image of 8 bits; palettes as colours."""
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    elif image.mode == "1":
        image = image.convert("L")
    pixels = np.asarray(image)
    return pixels[..., None] if pixels.ndim == 2 else pixels
