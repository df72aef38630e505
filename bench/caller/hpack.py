"""The few HPACK words that a gRPC caller needs: its request headers, and the status in a server's trailers.

Only blocks written without the dynamic table are read, which is what a caller gets that sets its size to 0.
"""

UNKNOWN = 2

# "grpc-status" and the numbers 0..16, each as plain text and as HPACK's Huffman code writes it (RFC 7541, appendix B).
_STATUS_NAMES = (b"grpc-status", bytes.fromhex("9acac8b21234da8f"))
_DIGITS = {"0": "00000", "1": "00001", "2": "00010"} | {str(n): f"{n + 22:06b}" for n in range(3, 10)}


class HeaderError(Exception):
    """A header block that cannot be read; the text says why."""


def _huffman_digits(text: str) -> bytes:
    bits = "".join(_DIGITS[digit] for digit in text)
    bits += "1" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8)


_STATUSES = {str(n).encode(): n for n in range(17)} | {_huffman_digits(str(n)): n for n in range(17)}


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


def read_status(block: bytes) -> int | None:
    """The gRPC status in a header block that was written without the dynamic table, None where it has none."""
    at = 0
    while at < len(block):
        first = block[at]
        if first & 0x80:  # a whole field of the static table: never grpc-status
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
        size, at = _integer(block, at, 7)
        if name in _STATUS_NAMES:
            return _STATUSES.get(block[at : at + size], UNKNOWN)
        at += size
    return None


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
        fields.append(_literal(b"grpc-timeout", f"{round(timeout_s * 1e6)}u".encode()))
    return b"".join(fields)
