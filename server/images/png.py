"""PNG encoding, faster than Pillow's and smaller."""

import struct
import zlib
from typing import Protocol

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


def encode_png(pixels: NDArray[np.uint8], level: int, icc: bytes | None) -> bytes:
    """A PNG of (H, W, C) pixels. `level`: 0 stores, 1 is fast, 2..9 take longer for fewer bytes.

    Every row has the filter Paeth: choosing one of five for each row makes photographs 1 % smaller. Level 1 is Intel's
    ISA-L, a quarter of the time of zlib's fastest (docs/benchmarks.md). The others are zlib's strategy for filtered
    data, which leaves out the short matches that make photographs larger. Nearly all of the work is outside the GIL.
    """
    height, width, channels = pixels.shape
    rows = np.ascontiguousarray(pixels).reshape(height, width * channels)
    size = struct.pack(">IIBBBBB", width, height, 8, _COLOUR_TYPES[channels], 0, 0, 0)
    parts = [b"\x89PNG\r\n\x1a\n", *_chunk(b"IHDR", size)]
    if icc is not None:
        parts += _chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(icc))
    compressor = _compressor(level)
    strip = max(1, _STRIP_BYTES // (width * channels))
    for top in range(0, height, strip):
        check_time()
        filtered = np.empty((min(strip, height - top), 1 + rows.shape[1]), np.uint8)
        if level:
            filtered[:, 0] = _PAETH
            _filter_paeth(rows, top, channels, filtered[:, 1:])
        else:
            filtered[:, 0] = _NO_FILTER
            filtered[:, 1:] = rows[top : top + strip]
        data = compressor.compress(filtered.data)
        if top + strip >= height:
            data += compressor.flush()
        if data:
            parts += _chunk(b"IDAT", data)
    return b"".join([*parts, *_chunk(b"IEND", b"")])


def _compressor(level: int) -> _Compressor:
    if level == 1:
        return isal_zlib.compressobj(1)
    if level == 0:
        return zlib.compressobj(0)
    return zlib.compressobj(max(level, _MIN_ZLIB_LEVEL), strategy=zlib.Z_FILTERED)


def _filter_paeth(rows: NDArray[np.uint8], top: int, channels: int, out: NDArray[np.uint8]) -> None:
    """Writes rows `top`... minus their prediction to `out`, which has as many.

    Of the neighbours a (left), b (above) and c (above left) the one nearest to a + b - c is the prediction, a before b
    before c if they are equally near. The distances are |b - c|, |a - c| and |a + b - 2c|. The last one is the sum of
    the first two unless c lies between a and b, when it is their difference: so 8 bits suffice, and no branch.
    """
    here = rows[top : top + len(out)]
    left = np.zeros_like(here)
    left[:, channels:] = here[:, :-channels]
    above = np.zeros((len(here), channels + here.shape[1]), np.uint8)
    above[0 if top else 1 :, channels:] = rows[top - 1 if top else 0 : top + len(here) - 1]
    above, above_left = above[:, channels:], above[:, : here.shape[1]]
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
