"""The chunks of a PNG that its pixels need. Drawing programs put megabytes of others beside them.

Pillow reads every chunk, and refuses a file whose texts are long; so it gets a file without them.
"""

import struct

from server.images.workers import check_time

_SIGNATURE_BYTES = 8
_NEEDED = frozenset(
    (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"iCCP", b"sRGB", b"gAMA", b"cHRM", b"cICP", b"pHYs", b"acTL")
)
_CHECK_EVERY = 4096


def needed(data: bytes) -> bytes:
    """The file without the chunks that do not concern its pixels; itself if it has none. What is cut short stays so.

    Raises:
        ImageTooLarge, Left: see `server.images.workers.check_time`.
    """
    parts: list[memoryview] = []
    view = memoryview(data)
    kept_from = 0  # of the part that is not in `parts` yet
    at, count = _SIGNATURE_BYTES, 0
    while at + 8 <= len(data):
        size, name = struct.unpack_from(">I4s", data, at)
        end = at + 12 + size
        if name not in _NEEDED:
            parts.append(view[kept_from:at])
            kept_from = end
        count += 1
        if not count % _CHECK_EVERY:
            check_time()
        at = end
        if name == b"IEND":
            break
    if not kept_from:
        return data
    return b"".join([*parts, view[kept_from:]])
