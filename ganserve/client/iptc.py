"""IPTC: captions, keywords and credits, in the resources that Photoshop puts into a JPEG and a TIFF. In a PNG they lie
as hexadecimal digits in a text, a "raw profile", as ImageMagick and ExifTool write and read them.
"""

import struct
import zlib

PHOTOSHOP = b"Photoshop 3.0\0"  # begins such a segment of a JPEG
SEGMENT_BYTES = 65_533 - len(PHOTOSHOP)
RESOURCE, RESOURCES = b"8BIM", 0x0404
RAW_PROFILE = "Raw profile type "
MAX_DIGITS = 10  # of a length


def iptc_of(resources: bytes) -> bytes:
    """The IPTC block among Photoshop's resources; nothing if there is none."""
    at = 0
    while resources[at : at + 4] == RESOURCE and at + 7 <= len(resources):
        (kind,) = struct.unpack_from(">H", resources, at + 4)
        start = at + 6 + (resources[at + 6] + 2 & ~1)  # a name, whose length counts, filled up to an even number
        if start + 4 > len(resources):
            break
        (size,) = struct.unpack_from(">I", resources, start)
        if kind == RESOURCES:
            return resources[start + 4 : start + 4 + size]
        at = start + 4 + size + size % 2
    return b""


def as_resource(iptc: bytes) -> bytes:
    """The one resource of Photoshop's that holds it."""
    return RESOURCE + struct.pack(">HHI", RESOURCES, 0, len(iptc)) + iptc + bytes(len(iptc) % 2)


def as_segments(iptc: bytes) -> bytes:
    """The segments of a JPEG that hold it."""
    block = as_resource(iptc)
    parts = [PHOTOSHOP + block[at : at + SEGMENT_BYTES] for at in range(0, len(block), SEGMENT_BYTES)]
    return b"".join(struct.pack(">HH", 0xFFED, 2 + len(part)) + part for part in parts)


def as_raw_profile(iptc: bytes) -> bytes:
    """What a zTXt chunk of a PNG holds."""
    block = as_resource(iptc)
    lines = (block[at : at + 36].hex() for at in range(0, len(block), 36))
    text = f"\niptc\n{len(block):8d}\n" + "\n".join(lines) + "\n"
    return f"{RAW_PROFILE}iptc\0\0".encode() + zlib.compress(text.encode())


def of_raw_profile(text: str) -> bytes:
    """The bytes that the text of a raw profile stands for; nothing if it is damaged."""
    parts = text.split(None, 2)  # a name, how many bytes, and their digits
    if len(parts) < 3 or not (parts[1].isascii() and parts[1].isdigit()) or len(parts[1]) > MAX_DIGITS:
        return b""
    try:
        found = bytes.fromhex(parts[2])  # passes over white space
    except ValueError:
        return b""
    return found if len(found) == int(parts[1]) else b""
