"""Images say of themselves that a network made them, in words that machines read: IPTC's digital source type, as XMP.

The values are those of IPTC's NewsCodes, https://cv.iptc.org/newscodes/digitalsourcetype/.
"""

import re
from dataclasses import dataclass, replace
from enum import IntEnum, StrEnum

from server.images.header import Format
from server.images.metadata.block import Metadata
from server.images.metadata.write import JPEG_XMP_BYTES
from server.images.metadata.xmp import in_two, with_description

_NAMESPACE = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
# What a kept packet says of where the image is from, as an attribute or an element, by whatever prefix.
_PREFIX = rb"[A-Za-z_][\w.-]{0,63}:"
_SAID = re.compile(
    rb"\s" + _PREFIX + rb"DigitalSourceType\s*=\s*(?:\"[^\"<>]*\"|'[^'<>]*')"
    rb"|<(" + _PREFIX + rb"DigitalSourceType)\b[^<>]*(?:/>|>[^<>]*</\1\s*>)"
)
# Where files have their metadata: before the pixels, or after them.
_END_BYTES = 1 << 17


class Mark(IntEnum):
    """How an image is marked; each has what those before it have."""

    NONE = 0
    XMP = 1
    C2PA = 2


class Source(StrEnum):
    """Where an image is from."""

    GENERATED = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
    CHANGED = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"

    @property
    def description(self) -> bytes:
        """As a part of an XMP packet."""
        return (
            f'<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="{_NAMESPACE}" Iptc4xmpExt:DigitalSourceType="{self}"/>'
        ).encode()


@dataclass(frozen=True)
class Marking:
    """What an image says of itself. `is_signed`: its owner signs it, too (C2PA)."""

    source: Source
    is_signed: bool = False


def source_of_changed(sent: bytes) -> Source:
    """Of an image that a network made of another: what was made by a network from the beginning stays so."""
    said = f"{Source.GENERATED}".encode()
    return Source.GENERATED if said in sent[:_END_BYTES] or said in sent[-_END_BYTES:] else Source.CHANGED


def marked(metadata: Metadata, marking: Marking | None, kind: Format) -> Metadata:
    """Metadata that a format holds, with the mark in the packet that is kept. Raw pixels hold none."""
    if marking is None or kind is Format.RAW:
        return metadata
    description = marking.source.description
    packet, more = _SAID.sub(b"", metadata.xmp), _SAID.sub(b"", metadata.xmp_more)
    if kind is Format.JPEG:
        packet, more = in_two(packet, more, JPEG_XMP_BYTES - len(description))
    return replace(metadata, xmp=with_description(packet, description), xmp_more=more)
