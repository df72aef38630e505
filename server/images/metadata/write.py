"""Metadata in the terms of the format that an image is returned in, and what of it that cannot hold."""

import hashlib
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from server.images.header import Format
from server.images.metadata import exif, xmp
from server.images.metadata.block import NOTHING, Metadata, Policy
from server.images.metadata.iptc import PHOTOSHOP, as_raw_profile, as_resource
from server.images.metadata.profiles import is_hdr, profile_of
from server.images.metadata.read import JPEG_XMP, chunk
from server.images.metadata.texts import COMMENT, in_fields, words_of

_SRGB = (b"sRGB", "sRGB".encode("utf-16-be"))  # as profiles of either version call themselves
_XMP_START = b"XML:com.adobe.xmp\0\0\0\0\0"
# Of a segment of a JPEG, and without what says that it is EXIF, or XMP and calls for more.
_JPEG_BYTES = 65_533
_JPEG_EXIF_BYTES = _JPEG_BYTES - len(b"Exif\0\0")
JPEG_XMP_BYTES = _JPEG_BYTES - 500
# Of a profile, in at most 255 of them: a byte says which of how many each is.
_JPEG_ICC_BYTES = 255 * (_JPEG_BYTES - len(b"ICC_PROFILE\0") - 2)
_APP1, _APP13 = 0xE1, 0xED


@dataclass(frozen=True)
class Fitting:
    """What of an image's metadata goes into a format, and a warning for what does not."""

    metadata: Metadata
    warnings: tuple[str, ...] = ()


def fit(found: Metadata, policy: Policy, kind: Format, shape: tuple[int, int, int]) -> Fitting:
    """What an image of (H, W, C) `shape` that is returned as `kind` has, by the policy. It is upright."""
    if policy is Policy.STRIP:
        lost = (found.icc is not None and not any(name in found.icc for name in _SRGB)) or profile_of(
            found.colours, False
        ) is not None
        return Fitting(NOTHING, ("its colour profile was dropped: colours may look different",) if lost else ())
    if policy is Policy.ICC:
        found = found.without_kept()
    height, width, channels = shape
    warnings = list(found.damaged)
    block = exif.cleaned(found.exif, width, height)
    if found.exif and not block:
        warnings.append("its EXIF is damaged and was dropped")
    packet, more = (xmp.cleaned(each, width, height) for each in (found.xmp, found.xmp_more))
    if kind is Format.RAW:
        return Fitting(NOTHING)
    if kind is not Format.PNG:
        found = _colours(found, kind, channels, warnings)
    if kind is Format.JPEG:
        packet, more = xmp.in_two(packet, more, JPEG_XMP_BYTES)
    else:
        packet, more = xmp.joined(packet, more) if more else packet, b""
    found = replace(found, exif=block, xmp=packet, xmp_more=more)
    if kind is not Format.PNG:
        found = _texts(found, kind, warnings)
    if kind is Format.JPEG:
        found = _within_segments(found, warnings)
    if kind is Format.WEBP and found.iptc:
        warnings.append("its IPTC was dropped, which WebP does not hold; PNG and JPEG do")
    return Fitting(found, tuple(warnings))


def _colours(found: Metadata, kind: Format, channels: int, warnings: list[str]) -> Metadata:
    """What a PNG says of its colours, as a profile."""
    if found.icc is not None:
        if kind is Format.WEBP and channels < 3:
            warnings.append("its profile of grey was dropped: WebP has colours only; PNG keeps it")
            return found.without_colours()
        return replace(found, colours=b"")
    if is_hdr(found.colours):
        warnings.append(f"its HDR (PQ or HLG) cannot be told in {kind}; PNG keeps it")
    is_grey = channels < 3 and kind is not Format.WEBP
    return replace(found, icc=profile_of(found.colours, is_grey), colours=b"")


def _texts(found: Metadata, kind: Format, warnings: list[str]) -> Metadata:
    """A JPEG's comment, and the fields of EXIF that say what the other texts do."""
    comment: tuple[bytes, ...] = ()
    others: list[tuple[str, str]] = []
    for each in found.texts:
        keyword, words = words_of(each)
        if kind is Format.JPEG and keyword == COMMENT and not comment and len(words.encode()) <= _JPEG_BYTES:
            comment = (each,)
        else:
            others.append((keyword, words))
    values, left = in_fields(others, exif.tags_of(found.exif))
    if left:
        warnings.append(f"text(s) were dropped, for which {kind} has no place; PNG has: {', '.join(left)[:200]}")
    block = exif.with_values(found.exif, values) if values else found.exif
    if kind is Format.JPEG and len(block) > _JPEG_EXIF_BYTES >= len(found.exif):
        warnings.append(f"text(s) were dropped: a JPEG holds {_JPEG_EXIF_BYTES} bytes of EXIF; PNG holds more")
        block = found.exif
    return replace(found, texts=comment, exif=block)


def _within_segments(found: Metadata, warnings: list[str]) -> Metadata:
    """What fits into a JPEG's segments."""
    if found.icc is not None and len(found.icc) > _JPEG_ICC_BYTES:
        warnings.append(f"its colour profile of {len(found.icc)} bytes was dropped: a JPEG holds {_JPEG_ICC_BYTES}")
        found = replace(found, icc=None)
    size = len(found.exif)
    if size <= _JPEG_EXIF_BYTES:
        return found
    warnings.append(f"{size} bytes of EXIF were dropped: a JPEG holds {_JPEG_EXIF_BYTES}")
    return replace(found, exif=b"")


def png_chunks(metadata: Metadata) -> bytes:
    """The chunks before the pixels."""
    parts = [metadata.colours]
    if metadata.icc is not None:
        parts.insert(0, chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(metadata.icc)))
    if (density := metadata.density) is not None:
        parts.append(chunk(b"pHYs", struct.pack(">IIB", density.across, density.down, not density.is_ratio)))
    if metadata.exif:
        parts.append(chunk(b"eXIf", metadata.exif))
    if metadata.xmp:
        parts.append(chunk(b"iTXt", _XMP_START + metadata.xmp))
    if metadata.iptc:
        parts.append(chunk(b"zTXt", as_raw_profile(metadata.iptc)))
    return b"".join([*parts, *metadata.texts])


def pillow_options(metadata: Metadata, kind: Format) -> Mapping[str, Any]:
    """What Pillow is given to save a JPEG or WebP."""
    options: dict[str, Any] = {"icc_profile": metadata.icc}
    block = metadata.exif
    if (density := metadata.density) is not None and not density.is_ratio:
        if kind is Format.JPEG:
            options["dpi"] = tuple(min(n, 65_535) for n in density.dpi)
        elif not block:
            block = exif.with_density(density)
    if block:
        options["exif"] = b"Exif\0\0" + block if kind is Format.JPEG else block
    if kind is Format.JPEG:
        options["extra"] = b"".join(_segments(metadata))
    elif metadata.xmp:
        options["xmp"] = metadata.xmp
    for each in metadata.texts:
        options["comment"] = words_of(each)[1].encode()
    return options


def _segments(metadata: Metadata) -> Iterator[bytes]:
    """XMP and IPTC of a JPEG."""
    packet, more = metadata.xmp, metadata.xmp_more
    name = hashlib.md5(more, usedforsecurity=False).hexdigest().upper().encode()
    if more:
        packet = xmp.calling(packet, name)
    if packet:
        yield _segment(_APP1, JPEG_XMP + packet)
    head = xmp.JPEG_XMP_MORE + name + struct.pack(">I", len(more))
    step = _JPEG_BYTES - len(head) - 4
    for at in range(0, len(more), step):
        yield _segment(_APP1, head + struct.pack(">I", at) + more[at : at + step])
    if metadata.iptc:
        resources = as_resource(metadata.iptc)
        step = _JPEG_BYTES - len(PHOTOSHOP)
        for at in range(0, len(resources), step):
            yield _segment(_APP13, PHOTOSHOP + resources[at : at + step])


def _segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, 2 + len(content)) + content
