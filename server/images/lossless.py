"""What a decoder takes for the prefix codes of a lossless WebP beside its pixels, read from the stream's beginning.

A lossless WebP (RFC 9649, section 3) may have other prefix codes for each block of pixels, and 3 bytes of a file make a
group of five that takes 6 kB or more. How many there are is behind the transforms, whose images are read here for that;
the pixels are not.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from server.errors import InvalidRequest
from server.images.workers import check_time

# Blocks with prefix codes of their own: libwebp makes 2,600 at most. To read so many groups takes up to 0.2 s.
MAX_BLOCKS = 1 << 12
# Of a transform: libwebp makes 16,384 at most, others one for each 16 x 16 px.
_MAX_TRANSFORM_BLOCKS = 1 << 18
# Of a group in libwebp: the group itself, and its tables of four codes, and of the first without the colour cache.
_GROUP_BYTES, _ENTRY_BYTES, _ENTRIES, _FIRST_ENTRIES = 568, 4, 2300, 656
_PREDICTOR, _COLOUR, _GREEN, _PALETTE = range(4)
_LENGTH_CODES = (17, 18, 0, 1, 2, 3, 4, 5, 16, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)
# How often the length codes from 16 repeat, at least, and the bits that say how much more.
_REPEATS = {16: (3, 2), 17: (3, 3), 18: (11, 7)}
_MAX_CACHE_BITS = 11
_LITERALS, _LENGTHS = 256, 24
_ALPHABETS = (_LITERALS + _LENGTHS, _LITERALS, _LITERALS, _LITERALS, 40)
_MAX_CODE_BITS = 15
_CHECK_EVERY = 4096
_REVERSED = np.zeros(1, np.int64)
for _ in range(_MAX_CODE_BITS):
    _REVERSED = np.concatenate([_REVERSED << 1, _REVERSED << 1 | 1])

# By the next bits of the stream: a symbol << 4 | the bits of its code; and the mask of those bits.
_Table = tuple[list[int], int]


def prefix_code_bytes(stream: memoryview, width: int, height: int) -> int:
    """Memory for the prefix codes of an image of `width` x `height`. `stream`: from its transforms on.

    Raises:
        InvalidRequest: it is damaged, or has more blocks than encoders make.
        ImageTooLarge, Left: see `server.images.workers.check_time`.
    """
    bits = _Bits(stream)
    seen = set()
    while bits.read(1):
        if (kind := bits.read(2)) in seen:
            raise _damaged("a transform twice")
        seen.add(kind)
        if kind in (_PREDICTOR, _COLOUR):
            _read_pixels(bits, _read_blocks(bits, width, height, _MAX_TRANSFORM_BLOCKS))
        elif kind == _PALETTE:
            colours = bits.read(8) + 1
            _read_pixels(bits, colours)
            packed = 8 if colours <= 2 else 4 if colours <= 4 else 2 if colours <= 16 else 1
            width = -(-width // packed)
    cache = _read_cache(bits)
    groups = 1
    if bits.read(1):
        blocks = _read_blocks(bits, width, height, MAX_BLOCKS)
        groups = _read_pixels(bits, blocks) + 1
        if groups > blocks:  # those that no block has are read as well
            raise InvalidRequest(f"image: lossless WebP with {groups} groups of prefix codes for {blocks} blocks")
    return groups * (_GROUP_BYTES + _ENTRY_BYTES * (_ENTRIES + _FIRST_ENTRIES + cache))


def _damaged(what: str) -> InvalidRequest:
    return InvalidRequest(f"image: damaged WebP: {what}")


class _Bits:
    """The bits of a stream, the lowest of each byte first. `at`: how many were read."""

    def __init__(self, stream: memoryview) -> None:
        self.stream = stream
        self.at = 0

    def read(self, count: int) -> int:
        """The number that the next `count` bits are, 16 at most."""
        value = self._window() & ((1 << count) - 1)
        self._skip(count)
        return value

    def read_symbol(self, table: _Table) -> int:
        """The symbol that comes next."""
        entries, mask = table
        entry = entries[self._window() & mask]
        self._skip(entry & 15)
        return entry >> 4

    def _window(self) -> int:
        return int.from_bytes(self.stream[self.at >> 3 : (self.at >> 3) + 3], "little") >> (self.at & 7)

    def _skip(self, count: int) -> None:
        self.at += count
        self.check()

    def check(self) -> None:
        """Returns if there were as many bits as were read."""
        if self.at > 8 * len(self.stream):
            raise _damaged("its prefix codes are cut short")


def _read_blocks(bits: _Bits, width: int, height: int, most: int) -> int:
    """How many blocks of the size that comes next an image has."""
    shift = bits.read(3) + 2
    blocks = -(-width >> shift) * -(-height >> shift)
    if blocks > most:
        raise InvalidRequest(
            f"image: lossless WebP in {blocks} blocks of {1 << shift} x {1 << shift} px, at most {most}; save it again "
            "with larger ones, or as PNG"
        )
    return blocks


def _read_cache(bits: _Bits) -> int:
    """Colours in the cache; 0: it has none."""
    if not bits.read(1):
        return 0
    if not 1 <= (cache_bits := bits.read(4)) <= _MAX_CACHE_BITS:
        raise _damaged(f"a colour cache of {cache_bits} bits")
    return 1 << cache_bits


def _read_pixels(bits: _Bits, count: int) -> int:
    """Reads an image inside of the stream, without making it. The largest number that its red and green are."""
    cache = _read_cache(bits)
    sizes = (_ALPHABETS[0] + cache, *_ALPHABETS[1:])
    (greens, green_mask), (reds, red_mask), (blues, blue_mask), (alphas, alpha_mask), (spans, span_mask) = (
        _table(_read_lengths(bits, size)) for size in sizes
    )
    stream, at = bits.stream, bits.at
    largest = steps = 0
    while count > 0:
        window = int.from_bytes(stream[at >> 3 : (at >> 3) + 16], "little") >> (at & 7)  # a pixel has 75 bits at most
        entry = greens[window & green_mask]
        used, green = entry & 15, entry >> 4
        if green < _LITERALS:
            entry = reds[window >> used & red_mask]
            used += entry & 15
            largest = max(largest, entry >> 4 << 8 | green)
            used += blues[window >> used & blue_mask] & 15
            used += alphas[window >> used & alpha_mask] & 15
            if not used:  # and so are all the others
                break
            count -= 1
        elif green < _LITERALS + _LENGTHS:
            length, extra_bits = _copied(green - _LITERALS)
            count -= length + (window >> used & ((1 << extra_bits) - 1))
            used += extra_bits
            entry = spans[window >> used & span_mask]
            used += (entry & 15) + _copied(entry >> 4)[1]
        else:
            count -= 1
        at += used
        steps += 1
        if not steps % _CHECK_EVERY:
            check_time()
    bits.at = at
    bits.check()
    if count < 0:
        raise _damaged("a copy beyond its image")
    return largest


def _copied(symbol: int) -> tuple[int, int]:
    """Of a length or distance: its least, and the bits that are added to it."""
    if symbol < 4:
        return symbol + 1, 0
    extra_bits = (symbol - 2) >> 1
    return ((2 + (symbol & 1)) << extra_bits) + 1, extra_bits


def _read_lengths(bits: _Bits, alphabet: int) -> Sequence[int]:
    """How many bits the code of each symbol has; 0: it is not used."""
    lengths = [0] * max(alphabet, _LITERALS)
    if bits.read(1):
        has_two = bits.read(1)
        lengths[bits.read(8 if bits.read(1) else 1)] = 1
        if has_two:
            lengths[bits.read(8)] = 1
        return lengths[:alphabet]
    given = [0] * len(_LENGTH_CODES)
    for symbol in _LENGTH_CODES[: bits.read(4) + 4]:
        given[symbol] = bits.read(3)
    left = bits.read(2 * bits.read(3) + 2) + 2 if bits.read(1) else alphabet
    if left > alphabet:
        raise _damaged("more codes than symbols")
    table = _table(given)
    at, last = 0, 8
    while at < alphabet and left:
        left -= 1
        length = bits.read_symbol(table)
        repeat = 1
        if length in _REPEATS:
            least, extra_bits = _REPEATS[length]
            repeat = least + bits.read(extra_bits)
            length = last if length == 16 else 0
        elif length:
            last = length
        if at + repeat > alphabet:
            raise _damaged("more codes than symbols")
        lengths[at : at + repeat] = [length] * repeat
        at += repeat
    return lengths[:alphabet]


def _table(lengths: Sequence[int]) -> _Table:
    """Of a canonical prefix code with so many bits for each symbol. A symbol that is alone has none."""
    given: NDArray[np.int64] = np.array(lengths)
    symbols = np.flatnonzero(given)
    if len(symbols) == 1:
        return [int(symbols[0]) << 4], 0
    symbols = symbols[np.argsort(given[symbols], kind="stable")]
    used = given[symbols]
    most = int(used[-1]) if len(used) else 0
    spans = 1 << (most - used)
    if spans.sum() != 1 << most:
        raise _damaged("a prefix code that is not complete")
    entries = np.repeat(symbols << 4 | used, spans)
    return entries[_REVERSED[: 1 << most] >> (_MAX_CODE_BITS - most)].tolist(), (1 << most) - 1
