"""PNG, JPEG, WebP and raw bytes <-> (H, W, C) arrays. Any thread; made for the codec pool.

Decoding honours the EXIF orientation and keeps the ICC profile if it still describes the pixels. Where 8 bits are
wanted, 16-bit samples keep their high byte (v >> 8), so an 8-bit image saved with 16 bits comes back exactly.
"""

import io
import struct
import warnings
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms
from PIL.ImageFile import MAXBLOCK, ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from server.errors import InvalidRequest
from server.images.deep import read_16_bits
from server.images.header import Format, Header
from server.images.marking import Marking
from server.images.metadata.block import NOTHING, Metadata, Policy
from server.images.metadata.read import read_metadata
from server.images.metadata.write import pillow_options, png_chunks
from server.images.needed import needed_chunks, needed_riff_chunks, needed_segments
from server.images.png import encode_png
from server.images.workers import check_time

_MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
# Opened by name, not by PIL.Image.open: that one tries every format and checks pixels against a process-wide global.
_READERS: Mapping[Format, Callable[[io.BytesIO], ImageFile]] = {
    Format.PNG: PngImageFile,
    Format.JPEG: JpegImageFile,
    Format.WEBP: WebPImageFile,
}
_DAMAGE = (OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError, OverflowError, struct.error, zlib.error)
# Of an ICC profile: where its list of tags begins, and the most that Little CMS reads.
_TAGS_AT, _TAG_BYTES, _MAX_TAGS = 132, 12, 100
_ICC_SPACES = {1: b"GRAY", 2: b"GRAY", 3: b"RGB ", 4: b"RGB "}
# Pillow warns of damage beside the pixels, such as EXIF data that is cut short, which concerns nobody.
warnings.filterwarnings("ignore", module=r"PIL\.")
_DEFAULT_QUALITY = {Format.PNG: 1, Format.JPEG: 90, Format.WEBP: 90, Format.RAW: 0}
_QUALITY_RANGE = {Format.PNG: (0, 9), Format.JPEG: (1, 100), Format.WEBP: (1, 100)}
# That may have 16 bits.
DEEP_FORMATS = (Format.PNG, Format.RAW)
_MAX_SIDE_PX = {Format.JPEG: 65_500, Format.WEBP: 16_383}
# A file is decoded in about so many pieces if it is small: a few hundred bytes may be ten passes over a large image.
_PIECES = 256
# Method 2 of 0..6 takes half the time of Pillow's default 4 for about 3 % more bytes.
_WEBP_WAYS: tuple[dict[str, Any], ...] = ({"method": 2}, {"method": 4}, {"lossless": True, "method": 0, "quality": 0})
_WEBP_OVERFLOW = "encoding error 6"


@dataclass(frozen=True)
class DecodedImage:
    """`pixels`: (H, W, C) uint8, or uint16 of 16 bits; C is 1 grey, 2 grey and alpha, 3 RGB, 4 RGBA."""

    pixels: NDArray[Any]
    metadata: Metadata = NOTHING


@dataclass(frozen=True)
class Encoding:
    """How images are encoded. `quality`: JPEG and WebP 1..100; PNG compression level 0..9. `metadata`: what of the sent
    image's is kept. `marking`: what it says of itself."""

    format: Format
    quality: int
    bits: int = 0  # 8 or 16; 0: not given
    metadata: Policy = Policy.ICC
    marking: Marking | None = None

    @staticmethod
    def of(kind: Format, quality: int | None, bits: int = 0) -> "Encoding":
        """The encoding with that quality, or with the format's default quality.

        Raises:
            InvalidRequest: a quality out of the format's range, or bits that it does not have.
        """
        if bits not in (0, 8, 16):
            raise InvalidRequest(f"encoding.bits: {bits}; must be 8 or 16")
        if bits == 16 and kind not in DEEP_FORMATS:
            raise InvalidRequest(f"encoding.bits: 16, but {kind} has 8 bits; use PNG or RAW")
        if quality is None:
            return Encoding(kind, _DEFAULT_QUALITY[kind], bits)
        if kind is Format.RAW:
            raise InvalidRequest(f"encoding.quality: {quality} given, but raw images have none; leave it unset")
        low, high = _QUALITY_RANGE[kind]
        if not low <= quality <= high:
            raise InvalidRequest(f"encoding.quality: {quality}; {kind} accepts {low}..{high}")
        return Encoding(kind, quality, bits)

    def check(self, width: int, height: int, channels: int) -> None:
        """Returns if an image of this size can be encoded so.

        Raises:
            InvalidRequest: alpha in a JPEG, more channels than an image has, or a side longer than the format supports.
        """
        if self.format is not Format.RAW and channels not in _MODES:
            raise InvalidRequest(f"encoding.format: {self.format} does not support {channels} channels; use RAW")
        if self.format is Format.JPEG and channels in (2, 4):
            raise InvalidRequest(
                "encoding.format: JPEG does not support alpha, which the image has; use PNG or WebP, or set alpha to "
                "DROP"
            )
        max_side_px = _MAX_SIDE_PX.get(self.format)
        if max_side_px is not None and max(width, height) > max_side_px:
            raise InvalidRequest(
                f"encoding.format: image is {width} x {height} px, {self.format} supports at most {max_side_px} px per "
                "side; use PNG"
            )

    def channels(self, channels: int) -> int:
        """Channels of the encoded image: WebP has no grey."""
        return channels if self.format is not Format.WEBP or channels > 2 else channels + 2


class _Source(io.BytesIO):
    """The bytes of an image for Pillow, which reads them in pieces: between two, time is checked."""

    def read(self, size: int | None = -1, /) -> bytes:
        check_time()
        return super().read(size)


def decode(data: bytes, header: Header, bits: int = 8, metadata_bytes: int | None = None) -> DecodedImage:
    """The image that `header` was read from, with `header.channels` channels of `bits` bits, upright.

    CMYK becomes sRGB, by its profile if it has one. 8 bits become 16 exactly: v * 257. `metadata_bytes`: of EXIF, XMP
    and texts at most; None: they are not read.

    Raises:
        InvalidRequest: damaged or cut short.
        ImageTooLarge: it takes longer than a worker's limit, or has more metadata.
    """
    whole = data
    try:
        if header.format is Format.PNG:
            data = needed_chunks(data, header.stored_size[1])
        elif header.format is Format.JPEG:
            data = needed_segments(data)
        else:
            data = needed_riff_chunks(data)
        metadata = read_metadata(whole, header.format, metadata_bytes)  # second: the first refuses very many chunks
        with _opened(data, header) as image:
            if image.size != header.stored_size:
                raise ValueError(f"the header says {header.stored_size}, the pixels {image.size}")
            image.decodermaxblock = min(max(len(data) // _PIECES, 256), MAXBLOCK)
            if bits == 16 and header.bits == 16:
                samples: NDArray[Any] = read_16_bits(image, partial(_opened, data, header), header.channels)
            else:
                image.load()
                samples = _to_pixels(image, header)
            pixels = _turn_upright(samples, header.orientation)
            icc = image.info.get("icc_profile")
    except _DAMAGE as error:
        raise InvalidRequest(f"image: damaged {header.format}: {error}") from None
    if bits == 16 and pixels.dtype == np.uint8:
        pixels = pixels.astype(np.uint16) * np.uint16(257)
    describes = isinstance(icc, bytes) and icc[16:20] == _ICC_SPACES[header.channels]
    return DecodedImage(np.ascontiguousarray(pixels), replace(metadata, icc=icc if describes else None))


def _opened(data: bytes, header: Header) -> ImageFile:
    return _READERS[header.format](_Source(data))


def decode_raw(data: bytes, header: Header, bits: int = 8) -> DecodedImage:
    """Raw pixels, row-major (height, width, channels) of `header.bits` bits, with `bits`; a read-only view if they are
    the same. See `raw_header`."""
    samples = np.frombuffer(data, np.uint8 if header.bits == 8 else "<u2")
    pixels = samples.reshape(header.height, header.width, -1)
    if bits > header.bits:
        pixels = pixels.astype(np.uint16) * np.uint16(257)
    elif bits < header.bits:
        pixels = (pixels >> 8).astype(np.uint8)
    return DecodedImage(pixels)


def raw_header(nbytes: int, width: int, height: int, bits: int = 8) -> Header:
    """The header of raw pixels; the channels follow from the byte count.

    Raises:
        InvalidRequest: a size missing, or a byte count that is not 1, 3 or 4 channels.
    """
    if not width or not height:
        raise InvalidRequest(f"raw_width, raw_height: {width} x {height}; set both, or neither for an encoded image")
    if bits not in (8, 16):
        raise InvalidRequest(f"raw_bits: {bits}; must be 8 or 16")
    channel_bytes = width * height * bits // 8
    channels = nbytes // channel_bytes
    if channels not in (1, 3, 4) or channels * channel_bytes != nbytes:
        raise InvalidRequest(f"image: {nbytes} bytes is not {height} x {width} x 1, 3 or 4 channels of uint{bits}")
    return Header(Format.RAW, width, height, channels, bits)


def encode(decoded: DecodedImage, encoding: Encoding) -> bytes:
    """The encoded image: the same bytes for the same pixels. Its metadata are those that the format holds (see
    `server.images.metadata.write.fit`)."""
    pixels = decoded.pixels
    if encoding.format is Format.RAW:
        return pixels.astype(pixels.dtype.newbyteorder("<"), copy=False).tobytes()
    if encoding.format is Format.PNG:
        return encode_png(pixels, encoding.quality, png_chunks(decoded.metadata))
    options = pillow_options(decoded.metadata, encoding.format)
    if encoding.format is Format.WEBP:
        return _encode_webp(_to_image(pixels), encoding.quality, options)
    output = io.BytesIO()
    _to_image(pixels).save(output, "JPEG", quality=encoding.quality, **options)
    return output.getvalue()


def _encode_webp(image: Image.Image, quality: int, options: Mapping[str, Any]) -> bytes:
    """A WebP. Of a large image whose blocks are all alike, the ways in which they are predicted may need more than the
    512 KiB that the lossy form has for them, which nobody knows before: libwebp's slower methods choose others then,
    and the lossless form has no such limit."""
    for way in _WEBP_WAYS:
        output = io.BytesIO()
        try:
            image.save(output, "WEBP", **({"quality": quality} | way), **options)
        except (ValueError, OSError) as error:
            if way is _WEBP_WAYS[-1] or _WEBP_OVERFLOW not in str(error):
                raise
            check_time()
        else:
            break
    return output.getvalue()


def to_grey(pixels: NDArray[Any]) -> NDArray[Any]:
    """Luma (ITU-R 601) of (H, W, 3), uint8 or float32, as (H, W, 1); equal channels come back exactly."""
    if pixels.dtype == np.float32:
        red, green, blue = (pixels[..., c : c + 1] for c in range(3))
        return np.asarray(green + (red - green) * np.float32(0.299) + (blue - green) * np.float32(0.114))
    return np.asarray(_to_image(pixels).convert("L"))[..., None]


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
    white = (1 << bits) - 1
    return np.asarray(np.minimum(stored, white) * 255 // white)  # with one bit per sample Pillow says 255 for 1


def _from_cmyk(image: Image.Image) -> Image.Image:
    icc = image.info.get("icc_profile")
    if icc:
        try:
            profile = ImageCms.ImageCmsProfile(io.BytesIO(_without_elements(icc)))
            converted = ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
        except (ImageCms.PyCMSError, OSError):
            converted = None  # a damaged profile costs the exact colours, not the image
        if converted is not None:
            return converted
    return image.convert("RGB")


def _without_elements(icc: bytes) -> bytes:
    """The profile without its tables of elements (tags D2B0 to D2B3): a few bytes of them may be a million steps for
    each colour, which nothing interrupts. Profiles have other tables beside them."""
    profile = bytearray(icc)
    for at in range(_TAGS_AT, min(len(profile), _TAGS_AT + _TAG_BYTES * _MAX_TAGS), _TAG_BYTES):
        if profile[at : at + 3] == b"D2B":
            profile[at : at + 1] = b"-"
    return bytes(profile)


def _turn_upright(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """The view that EXIF orientation 1..8 describes."""
    if orientation > 4:
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels
