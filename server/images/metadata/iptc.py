"""IPTC: captions, keywords and credits of news, in the resources that Photoshop puts into a JPEG and a TIFF. In a PNG
they lie as hexadecimal digits in a text, a "raw profile", as ImageMagick and ExifTool write and read them.
"""

import re
import struct
import zlib

PHOTOSHOP = b"Photoshop 3.0\0"  # begins such a segment of a JPEG
_RESOURCE, _IPTC = b"8BIM", 0x0404
_MAX_RESOURCES = 1024
RAW_PROFILE = b"Raw profile type "
_RAW = re.compile(rb"\s*\S+\s+(\d{1,10})\s+([0-9A-Fa-f\s]*)\Z")
_LINE_BYTES = 36


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
    found = _RAW.match(text)
    if found is None:
        return b""
    digits = b"".join(found[2].split())
    return bytes.fromhex(digits.decode()) if len(digits) == 2 * int(found[1]) else b""
