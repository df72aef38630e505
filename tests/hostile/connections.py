"""What comes over a socket that is no HTTP, no HTTP/2 or too much of it. Each is bytes, and how its sender behaves."""

import contextlib
import socket
import ssl
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass

from bench.caller.hpack import header_block
from tests.hostile.messages import infer, path_of

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, END_HEADERS, PADDED = 1, 4, 8
# How long a sender waits for the server's next bytes, and in all; servers keep a connection that may still become good.
QUIET_S = 0.15
LIMIT_S = 2.0


@dataclass(frozen=True)
class Bytes:
    """What is sent in one piece. `answered`: whether the server must say something."""

    what: str
    data: bytes
    answered: bool = False


def send(address: tuple[str, int], data: bytes) -> bytes:
    """Sends it all, reads until the server closes or is quiet, and closes; returns the answer."""
    with socket.create_connection(address, timeout=LIMIT_S) as connection:
        answer, end_s = bytearray(), time.monotonic() + LIMIT_S
        try:
            connection.sendall(data)
            connection.settimeout(QUIET_S)
            while time.monotonic() < end_s:
                part = connection.recv(1 << 16)
                if not part:
                    break
                answer += part
        except OSError:  # quiet, reset or broken pipe: the server has had enough
            pass
    return bytes(answer)


def frame(kind: int, flags: int, stream: int, payload: bytes = b"", size: int | None = None) -> bytes:
    """One HTTP/2 frame; `size`: what its head says, if that is not the truth."""
    length = len(payload) if size is None else size
    return struct.pack(">I", length)[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def _hello() -> bytes:
    """What a TLS client says first."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname="localhost")
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def _get(path: str, *headers: str, method: str = "GET", protocol: str = "HTTP/1.1") -> bytes:
    return "\r\n".join((f"{method} {path} {protocol}", "Host: here", *headers, "", "")).encode("latin-1")


def http() -> Iterator[Bytes]:
    """For the HTTP port."""
    for path in (
        "/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "//etc/passwd", "/livez/../metrics", "/metrics%00",
        "/\\..\\x", "/livez;x=1", "/%", "/%zz", "/" + "a" * 8000, "/.git/config", "/?" + "x=1&" * 2000,
    ):  # fmt: skip
        yield Bytes(f"path {path[:30]}", _get(path), True)
    yield Bytes("an absolute URL", _get("http://other/livez"), True)
    for path in ("no-slash", "*", "other:443"):
        yield Bytes(f"target {path}", _get(path), True)
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PATCH", "PRI", "get", "X" * 1000):
        yield Bytes(f"method {method[:20]}", _get("/metrics", method=method), True)
    for protocol in ("HTTP/0.9", "HTTP/1.0", "HTTP/1.9", "HTTP/2.0", "HTTP/9", "HTCPCP/1.0", ""):
        yield Bytes(f"protocol {protocol!r}", _get("/livez", protocol=protocol), True)
    for what, header in {
        "20 kB": "X: " + "a" * 20_000,
        "1 MB": "X: " + "a" * (1 << 20),
        "1,000 lines": "\r\n".join(f"X{n}: y" for n in range(1000)),
        "no colon": "nothing",
        "a name with spaces": "a b: c",
        "NUL": "X: \x00",
        "bytes above 127": "X: \xff\xfe",
        "folded lines": "X: a\r\n b",
        "two hosts": "Host: there",
        "two lengths": "Content-Length: 1\r\nContent-Length: 2",
        "negative length": "Content-Length: -1",
        "huge length": "Content-Length: 99999999999999999999",
        "length in words": "Content-Length: many",
        "length and chunks": "Content-Length: 3\r\nTransfer-Encoding: chunked",
        "unknown coding": "Transfer-Encoding: x",
        "upgrade to h2c": "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAAA",
        "upgrade to WebSocket": "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: AAAA",
        "expectation": "Expect: 100-continue\r\nContent-Length: 5",
        "100 ranges": "Range: bytes=" + ",".join("0-1" for _ in range(100)),
    }.items():
        yield Bytes(f"header: {what}", _get("/livez", header), True)
    for authorization in ("", "Bearer caller", "Bearer ", "Basic Og==", "Bearer " + "k" * 5000, "Bearer \xff"):
        yield Bytes(f"metrics with {authorization[:20]!r}", _get("/metrics", f"Authorization: {authorization}"), True)
    chunked = _get("/livez", "Transfer-Encoding: chunked", method="POST")
    for body in ("zz\r\n", "-1\r\n", "ffffffffffffffffff\r\n", "1;" + "e" * 30_000, "5\r\nab", "0\r\nX: y\r\n" * 500):
        yield Bytes(f"chunks {body[:12]!r}", chunked + body.encode())
    yield Bytes("300 requests at once", _get("/livez") * 300, True)
    for what, data in _garbage():
        yield Bytes(what, data)


def _garbage() -> Iterator[tuple[str, bytes]]:
    """What neither port speaks."""
    yield "nothing", b""
    yield "one NUL", b"\x00"
    yield "zeros", bytes(100_000)
    yield "0xff", b"\xff" * 100_000
    yield "every byte", bytes(range(256)) * 40
    yield "line ends", b"\r\n" * 10_000
    yield "a megabyte of one line", b"a" * (1 << 20)
    yield "a TLS hello", _hello()
    yield "the start of a TLS hello", _hello()[:40]
    yield "SSH", b"SSH-2.0-OpenSSH_9.6\r\n"
    yield "SMB", b"\x00\x00\x00\x85\xffSMBr" + bytes(120)
    yield "RDP", b"\x03\x00\x00\x13\x0e\xe0\x00\x00\x00\x00\x00\x01\x00\x08\x00\x03\x00\x00\x00"
    yield "redis", b"*1\r\n$4\r\nINFO\r\n"
    yield "a request that stops", b"GET /livez HT"
    yield "a request and then NULs", _get("/livez") + bytes(5000)
    yield "a response", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    yield "a proxy's header", b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\nGET / HTTP/1.0\r\n\r\n"
    yield "HTTP/2's preface and garbage", PREFACE + b"\xff" * 3000


def _call(stream: int, *, end: bool = True, path: str = "ModelInfer", headers: bytes = b"") -> bytes:
    """The frames of one good call, or its head alone."""
    block = header_block("localhost", path_of(path), None) + headers + _header("authorization", "Bearer caller")
    head = frame(HEADERS, END_HEADERS, stream, block)
    return head + (_message(stream, infer().SerializeToString()) if end else b"")


def _message(stream: int, body: bytes, *, flag: int = 0, size: int | None = None, flags: int = END_STREAM) -> bytes:
    prefix = bytes([flag]) + struct.pack(">I", len(body) if size is None else size)
    return frame(DATA, flags, stream, prefix + body)


def _header(name: str, value: str) -> bytes:
    """HPACK without indexing and without Huffman; up to 16 kB."""
    return b"\x00" + _text(name.encode()) + _text(value.encode("latin-1"))


def _text(value: bytes) -> bytes:
    if len(value) < 127:
        return bytes([len(value)]) + value
    rest, size = len(value) - 127, bytearray(b"\x7f")
    while rest > 127:
        size.append(rest & 127 | 128)
        rest >>= 7
    return bytes(size) + bytes([rest]) + value


def http2() -> Iterator[Bytes]:
    """For the gRPC port."""
    for what, data in _garbage():
        yield Bytes(what, data)
    yield Bytes("HTTP/1.1", _get("/livez"))
    start = PREFACE + frame(SETTINGS, 0, 0)
    for what, frames in {**_odd_frames(), **_odd_headers(), **_odd_messages(), **_too_much()}.items():
        yield Bytes(what, start + frames)
    for kind in range(20):
        for size in (0, 1, 5, 100):
            yield Bytes(f"frame {kind} of {size} zeros on stream 1", start + frame(kind, 0, 1, bytes(size)))
        yield Bytes(f"frame {kind}, every flag, on stream 0", start + frame(kind, 255, 0, b"\xff" * 20))


def _odd_frames() -> dict[str, bytes]:
    return {
        "no settings": b"",
        "half a frame": frame(HEADERS, 4, 1, bytes(5), size=100),
        "a frame of 16 MB": frame(DATA, 0, 1, bytes(1000), size=(1 << 24) - 1),
        "settings of 5 B": frame(SETTINGS, 0, 0, bytes(5)),
        "settings with ACK and more": frame(SETTINGS, 1, 0, bytes(6)),
        "a window of 2^31": frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 1 << 31)),
        "a frame size of 0": frame(SETTINGS, 0, 0, struct.pack(">HI", 5, 0)),
        "a window of 0, and a call": frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 0)) + _call(1),
        "unknown settings": frame(SETTINGS, 0, 0, struct.pack(">HI", 0xFFFF, 1) * 500),
        "a window that grows by 0": frame(WINDOW_UPDATE, 0, 0, bytes(4)),
        "a window that overflows": frame(WINDOW_UPDATE, 0, 0, b"\x7f\xff\xff\xff") * 2,
        "a call's window that overflows": _call(1, end=False) + frame(WINDOW_UPDATE, 0, 1, b"\x7f\xff\xff\xff") * 2,
        "data before headers": frame(DATA, 0, 1, b"x"),
        "an even stream": _call(2),
        "streams that go back": _call(9) + _call(3),
        "a stream twice": _call(1) + _call(1),
        "a promise": frame(PUSH_PROMISE, END_HEADERS, 1, bytes(8)),
        "a stream that depends on itself": frame(PRIORITY, 0, 1, struct.pack(">IB", 1, 0)),
        "padding beyond the frame": frame(DATA, PADDED, 1, b"\xff"),
        "a farewell and a call": frame(GOAWAY, 0, 0, bytes(8)) + _call(1),
        "a reset of what is not there": frame(RST_STREAM, 0, 77, bytes(4)),
        "a continuation of nothing": frame(CONTINUATION, END_HEADERS, 1, bytes(4)),
        "headers cut by a ping": frame(HEADERS, 0, 1, b"\x82") + frame(PING, 0, 0, bytes(8)),
        "a ping of 7 B": frame(PING, 0, 0, bytes(7)),
    }


def _odd_headers() -> dict[str, bytes]:
    def with_(*pairs: tuple[str, str], end: bool = True) -> bytes:
        return _call(1, end=end, headers=b"".join(_header(*pair) for pair in pairs))

    def alone(*pairs: tuple[str, str]) -> bytes:
        block = b"".join(_header(*pair) for pair in pairs)
        return frame(HEADERS, END_HEADERS | END_STREAM, 1, block)

    post = ((":method", "POST"), (":scheme", "http"), (":authority", "x"))
    grpc = (("content-type", "application/grpc"), ("te", "trailers"))
    big = b"".join(_header(f"x{n}", "v" * 4000) for n in range(4))
    return {
        "HPACK garbage": frame(HEADERS, END_HEADERS, 1, b"\xff" * 50),
        "an index of the table that is not there": frame(HEADERS, END_HEADERS, 1, b"\xff\xff\xff\xff\x0f"),
        "a table of 4 GB": frame(HEADERS, END_HEADERS, 1, b"\x3f\xe1\xff\xff\xff\x0f"),
        "a Huffman code that ends wrong": frame(HEADERS, END_HEADERS, 1, b"\x00\x81\xff\x81\x00"),
        "no headers": frame(HEADERS, END_HEADERS | END_STREAM, 1, b""),
        "no path": alone(*post, *grpc),
        "no method": alone(post[1], post[2], (":path", "/x/y"), *grpc),
        "a GET": alone((":method", "GET"), *post[1:], (":path", path_of("ServerLive")), *grpc),
        "two paths": alone(*post, (":path", "/a/b"), (":path", "/c/d"), *grpc),
        "an unknown pseudo header": alone(*post, (":path", "/a/b"), (":x", "y"), *grpc),
        "another content-type": alone(*post, (":path", path_of("ServerLive")), ("content-type", "text/html")),
        "no te": alone(*post, (":path", path_of("ServerLive")), grpc[0]),
        **{f"path {path[:20]}": alone(*post, (":path", path), *grpc) for path in (
            "", "/", "//", "/a", "a/b", "/../x", "/inference.GRPCInferenceService/", "/x/" + "y" * 4000,
        )},
        "an upper-case name": with_(("X-Upper", "1")),
        "a name with a line break": with_(("x\r\ny", "1")),
        "a value with a line break": with_(("x", "a\r\nb: c")),
        "a value with NUL": with_(("x", "\x00")),
        "a connection header": with_(("connection", "close")),
        "a coding of its own": with_(("grpc-encoding", "x")),
        "binary that is no base64": with_(("x-bin", "%%%")),
        **{f"timeout {value}": with_(("grpc-timeout", value)) for value in (
            "", "0n", "1n", "-1S", "1", "S", "99999999H", "999999999H", "1.5S", "1X", "\u00b9S",
        )},
        "headers of 16 kB": with_() + frame(HEADERS, END_HEADERS, 3, big),
        "headers of 1 MB": frame(HEADERS, 0, 1, big) + frame(CONTINUATION, 0, 1, big) * 64,
        "2,000 headers": frame(HEADERS, END_HEADERS, 1, _header("a", "b") * 2000),
        "1,000 empty continuations": frame(HEADERS, 0, 1, b"\x82") + frame(CONTINUATION, 0, 1) * 1000,
        "trailers with a body after them": _call(1, end=False) + frame(HEADERS, 5, 1, b"") + frame(DATA, 0, 1, b"x"),
    }  # fmt: skip


def path_that_is_not_utf8() -> bytes:
    """A call of a method that nobody offers, by a name that is no text."""
    pairs = ((":method", "POST"), (":scheme", "http"), (":authority", "x"), (":path", "/\xff/\xff"))
    grpc = (("content-type", "application/grpc"), ("te", "trailers"))
    block = b"".join(_header(*pair) for pair in (*pairs, *grpc))
    return PREFACE + frame(SETTINGS, 0, 0) + frame(HEADERS, END_HEADERS | END_STREAM, 1, block)


def _odd_messages() -> dict[str, bytes]:
    body = infer().SerializeToString()
    head, gzip = _call(1, end=False), _call(1, end=False, headers=_header("grpc-encoding", "gzip"))
    return {
        "no message": head + frame(DATA, END_STREAM, 1),
        "half a prefix": head + frame(DATA, END_STREAM, 1, b"\x00\x00"),
        "half a message": head + _message(1, body[:10], size=len(body)),
        "a message of 4 GB": head + _message(1, body, size=(1 << 32) - 1, flags=0),
        "more than the largest message": head + _message(1, body, size=(16 << 20) + 1, flags=0),
        "an unknown flag": head + _message(1, body, flag=9),
        "compressed, it says, without a coding": head + _message(1, body, flag=1),
        "gzip that is none": gzip + _message(1, body, flag=1),
        "gzip of nothing": gzip + _message(1, b"", flag=1),
        "two messages": head + _message(1, body, flags=0) + _message(1, body),
        "a message and no end": head + _message(1, body, flags=0),
        "1 B frames": head + b"".join(frame(DATA, 0, 1, bytes([byte])) for byte in b"\x00\x00\x00\x00\x10" + body[:16]),
        "10,000 empty frames": head + frame(DATA, 0, 1) * 10_000,
        "an unary call's trailers only": _call(1, end=False) + frame(RST_STREAM, 0, 1, struct.pack(">I", 8)),
    }


def _too_much() -> dict[str, bytes]:
    reset = struct.pack(">I", 8)
    odd = range(1, 1001, 2)
    return {
        "1,000 pings": frame(PING, 0, 0, bytes(8)) * 1000,
        "1,000 settings": frame(SETTINGS, 0, 0, struct.pack(">HI", 3, 100)) * 1000,
        "1,000 priorities": b"".join(frame(PRIORITY, 0, n, bytes(5)) for n in odd) * 2,
        "1,000 windows": frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 1)) * 1000,
        "500 calls, each reset at once": b"".join(_call(n) + frame(RST_STREAM, 0, n, reset) for n in odd),
        "500 heads, each reset at once": b"".join(_call(n, end=False) + frame(RST_STREAM, 0, n, reset) for n in odd),
        "500 heads without messages": b"".join(_call(n, end=False) for n in odd),
        "100 unfinished messages of 10 MB": b"".join(
            _call(n, end=False) + _message(n, bytes(100), size=10 << 20, flags=0) for n in range(1, 201, 2)
        ),
        "200 calls that nobody waits for": b"".join(_call(n) for n in range(1, 401, 2)),
    }


def slow_heads(address: tuple[str, int], count: int) -> list[socket.socket]:
    """Connections that have sent part of a head, and will not send more."""
    connections = [socket.create_connection(address, timeout=LIMIT_S) for _ in range(count)]
    for connection in connections:
        connection.sendall(b"GET /livez HTTP/1.1\r\nX: ")
    return connections
