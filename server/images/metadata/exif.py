"""EXIF: a TIFF structure of which a few values are read, and put right where an image is upright and larger now.

Values are changed in their places, since notes of camera makers point into the block in ways that only they know.
"""

import struct
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from server.images.metadata.block import Density

_MAX_ENTRIES = 2048
_ORIENTATION, _WIDTH, _HEIGHT = 0x0112, 0x0100, 0x0101
_ACROSS, _DOWN, _UNIT = 0x011A, 0x011B, 0x0128
_INCH, _CENTIMETRE = 2, 3
_EXIF_IFD, _PIXELS_ACROSS, _PIXELS_DOWN = 0x8769, 0xA002, 0xA003
_THUMBNAIL, _THUMBNAIL_BYTES = 0x0201, 0x0202
_SHORT, _LONG, _RATIONAL = 3, 4, 5
_JPEG = b"\xff\xd8"
BYTE, ASCII = 1, 2
Values = Mapping[int, tuple[int, bytes]]
"""By tag, the type, of one byte each, and the bytes."""


@dataclass(frozen=True)
class _Entry:
    """One of a directory: where it lies, and the number that it has or points with."""

    at: int
    tag: int
    kind: int
    value: int


class _Block:
    """An EXIF block that can be changed.

    Raises:
        struct.error: it ends before what it points at; of a start or a number of entries that no block has, too.
    """

    def __init__(self, exif: bytes) -> None:
        self.data = bytearray(exif.removeprefix(b"Exif\0\0"))
        order = {b"II*\0": "<", b"MM\0*": ">"}.get(bytes(self.data[:4]))
        if order is None:
            raise struct.error("no TIFF structure")
        self._order = order
        (self.first,) = self.unpack("I", 4)

    def unpack(self, layout: str, at: int) -> tuple[int, ...]:
        return struct.unpack_from(self._order + layout, self.data, at)

    def packed(self, layout: str, *values: int) -> bytes:
        return struct.pack(self._order + layout, *values)

    def entries(self, at: int) -> Iterator[_Entry]:
        (count,) = self.unpack("H", at)
        if count > _MAX_ENTRIES:
            raise struct.error("more entries than any directory has")
        for place in range(at + 2, at + 2 + 12 * count, 12):
            tag, kind, _ = self.unpack("HHI", place)
            (value,) = self.unpack("H" if kind == _SHORT else "I", place + 8)
            yield _Entry(place, tag, kind, value)

    def next_of(self, at: int) -> int:
        """Where the offset of the directory after this one lies."""
        (count,) = self.unpack("H", at)
        return at + 2 + 12 * count

    def put(self, entry: _Entry, value: int) -> None:
        """One number in the place of what it has."""
        struct.pack_into(f"{self._order}HHII", self.data, entry.at, entry.tag, _LONG, 1, value)

    def put_short(self, entry: _Entry, value: int) -> None:
        struct.pack_into(f"{self._order}HHIHH", self.data, entry.at, entry.tag, _SHORT, 1, value, 0)

    def clear(self, at: int) -> None:
        """Sets an offset to none."""
        struct.pack_into(f"{self._order}I", self.data, at, 0)


def cleaned(exif: bytes, width: int, height: int) -> bytes:
    """The block of an image that is upright and has this size now: its orientation 1, its size this one, and without
    the thumbnail of what it was. Nothing if it is damaged, or none."""
    try:
        block = _Block(exif)
        inner = 0
        for entry in block.entries(block.first):
            if entry.tag == _ORIENTATION:
                block.put_short(entry, 1)
            elif entry.tag in (_WIDTH, _HEIGHT):
                block.put(entry, width if entry.tag == _WIDTH else height)
            elif entry.tag == _EXIF_IFD:
                inner = entry.value
        if inner:
            for entry in block.entries(inner):
                if entry.tag in (_PIXELS_ACROSS, _PIXELS_DOWN):
                    block.put(entry, width if entry.tag == _PIXELS_ACROSS else height)
        _drop_thumbnail(block)
        whole = bytes(block.data)
        changed = _Block(whole)  # directories of a damaged block may lie in each other, or in its thumbnail
        deque(changed.entries(changed.first), maxlen=0)
    except struct.error:
        return b""
    return whole


def _drop_thumbnail(block: _Block) -> None:
    """Takes the second directory out, and the small image that it points at."""
    place = block.next_of(block.first)
    if place + 4 > len(block.data):  # some writers leave it out
        return
    (second,) = block.unpack("I", place)
    if not second:
        return
    block.clear(place)
    try:
        found = {entry.tag: entry.value for entry in block.entries(second)}
        after = block.next_of(second)
    except struct.error:
        return
    start, size = found.get(_THUMBNAIL, 0), found.get(_THUMBNAIL_BYTES, 0)
    end = min(start + size, len(block.data))
    if block.data[start : start + 2] != _JPEG:  # nobody's thumbnail
        return
    if start >= after and end == len(block.data):
        del block.data[start:]
    else:
        block.data[start:end] = bytes(end - start)


def tags_of(exif: bytes) -> frozenset[int]:
    """Of its first directory; none if it is damaged."""
    try:
        block = _Block(exif)
        return frozenset(entry.tag for entry in block.entries(block.first))
    except struct.error:
        return frozenset()


def with_values(exif: bytes, values: Values) -> bytes:
    """The block with further values in its first directory, which is written once more at the end; all else stays in
    its place. `exif`: whole, or empty."""
    block = _Block(exif or b"II*\0" + struct.pack("<IHI", 8, 0, 0))
    at, (count,) = block.first, block.unpack("H", block.first)
    own = {
        block.unpack("H", place)[0]: bytes(block.data[place : place + 12])
        for place in range(at + 2, at + 2 + 12 * count, 12)
    }
    following = block.data[block.next_of(at) :][:4].ljust(4, b"\0")
    block.data += bytes(len(block.data) % 2)
    start = len(block.data)
    after = start + 2 + 12 * (len(own) + len(values)) + 4
    tail = b""
    for tag, (kind, content) in values.items():
        own[tag] = block.packed("HHI", tag, kind, len(content))
        own[tag] += content.ljust(4, b"\0") if len(content) <= 4 else block.packed("I", after + len(tail))
        tail += content + bytes(len(content) % 2) if len(content) > 4 else b""
    block.data[4:8] = block.packed("I", start)
    return (
        bytes(block.data) + block.packed("H", len(own)) + b"".join(own[tag] for tag in sorted(own)) + following + tail
    )


def density_of(exif: bytes) -> Density | None:
    """The density that it states; none if it is damaged or states none."""
    try:
        block = _Block(exif)
        found = {entry.tag: entry for entry in block.entries(block.first) if entry.tag in (_ACROSS, _DOWN, _UNIT)}
        if not {_ACROSS, _DOWN} <= set(found) or any(found[tag].kind != _RATIONAL for tag in (_ACROSS, _DOWN)):
            return None
        unit = found[_UNIT].value if _UNIT in found else _INCH
        per_metre = {_INCH: 1 / 0.0254, _CENTIMETRE: 100.0}.get(unit)
        sides = [block.unpack("II", found[tag].value) for tag in (_ACROSS, _DOWN)]
    except struct.error:
        return None
    if per_metre is None or not all(above and below for above, below in sides):
        return None
    across, down = (round(above / below * per_metre) for above, below in sides)
    return Density(across, down) if 0 < across < 1 << 31 and 0 < down < 1 << 31 else None


def with_density(density: Density) -> bytes:
    """A block that states a density and nothing else."""
    across, down = density.dpi
    sides = struct.pack("<HHIIHHII", _ACROSS, _RATIONAL, 1, 50, _DOWN, _RATIONAL, 1, 58)
    unit = struct.pack("<HHIHH", _UNIT, _SHORT, 1, _INCH, 0)
    return b"II*\0" + struct.pack("<IH", 8, 3) + sides + unit + struct.pack("<IIIII", 0, across, 1, down, 1)
