"""PNG, JPEG, WebP and raw bytes <-> (H, W, C) arrays. Any thread; made for the codec pool.

Decoding honours the EXIF orientation and keeps the ICC profile where it still describes the pixels. 16-bit samples keep
their high byte (v >> 8), so an 8-bit picture saved with 16 bits comes back exactly.
"""

import io
import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from server.errors import InvalidRequest
from server.images.header import Format, Header

_MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
# Opened by name, not by PIL.Image.open: that one tries every format and checks pixels against a process-wide global.
_READERS: Mapping[Format, Callable[[io.BytesIO], ImageFile]] = {
    Format.PNG: PngImageFile,
    Format.JPEG: JpegImageFile,
    Format.WEBP: WebPImageFile,
}
_DAMAGE = (OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError, OverflowError, struct.error, zlib.error)
_ICC_SPACES = {1: b"GRAY", 2: b"GRAY", 3: b"RGB ", 4: b"RGB "}
_DEFAULT_QUALITY = {Format.PNG: 1, Format.JPEG: 90, Format.WEBP: 90, Format.RAW: 0}
_QUALITY_RANGE = {Format.PNG: (0, 9), Format.JPEG: (1, 100), Format.WEBP: (1, 100)}
_LONGEST_SIDE_PX = {Format.JPEG: 65_500, Format.WEBP: 16_383}
_WEBP_METHOD = 2  # of 0..6: half the time of Pillow's default 4 for about 3 % more bytes
_PNG_COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}
_PNG_STRIP_BYTES = 1 << 20
_PNG_FILTER_UP = 2


@dataclass(frozen=True)
class Picture:
    """`pixels`: (H, W, C) uint8, 0..255; C is 1 grey, 2 grey and alpha, 3 RGB, 4 RGBA. `icc`: their profile."""

    pixels: NDArray[np.uint8]
    icc: bytes | None = None


@dataclass(frozen=True)
class Encoding:
    """How pictures are encoded. `quality`: JPEG and WebP 1..100; PNG compression level 0..9."""

    format: Format
    quality: int

    @staticmethod
    def ask(kind: Format, quality: int | None) -> "Encoding":
        """The encoding that a caller asks for; the default quality where none is given.

        Raises:
            InvalidRequest: a quality out of the format's range.
        """
        if quality is None:
            return Encoding(kind, _DEFAULT_QUALITY[kind])
        if kind is Format.RAW:
            raise InvalidRequest(f"encoding.quality: {quality} given, but raw pictures have none; leave it unset")
        low, high = _QUALITY_RANGE[kind]
        if not low <= quality <= high:
            raise InvalidRequest(f"encoding.quality: {quality}; {kind} takes {low}..{high}")
        return Encoding(kind, quality)

    def check(self, width: int, height: int, channels: int) -> None:
        """Returns if a picture of this size can be encoded so.

        Raises:
            InvalidRequest: alpha in a JPEG, more channels than a picture has, or a side longer than the format can say.
        """
        if self.format is not Format.RAW and channels not in _MODES:
            raise InvalidRequest(f"encoding.format: {self.format} has no pictures of {channels} channels; ask for RAW")
        if self.format is Format.JPEG and channels in (2, 4):
            raise InvalidRequest(
                "encoding.format: JPEG has no alpha and the picture has; ask for PNG or WebP, or set alpha to DROP"
            )
        longest = _LONGEST_SIDE_PX.get(self.format)
        if longest is not None and max(width, height) > longest:
            raise InvalidRequest(
                f"encoding.format: {width} x {height} px, but {self.format} sides end at {longest} px; ask for PNG"
            )

    def channels(self, channels: int) -> int:
        """Channels of the encoded picture: WebP has no grey."""
        return channels if self.format is not Format.WEBP or channels > 2 else channels + 2


def decode(data: bytes, header: Header) -> Picture:
    """The picture that `header` was read from, with `header.channels` channels, upright.

    CMYK becomes sRGB, by its profile where it has one.

    Raises:
        InvalidRequest: damaged or cut short.
    """
    try:
        with _READERS[header.format](io.BytesIO(data)) as image:
            if image.size != header.stored_size:
                raise ValueError(f"the header says {header.stored_size}, the pixels {image.size}")
            image.load()
            pixels = _turn_upright(_to_pixels(image, header), header.orientation)
            icc = image.info.get("icc_profile")
    except _DAMAGE as error:
        raise InvalidRequest(f"image: damaged {header.format}: {error}") from None
    describes = isinstance(icc, bytes) and icc[16:20] == _ICC_SPACES[header.channels]
    return Picture(np.ascontiguousarray(pixels), icc if describes else None)


def decode_raw(data: bytes, width: int, height: int) -> Picture:
    """Raw pixels, row-major (height, width, channels) uint8, as a read-only view; for a header by `raw_header`."""
    return Picture(np.frombuffer(data, np.uint8).reshape(height, width, -1))


def raw_header(nbytes: int, width: int, height: int) -> Header:
    """The header of raw pixels; the channels follow from the byte count.

    Raises:
        InvalidRequest: a size missing, or a byte count that is not 1, 3 or 4 channels.
    """
    if not width or not height:
        raise InvalidRequest(f"raw_width, raw_height: {width} x {height}; set both, or neither for an encoded picture")
    channels = nbytes // (width * height)
    if channels not in (1, 3, 4) or channels * width * height != nbytes:
        raise InvalidRequest(f"image: {nbytes} bytes is not {height} x {width} x 1, 3 or 4 channels of uint8")
    return Header(Format.RAW, width, height, channels)


def encode(picture: Picture, encoding: Encoding) -> bytes:
    """The encoded picture: the same bytes for the same pixels. The ICC profile goes along, except in raw."""
    pixels, icc = picture.pixels, picture.icc
    if encoding.format is Format.RAW:
        return pixels.tobytes()
    if encoding.format is Format.PNG:
        return _encode_png(pixels, encoding.quality, icc)
    image = _to_image(pixels)
    output = io.BytesIO()
    if encoding.format is Format.JPEG:
        image.save(output, "JPEG", quality=encoding.quality, icc_profile=icc)
    else:
        fits = pixels.shape[2] == encoding.channels(pixels.shape[2])
        image.save(output, "WEBP", quality=encoding.quality, method=_WEBP_METHOD, icc_profile=icc if fits else None)
    return output.getvalue()


def to_grey(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Luma (ITU-R 601) of (H, W, 3) as (H, W, 1); equal channels come back exactly."""
    return np.asarray(_to_image(pixels).convert("L"))[..., None]


def resize(plane: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """One channel (H, W, 1) at another size, bicubic; the same size comes back exactly."""
    return np.asarray(_to_image(plane).resize((width, height), Image.Resampling.BICUBIC))[..., None]


def _to_image(pixels: NDArray[np.uint8]) -> Image.Image:
    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)


def _to_pixels(image: Image.Image, header: Header) -> NDArray[np.uint8]:
    key = image.info.get("transparency")
    if image.mode == "CMYK":
        image = _from_cmyk(image)
    elif image.mode == "1":
        image = image.convert("L")
    if image.mode == "I;16":
        samples: NDArray[Any] = np.asarray(image)[..., None]
        pixels: NDArray[np.uint8] = (samples >> 8).astype(np.uint8)
    elif image.mode in ("L", "RGB") and key is not None:
        samples = pixels = np.asarray(image).reshape(image.height, image.width, -1)
        key = _to_8_bits(key, header.bits)
    else:
        image = image if image.mode == _MODES[header.channels] else image.convert(_MODES[header.channels])
        return np.asarray(image).reshape(image.height, image.width, -1)
    if key is None:
        return pixels
    opaque = np.any(samples != key, axis=-1, keepdims=True)
    return np.concatenate([pixels, opaque * np.uint8(255)], axis=-1)


def _to_8_bits(key: int | tuple[int, ...], bits: int) -> NDArray[Any]:
    """A PNG's transparent colour in the 8 bits to which Pillow has brought the samples, but not this value."""
    stored: NDArray[Any] = np.array(key)
    if bits == 16:
        return stored >> 8
    most = (1 << bits) - 1
    return np.asarray(np.minimum(stored, most) * 255 // most)  # with one bit per sample Pillow says 255 for 1


def _from_cmyk(image: Image.Image) -> Image.Image:
    icc = image.info.get("icc_profile")
    if icc:
        try:
            profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
            converted = ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
        except (ImageCms.PyCMSError, OSError):
            converted = None  # a damaged profile costs the exact colours, not the picture
        if converted is not None:
            return converted
    return image.convert("RGB")


def _turn_upright(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """The view that EXIF orientation 1..8 asks for."""
    if orientation > 4:
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels


def _encode_png(pixels: NDArray[np.uint8], level: int, icc: bytes | None) -> bytes:
    """A PNG with the filter Up in every row and, at level 1, runs but no other matches: photographs have few.

    Pillow tries five filters for every row and searches for matches: three times as long for 8 % fewer bytes (measured
    on photographs). Here nearly all of the work is outside the GIL.
    """
    height, width, channels = pixels.shape
    rows = np.ascontiguousarray(pixels).reshape(height, width * channels)
    size = struct.pack(">IIBBBBB", width, height, 8, _PNG_COLOUR_TYPES[channels], 0, 0, 0)
    parts = [b"\x89PNG\r\n\x1a\n", *_png_chunk(b"IHDR", size)]
    if icc is not None:
        parts += _png_chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(icc))
    strategy = zlib.Z_RLE if level == 1 else zlib.Z_DEFAULT_STRATEGY
    compressor = zlib.compressobj(level, strategy=strategy)
    strip = max(1, _PNG_STRIP_BYTES // (width * channels))
    for top in range(0, height, strip):
        data = compressor.compress(_filter_up(rows, top, min(top + strip, height)).data)
        if top + strip >= height:
            data += compressor.flush()
        parts += _png_chunk(b"IDAT", data)
    return b"".join([*parts, *_png_chunk(b"IEND", b"")])


def _filter_up(rows: NDArray[np.uint8], top: int, bottom: int) -> NDArray[np.uint8]:
    filtered = np.empty((bottom - top, 1 + rows.shape[1]), np.uint8)
    filtered[:, 0] = _PNG_FILTER_UP
    if top == 0:
        filtered[0, 1:] = rows[0]
        np.subtract(rows[1:bottom], rows[: bottom - 1], out=filtered[1:, 1:])
    else:
        np.subtract(rows[top:bottom], rows[top - 1 : bottom - 1], out=filtered[:, 1:])
    return filtered


def _png_chunk(name: bytes, data: bytes) -> tuple[bytes, bytes, bytes, bytes]:
    return struct.pack(">I", len(data)), name, data, struct.pack(">I", zlib.crc32(data, zlib.crc32(name)))
