"""XMP: a packet of XML, changed as text. Nothing parses it, so nothing in it is ever resolved or expanded."""

import re

_SIZES = {
    b"tiff:ImageWidth": 0,
    b"exif:PixelXDimension": 0,
    b"tiff:ImageLength": 1,
    b"exif:PixelYDimension": 1,
}
# An attribute or an element with a number.
_NUMBER = re.compile(rb"\b(tiff:Orientation|" + b"|".join(_SIZES) + rb")(\s*(?:=\s*[\"']|>)\s*)\d+")
_THUMBNAILS = (b"xmp:Thumbnails", b"xap:Thumbnails")
_END = b"</rdf:RDF>"


def cleaned(packet: bytes, width: int, height: int) -> bytes:
    """The packet, in UTF-8, of an image that is upright and has this size now, without the small images of what it
    was. Nothing if it is no text."""
    if packet[:2] in (b"\xff\xfe", b"\xfe\xff"):
        try:
            packet = packet.decode("utf-16").encode()
        except UnicodeError:
            return b""
    for name in _THUMBNAILS:
        packet = _without(packet, b"<" + name + b">", b"</" + name + b">")

    def right(found: re.Match[bytes]) -> bytes:
        name, between = found.group(1, 2)
        value = 1 if name == b"tiff:Orientation" else (width, height)[_SIZES[name]]
        return name + between + b"%d" % value

    return _NUMBER.sub(right, packet)


def with_description(packet: bytes, description: bytes) -> bytes:
    """A packet with a further `rdf:Description`, which declares its own namespaces; a new one if there is none that it
    can be put into."""
    place = packet.rfind(_END)
    if place >= 0:
        return packet[:place] + description + packet[place:]
    return (
        b'<?xpacket begin="\xef\xbb\xbf" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
        b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        + description
        + _END
        + b'</x:xmpmeta><?xpacket end="w"?>'
    )


def _without(packet: bytes, start: bytes, end: bytes) -> bytes:
    parts, at = [], 0
    while (opened := packet.find(start, at)) >= 0 and (closed := packet.find(end, opened)) >= 0:
        parts.append(packet[at:opened])
        at = closed + len(end)
    return b"".join([*parts, packet[at:]])
