"""Metadata of a PNG, JPEG or WebP file, from its bytes alone. `icc` is not read here: Pillow puts profiles together.

What is damaged is left out, since it does not concern the pixels.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import replace
from itertools import accumulate

from server.errors import ImageTooLarge
from server.images.header import Format, is_whole_chunk, jpeg_segments, riff_chunks
from server.images.metadata.block import NOTHING, Density, Metadata
from server.images.metadata.exif import density_of
from server.images.metadata.iptc import PHOTOSHOP, RAW_PROFILE, iptc_of, raw_profile
from server.images.metadata.xmp import JPEG_XMP_MORE, further_of
from server.images.workers import check_time

_SIGNATURE_BYTES = 8
_CHECK_EVERY = 4096
_XMP_KEYWORD = b"XML:com.adobe.xmp"
_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
# Pillow, libpng and others limit what they expand to about as much.
_LONG_TEXT_BYTES = 1 << 20
# A text is expanded by so many bytes of the file and of itself.
_STEP_BYTES = 1 << 12
# What the samples mean: by name, with the size that the format gives.
_COLOURS = {b"cICP": 4, b"sRGB": 1, b"gAMA": 4, b"cHRM": 32}
JPEG_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_PIECE_HEAD = 40  # of extended XMP: a name, the length of the whole, and the piece's place


def read_metadata(data: bytes, kind: Format, limit_bytes: int | None = None) -> Metadata:
    """What the file has beside its pixels. `limit_bytes`: None leaves EXIF, XMP and texts out.

    Raises:
        InvalidRequest: a JPEG without pixels, or damaged before them; see `server.images.header.jpeg_segments`.
        ImageTooLarge: EXIF, XMP and texts together are longer (max_metadata_bytes), or it takes longer than a worker's
            limit.
    """
    reader = {Format.PNG: _read_png, Format.JPEG: _read_jpeg, Format.WEBP: _read_webp}.get(kind)
    if reader is None:
        return NOTHING
    found = reader(data, limit_bytes)
    if found.density is None and found.exif:
        found = replace(found, density=density_of(found.exif))
    if limit_bytes is None:
        return found.without_kept()
    _check(found.nbytes, limit_bytes)
    return found


def _check(nbytes: int, limit_bytes: int) -> None:
    if nbytes > limit_bytes:
        raise ImageTooLarge(
            f"image: {nbytes} bytes or more of EXIF, XMP and texts, at most {limit_bytes} are kept "
            "(max_metadata_bytes); leave metadata unset, or set STRIP"
        )


def _read_png(data: bytes, limit_bytes: int | None) -> Metadata:
    colours: dict[bytes, bytes] = {}
    density, exif, xmp = None, b"", b""
    texts: list[bytes] = []
    profiles: dict[bytes, bytes] = {}
    taken = 0
    has_pixels = False
    for name, start, size in _chunks(data):
        content = data[start : start + size] if name != b"IDAT" else b""
        if name == b"IDAT":
            has_pixels = True
        elif name in _COLOURS and not has_pixels:
            if size == _COLOURS[name] and is_whole_chunk(data, start, size):
                colours.setdefault(name, data[start - 8 : start + size + 4])
        elif name == b"pHYs" and not has_pixels and size == 9 and is_whole_chunk(data, start, size):
            across, down, unit = struct.unpack(">IIB", content)
            density = Density(across, down, unit != 1) if across and down else None
        elif name == b"eXIf" and not exif and is_whole_chunk(data, start, size):
            exif = content
        elif name in _TEXTS and limit_bytes is not None and is_whole_chunk(data, start, size):
            nbytes = 0
            if content.startswith(_XMP_KEYWORD + b"\0"):
                if not xmp:
                    xmp, nbytes = _xmp_of(content, limit_bytes)
            elif content.startswith(RAW_PROFILE):
                kind, profile, nbytes = _raw_profile(name, content, limit_bytes)
                profiles.setdefault(kind, profile)
            else:
                text, nbytes = _text_of(name, content, limit_bytes)
                texts += [text] if text else []
            taken += nbytes
            _check(taken, limit_bytes)
    # Older writers put EXIF and XMP into texts as well.
    exif = exif or profiles.get(b"exif", b"").removeprefix(b"Exif\0\0")
    iptc = iptc_of(profiles.get(b"iptc", b"")) or iptc_of(profiles.get(b"8bim", b""))
    return Metadata(
        None, b"".join(colours.values()), density, exif, xmp or profiles.get(b"xmp", b""), b"", iptc, tuple(texts)
    )


def _raw_profile(name: bytes, content: bytes, limit_bytes: int) -> tuple[bytes, bytes, int]:
    """The kind of a raw profile, its bytes, and how many there were, or seemed to be in one that is damaged; see
    `server.images.metadata.iptc`."""
    keyword, _, rest = content.partition(b"\0")
    text, nbytes = (rest, len(rest)) if name == b"tEXt" else _expanded(rest[1:], 3 * limit_bytes)
    kind, profile = keyword[len(RAW_PROFILE) :].lower(), raw_profile(text)
    if kind == b"app1":  # of a JPEG
        kind = b"xmp" if profile.startswith(JPEG_XMP) else b"exif"
    return kind, profile.removeprefix(JPEG_XMP), max(len(profile), nbytes // 3)


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Each chunk's name, the place of its content and how long that is."""
    at, count = _SIGNATURE_BYTES, 0
    while at + 12 <= len(data):
        size, name = struct.unpack_from(">I4s", data, at)
        yield name, at + 8, size
        count += 1
        if not count % _CHECK_EVERY:
            check_time()
        at += 12 + size
        if name == b"IEND":
            return


def _xmp_of(content: bytes, limit_bytes: int) -> tuple[bytes, int]:
    """The packet of an iTXt chunk, and the bytes that it took; more than the limit if it is longer."""
    rest = content[len(_XMP_KEYWORD) + 1 :]
    packet = rest[2:].split(b"\0", 2)[-1]
    return (packet, len(packet)) if rest[:1] != b"\1" else _expanded(packet, limit_bytes)


def _text_of(name: bytes, content: bytes, limit_bytes: int) -> tuple[bytes, int]:
    """A text's chunk, and the bytes that it stands for; no chunk if it is damaged. Readers refuse a file with a text
    that is long once it is expanded, so such a one is returned expanded."""
    keyword, _, rest = content.partition(b"\0")
    if name == b"zTXt":
        head, packed, plain = keyword + b"\0", rest[1:], b"tEXt"
    elif name == b"iTXt" and rest[:1] == b"\1":
        language, translated, packed = [*rest[2:].split(b"\0", 2), b"", b""][:3]
        head, plain = keyword + b"\0\0\0" + language + b"\0" + translated + b"\0", b"iTXt"
    else:
        return chunk(name, content), len(content)
    text, nbytes = _expanded(packed, limit_bytes)
    if not text:
        return b"", nbytes
    if len(text) <= _LONG_TEXT_BYTES:
        return chunk(name, content), nbytes
    return chunk(plain, head + text), nbytes


def _expanded(packed: bytes, limit_bytes: int) -> tuple[bytes, int]:
    """What it stands for, more than the limit if it is longer, nothing if it is damaged; and how many bytes that took,
    damaged or not: of a file that is full of such texts each may be expanded nearly to its end."""
    check_time()
    stream = zlib.decompressobj()
    parts: list[bytes] = []
    nbytes = 0
    try:
        for at in range(0, len(packed), _STEP_BYTES):
            piece = packed[at : at + _STEP_BYTES]
            while nbytes <= limit_bytes and not stream.eof:
                part = stream.decompress(piece, _STEP_BYTES)
                parts.append(part)
                nbytes += len(part)
                piece = stream.unconsumed_tail
                if len(part) < _STEP_BYTES:
                    break
    except zlib.error:
        return b"", nbytes
    return b"".join(parts), nbytes


def _read_jpeg(data: bytes, limit_bytes: int | None) -> Metadata:
    density, exif, xmp = None, b"", b""
    texts: list[bytes] = []
    resources: list[bytes] = []
    pieces: list[bytes] = []
    for marker, at, size in jpeg_segments(data):
        content = data[at + 2 : at + size]
        if marker == 0xE0 and content[:5] == b"JFIF\0" and len(content) >= 12:
            unit, across, down = struct.unpack_from(">BHH", content, 7)
            per_metre = {1: 1 / 0.0254, 2: 100.0}.get(unit)
            if per_metre is not None and across and down:
                density = Density(round(across * per_metre), round(down * per_metre))
        elif marker == 0xE1 and content.startswith(b"Exif\0\0"):
            exif = exif or content[6:]
        elif marker == 0xE1 and content.startswith(JPEG_XMP):
            xmp = xmp or content[len(JPEG_XMP) :]
        elif limit_bytes is None:
            continue
        elif marker == 0xE1 and content.startswith(JPEG_XMP_MORE):
            pieces.append(content[len(JPEG_XMP_MORE) :])
        elif marker == 0xED and content.startswith(PHOTOSHOP):
            resources.append(content[len(PHOTOSHOP) :])
        elif marker == 0xFE:
            texts.append(_comment(content))
    more, damaged = _put_together(xmp, pieces, limit_bytes or 0)
    return Metadata(None, b"", density, exif, xmp, more, iptc_of(b"".join(resources)), tuple(texts), damaged)


def _put_together(packet: bytes, pieces: list[bytes], limit_bytes: int) -> tuple[bytes, tuple[str, ...]]:
    """The second XMP packet of a JPEG, in pieces with the name that the first one calls it by, its length and their
    places; and a word if it is not whole."""
    name = further_of(packet)
    parts: dict[int, bytes] = {}
    size = 0
    for piece in pieces:
        if len(piece) > _PIECE_HEAD and piece[:32].upper() == name:
            size, at = struct.unpack_from(">II", piece, 32)
            parts[at] = piece[_PIECE_HEAD:]
    _check(size, limit_bytes)
    whole = b"".join(parts[at] for at in sorted(parts))
    if len(whole) == size and sorted(parts) == [0, *accumulate(len(parts[at]) for at in sorted(parts))][: len(parts)]:
        return whole, ("its extended XMP is not there and was dropped",) if name and not size else ()
    return b"", ("its extended XMP is damaged and was dropped",)


def _comment(content: bytes) -> bytes:
    """A JPEG's comment as a PNG's."""
    text = content.rstrip(b"\0").replace(b"\0", b" ")
    try:
        text.decode()
    except UnicodeDecodeError:
        return chunk(b"tEXt", b"Comment\0" + text)
    return chunk(b"iTXt", b"Comment\0\0\0\0\0" + text)


def _read_webp(data: bytes, limit_bytes: int | None) -> Metadata:
    found = {b"EXIF": b"", b"XMP ": b""}
    for name, at, size in riff_chunks(data):
        if name in found and not found[name]:
            found[name] = data[at : at + size]
    return Metadata(exif=found[b"EXIF"].removeprefix(b"Exif\0\0"), xmp=found[b"XMP "])


def chunk(name: bytes, content: bytes) -> bytes:
    """A chunk of a PNG."""
    checksum = zlib.crc32(content, zlib.crc32(name))
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum)
