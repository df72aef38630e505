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
_START = re.compile(rb"<rdf:RDF\b[^<>]*>")
_NAMESPACE = re.compile(rb"\sxmlns:([\w.-]+)\s*=\s*(\"[^\"<>]*\"|'[^'<>]*')")
# The segments of a JPEG that hold what its packet has no room for, and how that names them.
JPEG_XMP_MORE = b"http://ns.adobe.com/xmp/extension/\0"
_FURTHER = re.compile(
    rb"\sxmpNote:HasExtendedXMP\s*=\s*[\"']([0-9A-Fa-f]{32})[\"']"
    rb"|<xmpNote:HasExtendedXMP>\s*([0-9A-Fa-f]{32})\s*</xmpNote:HasExtendedXMP>"
)


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


def further_of(packet: bytes) -> bytes:
    """The name by which a packet of a JPEG calls for a second one; nothing if it does not."""
    found = _FURTHER.search(packet)
    return b"" if found is None else (found[1] or found[2]).upper()


def in_two(packet: bytes, more: bytes, limit_bytes: int) -> tuple[bytes, bytes]:
    """The packet and a second one; all is in the second if the first is longer than the limit."""
    if len(packet) <= limit_bytes:
        return packet, more
    return b"", joined(packet, more)


def calling(packet: bytes, name: bytes) -> bytes:
    """The packet, calling for a second one of that name."""
    note = b'<rdf:Description rdf:about="" xmlns:xmpNote="http://ns.adobe.com/xmp/note/" xmpNote:HasExtendedXMP="'
    return with_description(_FURTHER.sub(b"", packet), note + name + b'"/>')


def joined(packet: bytes, more: bytes) -> bytes:
    """Both packets in one: the descriptions of the second behind those of the first, with the namespaces that they
    are declared in. The first alone if the second is no packet; nothing of either is lost otherwise."""
    packet = _FURTHER.sub(b"", packet)
    start, end = _START.search(more), more.rfind(_END)
    if start is None or end < start.end():
        return packet
    body = more[start.end() : end]
    first = _START.search(packet)
    if first is None:
        return more
    outer = dict(_NAMESPACE.findall(packet[: first.end()]))
    missing = {name: uri for name, uri in _NAMESPACE.findall(more[: start.end()]) if name not in outer}
    declared = b"".join(b" xmlns:" + name + b"=" + uri for name, uri in missing.items())
    head = packet[: first.end() - 1] + declared + b">" + packet[first.end() :]
    return with_description(head, body)


def _without(packet: bytes, start: bytes, end: bytes) -> bytes:
    parts, at = [], 0
    while (opened := packet.find(start, at)) >= 0 and (closed := packet.find(end, opened)) >= 0:
        parts.append(packet[at:opened])
        at = closed + len(end)
    return b"".join([*parts, packet[at:]])
