"""PNG encoding, row by row, faster than Pillow's and smaller."""

import struct
import zlib
from typing import Any, Protocol

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

from server.images.workers import check_time

_COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}
# What is filtered and compressed at a time: some twenty buffers of it stay in a core's cache.
_STRIP_BYTES = 1 << 17
_NO_FILTER, _PAETH = 0, 4
# zlib's levels 2 and 3 make photographs larger than ISA-L does, in four times its time.
_MIN_ZLIB_LEVEL = 4


class _Compressor(Protocol):
    def compress(self, data: memoryview, /) -> bytes: ...

    def flush(self) -> bytes: ...


class PngWriter:
    """A PNG of rows as they come.

    Every row has the filter Paeth: choosing one of five for each row makes photographs 1 % smaller. Level 1 is Intel's
    ISA-L, a quarter of the time of zlib's fastest (docs/benchmarks.md). The others are zlib's strategy for filtered
    data, which leaves out the short matches that make photographs larger. Nearly all of the work is outside the GIL.
    """

    def __init__(self, shape: tuple[int, int, int], level: int, bits: int = 8, chunks: bytes = b"") -> None:
        """`shape`: (H, W, C). `level`: 0 stores, 1 is fast, 2..9 take longer for fewer bytes. `bits`: 8, or 16 of rows
        of uint16. `chunks`: further ones, before the pixels."""
        height, width, channels = shape
        self._pixel_bytes = channels * bits // 8
        size = struct.pack(">IIBBBBB", width, height, bits, _COLOUR_TYPES[channels], 0, 0, 0)
        self._parts = [b"\x89PNG\r\n\x1a\n", *_chunk(b"IHDR", size)]
        self._parts.append(chunks)
        self._level = level
        self._compressor = _compressor(level)
        self._strip = max(1, _STRIP_BYTES // (width * self._pixel_bytes))
        self._above = np.zeros((1, width * self._pixel_bytes), np.uint8)
        self._waiting: list[NDArray[np.uint8]] = []  # less than a strip
        self._left = height  # rows to come
        self._raw_bytes = self._encoded_bytes = 0

    def space(self, top: int, bottom: int) -> None:
        """Rows need no place of their own."""
        return

    def write(self, rows: NDArray[Any]) -> None:
        """Encodes the next rows, (h, W, C): strips of one size, however many rows come at once, so that an image gives
        the same bytes whichever way it was made."""
        if rows.dtype == np.uint16:
            rows = rows.astype(">u2")
        lines = np.ascontiguousarray(rows).reshape(len(rows), -1).view(np.uint8)
        self._left -= len(lines)
        if self._waiting:  # they are completed first
            missing = self._strip - sum(map(len, self._waiting))
            self._waiting.append(lines[:missing].copy())
            lines = lines[missing:]
            if not lines.size and missing > len(self._waiting[-1]) and self._left:
                return
            self._encode(np.concatenate(self._waiting), not lines.size)
            self._waiting = []
        for top in range(0, len(lines), self._strip):
            strip = lines[top : top + self._strip]
            if len(strip) < self._strip and self._left:
                # A copy: the rows may be a view of something large, or be written to again.
                self._waiting = [strip.copy()]
                return
            self._encode(strip, top + self._strip >= len(lines))

    def take(self) -> bytes:
        """What is encoded so far and was not taken yet."""
        data = b"".join(self._parts)
        self._parts = []
        return data

    @property
    def share(self) -> float | None:
        """Of the rows' bytes, what they take as encoded so far; None before there are any."""
        return self._encoded_bytes / self._raw_bytes if self._encoded_bytes else None

    def _encode(self, lines: NDArray[np.uint8], ends: bool) -> None:
        """Encodes a strip; `ends`: it is the last one if no more rows are to come."""
        check_time()
        filtered = np.empty((len(lines), 1 + lines.shape[1]), np.uint8)
        if self._level:
            filtered[:, 0] = _PAETH
            _filter_paeth(lines, self._above, self._pixel_bytes, filtered[:, 1:])
            self._above = lines[-1:].copy()
        else:
            filtered[:, 0] = _NO_FILTER
            filtered[:, 1:] = lines
        data = self._compressor.compress(filtered.data)
        is_last = ends and not self._left
        if is_last:
            data += self._compressor.flush()
        self._raw_bytes += lines.nbytes
        self._encoded_bytes += len(data)
        if data:
            self._parts += _chunk(b"IDAT", data)
        if is_last:
            self._parts += _chunk(b"IEND", b"")


def encode_png(pixels: NDArray[Any], level: int, chunks: bytes = b"") -> bytes:
    """A PNG of (H, W, C) pixels; see `PngWriter`."""
    height, width, channels = pixels.shape
    writer = PngWriter((height, width, channels), level, 8 * pixels.dtype.itemsize, chunks)
    writer.write(pixels)
    return writer.take()


def _compressor(level: int) -> _Compressor:
    if level == 1:
        return isal_zlib.compressobj(1)
    if level == 0:
        return zlib.compressobj(0)
    return zlib.compressobj(max(level, _MIN_ZLIB_LEVEL), strategy=zlib.Z_FILTERED)


def _filter_paeth(here: NDArray[np.uint8], before: NDArray[np.uint8], step: int, out: NDArray[np.uint8]) -> None:
    """Writes rows minus their prediction to `out`, which has as many. `before`: the row above them, (1, row bytes).
    `step`: bytes of a pixel.

    Of the neighbours a (left), b (above) and c (above left) the one nearest to a + b - c is the prediction, a before b
    before c if they are equally near. The distances are |b - c|, |a - c| and |a + b - 2c|. The last one is the sum of
    the first two unless c lies between a and b, when it is their difference: so 8 bits suffice, and no branch.
    """
    left = np.zeros_like(here)
    left[:, step:] = here[:, :-step]
    above = np.zeros((len(here), step + here.shape[1]), np.uint8)
    above[:1, step:] = before
    above[1:, step:] = here[:-1]
    above, above_left = above[:, step:], above[:, : here.shape[1]]
    to_left = np.maximum(above, above_left) - np.minimum(above, above_left)
    to_above = np.maximum(left, above_left) - np.minimum(left, above_left)
    nearer = np.minimum(to_left, to_above)
    between = (left < above_left) != (above < above_left)
    diagonal = between & (np.maximum(to_left, to_above) - nearer < nearer)
    # A comparison as a mask of 0 or 255 chooses without a branch: b ^ ((a ^ b) & mask) is a or b.
    prediction = above ^ ((left ^ above) & _mask(to_left <= to_above))
    prediction ^= (prediction ^ above_left) & _mask(diagonal)
    np.subtract(here, prediction, out=out)


def _mask(chosen: NDArray[np.bool_]) -> NDArray[np.uint8]:
    return np.negative(chosen.view(np.uint8))


def _chunk(name: bytes, data: bytes) -> tuple[bytes, bytes, bytes, bytes]:
    return struct.pack(">I", len(data)), name, data, struct.pack(">I", isal_zlib.crc32(data, isal_zlib.crc32(name)))
