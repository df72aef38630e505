"""IPTC: captions, keywords and credits of news, in the resources that Photoshop puts into a JPEG and a TIFF. In a PNG
they lie as hexadecimal digits in a text, a "raw profile", as ImageMagick and ExifTool write and read them.
"""

import struct
import zlib

PHOTOSHOP = b"Photoshop 3.0\0"  # begins such a segment of a JPEG
_RESOURCE, _IPTC = b"8BIM", 0x0404
_MAX_RESOURCES = 1024
RAW_PROFILE = b"Raw profile type "
_LINE_BYTES = 36
_MAX_DIGITS = 10  # of a length


def iptc_of(resources: bytes) -> bytes:
    """The IPTC block among Photoshop's resources; nothing if there is none."""
    at = 0
    for _ in range(_MAX_RESOURCES):
        if resources[at : at + 4] != _RESOURCE or at + 7 > len(resources):
            return b""
        (kind,) = struct.unpack_from(">H", resources, at + 4)
        start = at + 6 + (resources[at + 6] + 2 & ~1)  # a name, whose length counts, filled up to an even number
        if start + 4 > len(resources):
            return b""
        (size,) = struct.unpack_from(">I", resources, start)
        if kind == _IPTC:
            return resources[start + 4 : start + 4 + size]
        at = start + 4 + size + size % 2
    return b""


def as_resource(iptc: bytes) -> bytes:
    """The one resource of Photoshop's that holds it."""
    return _RESOURCE + struct.pack(">HHI", _IPTC, 0, len(iptc)) + iptc + bytes(len(iptc) % 2)


def as_raw_profile(iptc: bytes) -> bytes:
    """What a zTXt chunk of a PNG holds."""
    block = as_resource(iptc)
    lines = (block[at : at + _LINE_BYTES].hex() for at in range(0, len(block), _LINE_BYTES))
    text = f"\niptc\n{len(block):8d}\n" + "\n".join(lines) + "\n"
    return RAW_PROFILE + b"iptc\0\0" + zlib.compress(text.encode())


def raw_profile(text: bytes) -> bytes:
    """The bytes that the text of a raw profile stands for; nothing if it is damaged."""
    parts = text.split(None, 2)  # a name, how many bytes, and their digits
    if len(parts) < 3 or not parts[1].isdigit() or len(parts[1]) > _MAX_DIGITS:
        return b""
    try:
        found = bytes.fromhex(parts[2].decode("ascii"))  # passes over white space
    except ValueError:
        return b""
    return found if len(found) == int(parts[1]) else b""
