"""Metadata in the terms of the format that an image is returned in, and what of it that cannot hold."""

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from server.images.header import Format
from server.images.metadata import exif, xmp
from server.images.metadata.block import NOTHING, Metadata, Policy
from server.images.metadata.profiles import is_hdr, profile_of
from server.images.metadata.read import chunk

_SRGB = (b"sRGB", "sRGB".encode("utf-16-be"))  # as profiles of either version call themselves
_XMP_START = b"XML:com.adobe.xmp\0\0\0\0\0"
# Of a segment of a JPEG, and without what says that it is EXIF or XMP.
_JPEG_BYTES = 65_533
_JPEG_EXIF_BYTES = _JPEG_BYTES - len(b"Exif\0\0")
JPEG_XMP_BYTES = _JPEG_BYTES - len(b"http://ns.adobe.com/xap/1.0/\0")
_COMMENTS = {b"tEXtComment\0": "latin-1", b"iTXtComment\0\0\0\0\0": "utf-8"}


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
        found = replace(found, exif=b"", xmp=b"", texts=())
    height, width, channels = shape
    warnings: list[str] = []
    block = exif.cleaned(found.exif, width, height)
    if found.exif and not block:
        warnings.append("its EXIF is damaged and was dropped")
    found = replace(found, exif=block, xmp=xmp.cleaned(found.xmp, width, height))
    if kind is Format.RAW:
        return Fitting(NOTHING)
    if kind is not Format.PNG:
        found = _colours(found, kind, channels, warnings)
        found = _texts(found, kind, warnings)
    if kind is Format.JPEG:
        found = _within_segments(found, warnings)
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
    """The one text that a JPEG holds, its comment; a WebP holds none."""
    kept = tuple(each for each in found.texts if _comment(each))[:1] if kind is Format.JPEG else ()
    if lost := len(found.texts) - len(kept):
        warnings.append(f"{lost} text(s) were dropped, which {kind} does not hold; PNG does")
    return replace(found, texts=kept)


def _within_segments(found: Metadata, warnings: list[str]) -> Metadata:
    """What fits into a JPEG's segments."""
    block, packet, texts = found.exif, found.xmp, found.texts
    if len(block) > _JPEG_EXIF_BYTES:
        warnings.append(f"{len(block)} bytes of EXIF were dropped: a JPEG holds {_JPEG_EXIF_BYTES}")
        block = b""
    if len(packet) > JPEG_XMP_BYTES:
        warnings.append(f"{len(packet)} bytes of XMP were dropped: a JPEG holds {JPEG_XMP_BYTES}")
        packet = b""
    if texts and len(_comment(texts[0])) > _JPEG_BYTES:
        warnings.append(f"a comment of {len(texts[0])} bytes was dropped: a JPEG holds {_JPEG_BYTES}")
        texts = ()
    return replace(found, exif=block, xmp=packet, texts=texts)


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
    if metadata.xmp:
        options["xmp"] = metadata.xmp
    for each in metadata.texts:
        options["comment"] = _comment(each)
    return options


def _comment(text: bytes) -> bytes:
    """The words of a PNG's comment; nothing if it is another text."""
    for start, encoding in _COMMENTS.items():
        if text[4:].startswith(start):
            return text[4 + len(start) : -4].decode(encoding, "replace").encode()
    return b""
