"""PNG encoding, faster than Pillow's."""

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

from server.images.workers import check_time

_COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}
_STRIP_BYTES = 1 << 20
_FILTER_UP = 2


def encode_png(pixels: NDArray[np.uint8], level: int, icc: bytes | None) -> bytes:
    """A PNG of (H, W, C) pixels with the filter Up in every row and, at level 1, runs but no other matches: photographs
    have few.

    Pillow tries five filters for every row and searches for matches: three times as long for 8 % fewer bytes (measured
    on photographs). Here nearly all of the work is outside the GIL.
    """
    height, width, channels = pixels.shape
    rows = np.ascontiguousarray(pixels).reshape(height, width * channels)
    size = struct.pack(">IIBBBBB", width, height, 8, _COLOUR_TYPES[channels], 0, 0, 0)
    parts = [b"\x89PNG\r\n\x1a\n", *_chunk(b"IHDR", size)]
    if icc is not None:
        parts += _chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(icc))
    strategy = zlib.Z_RLE if level == 1 else zlib.Z_DEFAULT_STRATEGY
    compressor = zlib.compressobj(level, strategy=strategy)
    strip = max(1, _STRIP_BYTES // (width * channels))
    for top in range(0, height, strip):
        check_time()
        data = compressor.compress(_filter_up(rows, top, min(top + strip, height)).data)
        if top + strip >= height:
            data += compressor.flush()
        parts += _chunk(b"IDAT", data)
    return b"".join([*parts, *_chunk(b"IEND", b"")])


def _filter_up(rows: NDArray[np.uint8], top: int, bottom: int) -> NDArray[np.uint8]:
    filtered = np.empty((bottom - top, 1 + rows.shape[1]), np.uint8)
    filtered[:, 0] = _FILTER_UP
    if top == 0:
        filtered[0, 1:] = rows[0]
        np.subtract(rows[1:bottom], rows[: bottom - 1], out=filtered[1:, 1:])
    else:
        np.subtract(rows[top:bottom], rows[top - 1 : bottom - 1], out=filtered[:, 1:])
    return filtered


def _chunk(name: bytes, data: bytes) -> tuple[bytes, bytes, bytes, bytes]:
    return struct.pack(">I", len(data)), name, data, struct.pack(">I", zlib.crc32(data, zlib.crc32(name)))
