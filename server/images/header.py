"""The header of a PNG, JPEG or WebP file, read from the bytes alone: no pixel is decoded.

So an image's size is known, and may be rejected, before any library has allocated memory for it. The number of segments
is bounded: a file made of a million empty ones costs no more than an image.
"""

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from server.errors import InvalidRequest
from server.images.lossless import prefix_code_bytes
from server.images.workers import Workers, check_time

# Of a file: to look through a longer one may take a second, during which the loop would answer nobody.
LONG_BYTES = 1 << 18
# More segments before the pixels than any real file has.
_MAX_SEGMENTS = 2048
# Of a PNG: drawing programs write one for each note or layer. So many are read in less than a tenth of a second.
_MAX_CHUNKS = 1 << 16
# Of a progressive JPEG. A few bytes of a scan cost a pass over the whole image; encoders write about ten.
_MAX_SCANS = 100
_ORIENTATION_TAG = 0x0112
# A marker, possibly after fill bytes or a little of the junk that some cameras leave between segments.
_JPEG_MARKER = re.compile(rb"\xff([\x01-\xfe])")
_JPEG_JUNK_BYTES = 256
_JPEG_SCAN = b"\xff\xda"
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_BARE = frozenset({0x01, *range(0xD0, 0xD8)})
# Of segments before the pixels. Decoders refuse others, and Pillow takes what those hold for segments.
_JPEG_KNOWN = frozenset((*range(0xC0, 0xD0), *range(0xDA, 0xDE), *range(0xE0, 0xF0), 0xFE)) - {0xC8}
_PNG_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}
_PNG_PALETTE = 3
_PNG_BITS = (1, 2, 4, 8, 16)
_WEBP_ANIMATION, _WEBP_EXIF, _WEBP_ALPHA = 0x02, 0x08, 0x10
_WEBP_LOSSLESS = 1  # of alpha


class Format(StrEnum):
    """How an image is encoded."""

    PNG = "PNG"
    JPEG = "JPEG"
    WEBP = "WebP"
    RAW = "raw"


@dataclass(frozen=True)
class Header:
    """An image before it is decoded.

    `width` and `height` are as seen, with the EXIF `orientation` (1..8) applied. `channels` are those of the decoded
    image: 1 grey, 2 grey and alpha, 3 RGB, 4 RGBA; palette and CMYK count as RGB. `bits` per sample as stored, and
    `stored_channels` if they are others: 1 of a palette, 4 of CMYK, without alpha if that is a transparent colour.
    `codes_bytes`: of memory that decoding takes beside what each pixel does.
    """

    format: Format
    width: int
    height: int
    channels: int
    bits: int = 8
    orientation: int = 1
    stored_channels: int = 0
    codes_bytes: int = 0

    @property
    def stored_size(self) -> tuple[int, int]:
        """(width, height) before the orientation is applied."""
        return (self.height, self.width) if self.orientation > 4 else (self.width, self.height)

    @property
    def has_alpha(self) -> bool:
        """Whether the last channel is alpha."""
        return self.channels in (2, 4)


async def header_of(data: bytes, workers: Workers) -> Header:
    """As `read_header`, in a worker if that takes long. What was sent must have been counted: the call may wait."""
    return await workers.run(read_header, data, is_short=True) if takes_long(data) else read_header(data)


def takes_long(data: bytes) -> bool:
    """Whether `read_header` may: of a file that is long, or of a WebP that may be lossless."""
    return len(data) > LONG_BYTES or data[12:16] in (b"VP8L", b"VP8X")


def read_header(data: bytes) -> Header:
    """The header of an encoded image.

    Raises:
        InvalidRequest: not PNG, JPEG or WebP, damaged, animated, without pixels, or in a way that costs too much.
        ImageTooLarge, Left: see `server.images.workers.check_time`.
    """
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        kind, read = Format.PNG, _read_png
    elif data.startswith(b"\xff\xd8\xff"):
        kind, read = Format.JPEG, _read_jpeg
    elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        kind, read = Format.WEBP, _read_webp
    else:
        start = f"begins with {data[:8].hex(' ')}" if data else "is empty"
        raise InvalidRequest(
            f"image: {len(data)} bytes that {start}; must be PNG, JPEG or WebP, or raw with raw_width and raw_height"
        )
    try:
        header = read(data)
    except (struct.error, IndexError):
        raise InvalidRequest(f"image: the {kind} header is cut short ({len(data)} bytes)") from None
    if not header.width or not header.height:
        raise InvalidRequest(f"image: {header.width} x {header.height} px; must have pixels")
    return header


def _header(
    kind: Format, width: int, height: int, channels: int, bits: int, orientation: int, stored: int = 0
) -> Header:
    if orientation > 4:
        width, height = height, width
    return Header(kind, width, height, channels, bits, orientation, 0 if stored == channels else stored)


def _damaged(kind: Format, what: str) -> InvalidRequest:
    return InvalidRequest(f"image: damaged {kind}: {what}")


def _reject_animation(kind: Format) -> None:
    raise InvalidRequest(f"image: animated {kind} images are not supported; send one frame")


def _read_png(data: bytes) -> Header:
    size, name, width, height, bits, colour = struct.unpack_from(">I4sIIBB", data, 8)
    if name != b"IHDR" or size != 13 or colour not in _PNG_CHANNELS or bits not in _PNG_BITS:
        raise _damaged(Format.PNG, "no valid IHDR chunk")
    channels, orientation, has_exif = _PNG_CHANNELS[colour], 1, False
    at = 33
    for _ in range(_MAX_CHUNKS):
        size, name = struct.unpack_from(">I4s", data, at)
        if name == b"IDAT":
            stored = 1 if colour == _PNG_PALETTE else _PNG_CHANNELS[colour]
            return _header(Format.PNG, width, height, channels, bits, orientation, stored)
        if name == b"acTL" and struct.unpack_from(">I", data, at + 8) != (1,):
            _reject_animation(Format.PNG)
        if name == b"tRNS" and colour in (0, 2, 3):
            channels = _PNG_CHANNELS[colour] + 1
        if name == b"eXIf" and size and not has_exif and is_whole_chunk(data, at + 8, size):
            # Of the first, as `read_metadata` does: a file may have thousands, and each takes a millisecond.
            orientation, has_exif = _read_orientation(data[at + 8 : at + 8 + size]), True
        at += 12 + size
    raise _damaged(Format.PNG, f"no pixels within {_MAX_CHUNKS} chunks")


def is_whole_chunk(data: bytes, start: int, size: int) -> bool:
    """Whether a PNG's chunk, whose content begins there, is there to its end, and its checksum right."""
    checksum = struct.pack(">I", zlib.crc32(data[start - 4 : start + size]))
    return data[start + size : start + size + 4] == checksum


def jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Each segment of a JPEG up to the first scan, that included: its marker, the place of its size and the size.

    Raises:
        InvalidRequest: it is damaged.
        struct.error: it is cut short.
    """
    at = 2
    for _ in range(_MAX_SEGMENTS):
        found = _JPEG_MARKER.search(data, at, at + _JPEG_JUNK_BYTES)
        if found is None:
            raise _damaged(Format.JPEG, f"no marker near byte {at} of {len(data)}")
        marker, at = found[1][0], found.end()
        if marker in _JPEG_BARE:
            continue
        (size,) = struct.unpack_from(">H", data, at)
        if marker not in _JPEG_KNOWN or size < 2:
            raise _damaged(Format.JPEG, f"a segment {marker:02X} of {size} bytes before the pixels")
        yield marker, at, size
        if marker == 0xDA:
            return
        at += size
    raise _damaged(Format.JPEG, f"no pixels within {_MAX_SEGMENTS} segments")


def _read_jpeg(data: bytes) -> Header:
    frame: tuple[int, int, int, int] | None = None
    orientation, has_exif, at = 1, False, 2
    for marker, at, size in jpeg_segments(data):
        if marker in _JPEG_FRAMES:
            if frame is not None:
                raise _damaged(Format.JPEG, "two frames")
            frame = struct.unpack_from(">BHHB", data, at + 2)
        elif marker == 0xE1 and size > 8 and not has_exif and data[at + 2 : at + 8] == b"Exif\0\0":
            orientation, has_exif = _read_orientation(data[at + 8 : at + size]), True
    if frame is None:
        raise _damaged(Format.JPEG, "no frame before the pixels")
    if (scans := _count_scans(data, at - 2)) > _MAX_SCANS:
        raise InvalidRequest(f"image: JPEG of {scans} scans, at most {_MAX_SCANS}; save it as a baseline JPEG")
    bits, height, width, components = frame
    if components not in (1, 3, 4) or bits != 8:
        raise InvalidRequest(f"image: JPEG of {components} components of {bits} bits; must be 1, 3 or 4 of 8")
    return _header(Format.JPEG, width, height, min(components, 3), bits, orientation, components)


def _count_scans(data: bytes, at: int) -> int:
    """The scans from there on: coded pixels never look like a marker. By pieces, between which other threads run."""
    count = 0
    for start in range(at, len(data), LONG_BYTES):
        check_time()
        count += data.count(_JPEG_SCAN, start, start + LONG_BYTES + len(_JPEG_SCAN) - 1)
    return count


def _read_webp(data: bytes) -> Header:
    kind = data[12:16]
    orientation = 1
    if kind == b"VP8X":
        (flags,) = struct.unpack_from("B", data, 20)
        if flags & _WEBP_ANIMATION:
            _reject_animation(Format.WEBP)
        low_w, high_w, low_h, high_h = struct.unpack_from("<HBHB", data, 24)
        width, height = 1 + low_w + (high_w << 16), 1 + low_h + (high_h << 16)
        alpha = bool(flags & _WEBP_ALPHA)
        if flags & _WEBP_EXIF:
            blocks = (data[at : at + size] for name, at, size in riff_chunks(data) if name == b"EXIF" and size)
            orientation = _read_orientation(next(blocks, b""))
    elif kind == b"VP8L" and data[20] == 0x2F:
        (packed,) = struct.unpack_from("<I", data, 21)
        width, height, alpha = 1 + (packed & 0x3FFF), 1 + (packed >> 14 & 0x3FFF), bool(packed >> 28 & 1)
    elif kind == b"VP8 " and data[23:26] == b"\x9d\x01\x2a":
        packed_width, packed_height = struct.unpack_from("<HH", data, 26)
        width, height, alpha = packed_width & 0x3FFF, packed_height & 0x3FFF, False
    else:
        raise _damaged(Format.WEBP, f"unknown first chunk {kind!r}")
    header = _header(Format.WEBP, width, height, 4 if alpha else 3, 8, orientation)
    return replace(header, codes_bytes=_codes_bytes(data, width, height))


def _codes_bytes(data: bytes, width: int, height: int) -> int:
    """Of a WebP's pixels and of its alpha, each of which may be lossless."""
    nbytes = 0
    has_alpha = False
    view = memoryview(data)
    for name, at, size in riff_chunks(data):
        chunk = view[at : at + size]
        if name == b"VP8L":
            return prefix_code_bytes(chunk[5:], width, height)
        if name == b"VP8 ":
            return nbytes
        if name == b"ALPH":
            if has_alpha:
                raise _damaged(Format.WEBP, "two alpha channels")
            has_alpha = True
            if chunk[0] & 3 == _WEBP_LOSSLESS:
                nbytes = prefix_code_bytes(chunk[1:], width, height)
    raise _damaged(Format.WEBP, f"no pixels within {_MAX_SEGMENTS} chunks")


def riff_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """The name of each chunk of a WebP, the place of its content and how long that should be."""
    at = 12
    for _ in range(_MAX_SEGMENTS):
        if at + 8 > len(data):
            break
        name, size = struct.unpack_from("<4sI", data, at)
        yield name, at + 8, size
        at += 8 + size + size % 2


def _read_orientation(exif: bytes) -> int:
    """The EXIF orientation; 1 if there is none or the block is damaged, which does not concern the pixels."""
    exif = exif.removeprefix(b"Exif\0\0")
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(f"{order}I", exif, 4)
        (count,) = struct.unpack_from(f"{order}H", exif, start)
        for entry in range(start + 2, start + 2 + 12 * min(count, _MAX_SEGMENTS), 12):
            tag, kind, _, value = struct.unpack_from(f"{order}HHIH", exif, entry)
            if tag == _ORIENTATION_TAG and kind == 3 and 1 <= value <= 8:
                return int(value)
    except struct.error:
        pass
    return 1
