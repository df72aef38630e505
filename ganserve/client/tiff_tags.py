"""EXIF, XMP and IPTC of a TIFF, and into one that is written already: neither Pillow nor tifffile puts EXIF into
compressed ones.

The first directory is written once more, at the end, with what is added; the pixels stay where they are. Values are
copied one by one: a note of a camera's maker that points into the old block keeps its bytes and loses its way.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ganserve.client.iptc import iptc_of

XMP, ORIENTATION = 700, 274
IPTC, PHOTOSHOP = 33723, 34377
EXIF, GPS, INTEROPERABILITY = 34665, 34853, 40965
NESTED = (EXIF, GPS, INTEROPERABILITY)
BYTE, LONG, UNDEFINED = 1, 4, 7
# Bytes of a number of each of TIFF's types; those of rationals are two.
SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}
SWAPPED = {3: 2, 4: 4, 5: 4, 8: 2, 9: 4, 10: 4, 11: 4, 12: 8}
MAX_ENTRIES = 2048
# How pixels are stored, and what goes with them by other ways: these are not EXIF, wherever they stand.
STORAGE = frozenset(
    (254, 255, 256, 257, 258, 259, 262, 263, 266, 273, 277, 278, 279, 280, 281, 284, 288, 289, 290, 291, 301, 317, 318,
     319, 320, 322, 323, 324, 325, 330, 332, 338, 339, 340, 341, 347, 512, 513, 514, 519, 520, 521, 529, 530, 531, 532,
     XMP, 33550, IPTC, 33922, 34264, PHOTOSHOP, 34675, 34735, 34736, 34737, 42112, 42113, 50341)
)  # fmt: skip


@dataclass(frozen=True)
class Value:
    """Of an entry: type, count and the bytes, little-endian."""

    kind: int
    count: int
    data: bytes


@dataclass(frozen=True)
class Directory:
    """The values of a directory by tag, and the directories that some of them point at."""

    values: Mapping[int, Value]
    nested: Mapping[int, "Directory"]


def tags_of(tiff: bytes) -> tuple[bytes, bytes, bytes]:
    """EXIF, without its orientation, XMP and IPTC of a classic TIFF; empty if there is none, or the file is damaged."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None:
        return b"", b"", b""
    try:
        found = _read(tiff, order, struct.unpack_from(f"{order}I", tiff, 4)[0])
    except struct.error:
        return b"", b"", b""
    kept = {tag: value for tag, value in found.values.items() if tag not in (*STORAGE, ORIENTATION)}
    xmp, iptc, resources = (found.values[tag].data if tag in found.values else b"" for tag in (XMP, IPTC, PHOTOSHOP))
    iptc = iptc or iptc_of(resources)
    if not kept and not found.nested:
        return b"", xmp, iptc
    return b"II*\0" + struct.pack("<I", 8) + _packed(Directory(kept, found.nested), 8), xmp, iptc


def with_tags(tiff: bytes, exif: bytes, xmp: bytes, iptc: bytes = b"") -> bytes:
    """The classic little-endian TIFF with EXIF, XMP and IPTC in its first directory. EXIF that is damaged is left
    out."""
    added = Directory({}, {})
    if exif:
        block = exif.removeprefix(b"Exif\0\0")
        try:
            order = {b"II": "<", b"MM": ">"}[block[:2]]
            added = _read(block, order, struct.unpack_from(f"{order}I", block, 4)[0])
        except (struct.error, KeyError):
            pass
    (first,) = struct.unpack_from("<I", tiff, 4)
    own = _read(tiff, "<", first, nested=False)
    (following,) = struct.unpack_from("<I", tiff, first + 2 + 12 * len(own.values))
    values = {tag: value for tag, value in added.values.items() if tag not in STORAGE} | dict(own.values)
    if xmp:
        values[XMP] = Value(BYTE, len(xmp), xmp)
    if iptc:
        values[IPTC] = Value(UNDEFINED, len(iptc), iptc)
    start = len(tiff) + len(tiff) % 2
    packed = _packed(Directory(values, added.nested), start, following)
    return tiff[:4] + struct.pack("<I", start) + tiff[8:] + bytes(start - len(tiff)) + packed


def _read(data: bytes, order: str, at: int, *, nested: bool = True, depth: int = 0) -> Directory:
    """A directory.

    Raises:
        struct.error: it ends before what it points at.
    """
    (count,) = struct.unpack_from(f"{order}H", data, at)
    values: dict[int, Value] = {}
    below: dict[int, Directory] = {}
    for place in range(at + 2, at + 2 + 12 * min(count, MAX_ENTRIES), 12):
        tag, kind, n = struct.unpack_from(f"{order}HHI", data, place)
        size = SIZES.get(kind, 0) * n
        start = place + 8 if size <= 4 else struct.unpack_from(f"{order}I", data, place + 8)[0]
        if not size or start + size > len(data):
            continue
        if nested and tag in NESTED:
            if depth < 2:
                (target,) = struct.unpack_from(f"{order}I", data, start)
                below[tag] = _read(data, order, target, depth=depth + 1)
            continue
        content = data[start : start + size]
        values[tag] = Value(kind, n, content if tag == IPTC else _little(content, kind, order))  # some call it numbers
    return Directory(values, below)


def _little(data: bytes, kind: int, order: str) -> bytes:
    width = SWAPPED.get(kind, 1)
    return np.frombuffer(data, f"{order}u{width}").astype(f"<u{width}").tobytes() if width > 1 else data


def _packed(directory: Directory, start: int, following: int = 0) -> bytes:
    """A directory that lies at `start`, with all that it points at behind it."""
    values = dict(directory.values)
    tags = sorted({*values, *directory.nested})
    head, tail = struct.pack("<H", len(tags)), b""
    after = start + 2 + 12 * len(tags) + 4
    for tag in tags:
        place = after + len(tail)
        if tag in directory.nested:
            head += struct.pack("<HHII", tag, LONG, 1, place)
            tail += _packed(directory.nested[tag], place)
        else:
            value = values[tag]
            head += struct.pack("<HHI", tag, value.kind, value.count)
            is_short = len(value.data) <= 4
            head += value.data.ljust(4, b"\0") if is_short else struct.pack("<I", place)
            tail += b"" if is_short else value.data
        tail += bytes(len(tail) % 2)
    return head + struct.pack("<I", following) + tail
