"""The parts of a file that its pixels need. Programs put megabytes of others beside them.

Pillow reads every chunk of a PNG, refuses a file whose texts are long, puts the EXIF blocks of a JPEG together by
copying all of them for each, and libwebp takes memory for each chunk while other threads wait; so they get a file
without them.
"""

import struct

from server.errors import InvalidRequest
from server.images.header import jpeg_segments, riff_chunks
from server.images.workers import check_time

_SIGNATURE_BYTES = 8
_NEEDED = frozenset(
    (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"iCCP", b"sRGB", b"gAMA", b"cHRM", b"cICP", b"pHYs", b"acTL")
)
_CHECK_EVERY = 4096
# Encoders write at least a row of pixels, most of them 8 kB or more, into each. Pillow takes 10 us for one, and keeps
# other threads waiting.
_CHUNKS_PER_ROW = 2  # an interlaced picture has nearly twice as many rows
_CHUNK_BYTES = 4096
_FEW_PIXEL_CHUNKS = 4096
# Drawing programs write one for each note or layer.
_MAX_OTHER_CHUNKS = 1 << 16
# Of a JPEG: its frame and tables, and of applications' those that say what its samples are.
_TABLES = frozenset((*range(0xC0, 0xD0), 0xDB, 0xDC, 0xDD, 0xE0, 0xEE))
_PROFILE, _ICC = 0xE2, b"ICC_PROFILE\0"
_SCAN = 0xDA
# Of the former together: a few hundred bytes and perhaps a thumbnail. Pillow takes 5 ms for 64 kB of tables.
_MAX_TABLE_BYTES = 1 << 18
# Any number of them may come before a marker, and the decoder keeps them until it comes: 60 MB take 25 s. So many
# are kept of a row: at least as many as a segment with its size has bytes, in which they may be no fill bytes.
_FILL, _MAX_FILLS = b"\xff" * (1 << 15), 2
# Of a WebP. What comes after the pixels does not concern them.
_NEEDED_RIFF, _PIXELS_RIFF = frozenset((b"VP8X", b"ICCP", b"ALPH", b"VP8 ", b"VP8L")), (b"VP8 ", b"VP8L")


def needed_chunks(data: bytes, rows: int) -> bytes:
    """A PNG without the chunks that do not concern its pixels, and those that are there again; itself if it has none.
    What is cut short stays so. `rows`: its height.

    Raises:
        InvalidRequest: it has more chunks than programs make.
        ImageTooLarge, Left: see `server.images.workers.check_time`.
    """
    parts: list[memoryview] = []
    view = memoryview(data)
    kept_from = 0  # of the part that is not in `parts` yet
    at, count, pixel_chunks = _SIGNATURE_BYTES, 0, 0
    most = max(_FEW_PIXEL_CHUNKS, _CHUNKS_PER_ROW * rows, len(data) // _CHUNK_BYTES)
    seen: set[bytes] = set()
    while at + 8 <= len(data):
        size, name = struct.unpack_from(">I4s", data, at)
        end = at + 12 + size
        if name == b"IDAT":
            pixel_chunks += 1
            if pixel_chunks > most:
                raise InvalidRequest(f"image: PNG with its pixels in more than {most} chunks; save it again")
        elif name not in _NEEDED or name in seen:
            if at > kept_from:
                parts.append(view[kept_from:at])
            kept_from = end
        else:
            seen.add(name)
        count += 1
        if count - pixel_chunks > _MAX_OTHER_CHUNKS:
            raise InvalidRequest(
                f"image: PNG with more than {_MAX_OTHER_CHUNKS} chunks beside its pixels; save it again"
            )
        if not count % _CHECK_EVERY:
            check_time()
        at = end
        if name == b"IEND":
            break
    if not kept_from:
        return data
    return b"".join([*parts, view[kept_from:]])


def needed_segments(data: bytes) -> bytes:
    """A JPEG without the segments that do not concern its pixels, what lies between them, and many fill bytes; itself
    if it has none. Pillow finds the segments in another way: so it finds the same.

    Raises:
        InvalidRequest: it is damaged, or has more tables than programs make.
    """
    view = memoryview(data)
    parts = [view[:2]]
    table_bytes = 0
    for marker, at, size in jpeg_segments(data):
        if marker in _TABLES:
            table_bytes += size
            if table_bytes > _MAX_TABLE_BYTES:
                raise InvalidRequest(f"image: JPEG of more than {_MAX_TABLE_BYTES} bytes of tables; save it again")
        if marker == _SCAN:
            parts += _without_fill(data, at - 2)
        elif marker in _TABLES or (marker == _PROFILE and data[at + 2 : at + 2 + len(_ICC)] == _ICC):
            parts.append(view[at - 2 : at + size])
    needed = sum(map(len, parts))
    return data if needed == len(data) else b"".join(parts)


def _without_fill(data: bytes, start: int) -> list[memoryview]:
    """The parts of what comes from there on, without most of very many fill bytes in a row."""
    view = memoryview(data)
    parts: list[memoryview] = []
    kept_from, fills = start, 0
    for at in range(start, len(data), len(_FILL)):
        fills = fills + 1 if data.startswith(_FILL, at) else 0
        if fills > _MAX_FILLS:
            parts.append(view[kept_from:at])
            kept_from = at + len(_FILL)
    return [*parts, view[kept_from:]]


def needed_riff_chunks(data: bytes) -> bytes:
    """A WebP without the chunks that do not concern its pixels; itself if it has none. What is cut short stays so."""
    view = memoryview(data)
    parts: list[memoryview] = []
    seen: set[bytes] = set()
    for name, at, size in riff_chunks(data):
        if name in _NEEDED_RIFF and name not in seen:
            seen.add(name)
            parts.append(view[at - 8 : at + size + size % 2])
        if name in _PIXELS_RIFF:
            break
    needed = sum(map(len, parts))
    if 12 + needed == len(data):
        return data
    return b"".join((b"RIFF", struct.pack("<I", 4 + needed), b"WEBP", *parts))
