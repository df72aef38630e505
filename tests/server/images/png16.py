"""PNGs of 16 bits written and read by the letter of the format, since Pillow does neither in colour."""

import struct
import zlib
from typing import Any

import numpy as np

COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def write_png16(pixels: Any, *chunks: tuple[bytes, bytes]) -> bytes:
    """Of (H, W, C) uint16; the rows have the filters 0 to 4 in turn."""
    height, width, channels = pixels.shape
    step = 2 * channels
    rows = np.frombuffer(pixels.astype(">u2").tobytes(), np.uint8).reshape(height, -1).astype(int)
    out, above = b"", np.zeros(rows.shape[1], int)
    for number, row in enumerate(rows):
        left = np.concatenate([np.zeros(step, int), row[:-step]])
        corner = np.concatenate([np.zeros(step, int), above[:-step]])
        guess = left + above - corner
        ways = np.stack([left, above, corner])
        paeth = np.take_along_axis(ways, np.abs(guess - ways).argmin(axis=0)[None], 0)[0]
        predicted = [0 * row, left, above, (left + above) // 2, paeth][number % 5]
        out += bytes([number % 5]) + ((row - predicted) % 256).astype(np.uint8).tobytes()
        above = row
    size = struct.pack(">IIBBBBB", width, height, 16, COLOUR_TYPES[channels], 0, 0, 0)
    parts = [_chunk(b"IHDR", size), *(_chunk(*each) for each in chunks), _chunk(b"IDAT", zlib.compress(out))]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts) + _chunk(b"IEND", b"")


def read_png16(data: bytes) -> Any:
    """(H, W, C) uint16 of a PNG of 16 bits whose rows have no filter, as level 0 writes them."""
    width, height, bits, colour = struct.unpack_from(">IIBB", data, 16)
    assert bits == 16
    at, packed = 33, b""
    while data[at + 4 : at + 8] != b"IEND":
        (size,) = struct.unpack_from(">I", data, at)
        if data[at + 4 : at + 8] == b"IDAT":
            packed += data[at + 8 : at + 8 + size]
        at += 12 + size
    rows = np.frombuffer(zlib.decompress(packed), np.uint8).reshape(height, -1)
    assert not rows[:, 0].any()
    channels = next(channels for channels, kind in COLOUR_TYPES.items() if kind == colour)
    return np.frombuffer(rows[:, 1:].tobytes(), ">u2").reshape(height, width, channels).astype(np.uint16)
