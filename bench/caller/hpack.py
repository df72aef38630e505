"""The little of HPACK that a gRPC caller needs: its request headers, and what a server's trailers say.

Only blocks written without the dynamic table are read, which is what a caller gets that sets its size to 0.
"""

from typing import NamedTuple

UNKNOWN = 2

# HPACK's Huffman code (RFC 7541, appendix B) of the characters in the names and values that are read here.
_CODES = {
    "-": "010110", "a": "00011", "b": "100011", "c": "00100", "e": "00101", "g": "100110", "h": "100111",
    "k": "1110101", "m": "101001", "p": "101011", "r": "101100", "s": "01000", "t": "01001", "u": "101101",
    "y": "1111010", "0": "00000", "1": "00001", "2": "00010",
} | {str(n): f"{n + 22:06b}" for n in range(3, 10)}  # fmt: skip
MOST_STARTS = 8
_starts: dict[bytes, "Trailers"] = {}  # blocks up to their status
_DIGIT_OF = {code: character for character, code in _CODES.items() if character.isdigit()}


class HeaderError(Exception):
    """A header block that cannot be read; the text says why."""


class Trailers(NamedTuple):
    """What a header block says; None where it does not.

    Attributes:
        status: the call's gRPC status.
        pushback_s: how long to wait before the next try (grpc-retry-pushback-ms).
    """

    status: int | None
    pushback_s: float | None


def _huffman(text: str) -> bytes:
    bits = "".join(_CODES[character] for character in text)
    bits += "1" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8)


def _both(name: str) -> tuple[bytes, bytes]:
    return name.encode(), _huffman(name)


_STATUS_NAMES = _both("grpc-status")
_PUSHBACK_NAMES = _both("grpc-retry-pushback-ms")


def _digits(value: bytes, is_huffman: bool) -> str:
    """The digits that `value` begins with, whichever way it is written."""
    if not is_huffman:
        return value.decode("ascii", "replace")
    digits, code = "", ""
    for bit in f"{int.from_bytes(value):0{8 * len(value)}b}":
        code += bit
        if code in _DIGIT_OF:
            digits, code = digits + _DIGIT_OF[code], ""
    return digits


def _integer(block: bytes, at: int, prefix_bits: int) -> tuple[int, int]:
    """An HPACK integer at `at` and the position after it."""
    limit = (1 << prefix_bits) - 1
    value = block[at] & limit
    at += 1
    if value < limit:
        return value, at
    shift = 0
    while True:
        byte = block[at]
        value += (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at


def read_trailers(block: bytes) -> Trailers:
    """What a header block that was written without the dynamic table says.

    Raises:
        HeaderError: it was written with it.
    """
    # Rejections of one server begin alike, up to their status, and what follows is long: most are not read to the end.
    if not any(name in block for name in _PUSHBACK_NAMES):
        for start, ended in _starts.items():
            if block.startswith(start):
                return ended
    status: int | None = None
    pushback_s: float | None = None
    at = 0
    while at < len(block):
        first = block[at]
        if first & 0x80:  # a whole field of the static table: none that is looked for here
            index, at = _integer(block, at, 7)
            if index > 61:
                raise HeaderError("the server used HPACK's dynamic table although its size was set to 0")
            continue
        if first & 0xE0 == 0x20:  # dynamic table size update
            _, at = _integer(block, at, 5)
            continue
        index, at = _integer(block, at, 6 if first & 0x40 else 4)
        name = b""
        if index == 0:
            size, at = _integer(block, at, 7)
            name, at = block[at : at + size], at + size
        is_huffman = block[at] & 0x80 > 0
        size, at = _integer(block, at, 7)
        value, at = block[at : at + size], at + size
        if name in _STATUS_NAMES:
            digits = _digits(value, is_huffman)
            status = int(digits) if digits.isdigit() and int(digits) <= 16 else UNKNOWN
            if len(_starts) < MOST_STARTS:
                _starts[block[:at]] = Trailers(status, None)
        elif name in _PUSHBACK_NAMES:
            digits = _digits(value, is_huffman)
            pushback_s = int(digits) / 1e3 if digits.isdigit() else None
    return Trailers(status, pushback_s)


def _literal(name: bytes, value: bytes) -> bytes:
    """One header field, never indexed into the table, lengths below 127."""
    return b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value


def header_block(authority: str, path: str, timeout_s: float | None) -> bytes:
    """The request headers of every call of a run."""
    fields = [
        b"\x83\x86",  # :method POST, :scheme http
        b"\x04" + bytes([len(path)]) + path.encode(),
        b"\x01" + bytes([len(authority)]) + authority.encode(),
        _literal(b"te", b"trailers"),
        _literal(b"content-type", b"application/grpc"),
    ]
    if timeout_s is not None:
        timeout = f"{round(timeout_s * 1e6)}u" if timeout_s < 100 else f"{round(timeout_s * 1e3)}m"  # 8 digits at most
        fields.append(_literal(b"grpc-timeout", timeout.encode()))
    return b"".join(fields)
