"""The caller for servers that only speak HTTP/1.1: POST of bytes, one call in flight on a connection, replies counted.

As cheap as `wire`: a request is written beforehand but for its body, and of a reply only status and length are
looked at.
"""

import socket
import time

from bench.caller.wire import OK, UNKNOWN, Answer, WireError

RECEIVE_BYTES = 1 << 18


class HttpConnection:
    """As `wire.Connection`, with one call in flight. `path` is that of the URL.

    Raises:
        OSError: nobody listens there, or the connection broke.
        WireError: the reply is not HTTP/1.1 with a length, or the server closed the connection.
    """

    stream_limit = 1

    def __init__(self, address: tuple[str, int], path: str, *, timeout_s: float | None = None) -> None:
        if timeout_s is not None:
            raise ValueError("a deadline cannot be sent over HTTP/1.1")
        self._socket = socket.create_connection(address)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._head = f"POST {path} HTTP/1.1\r\nHost: {address[0]}:{address[1]}\r\n".encode()
        self._head += b"Content-Type: application/octet-stream\r\nContent-Length: "
        self._started_s = 0.0
        self._keeps = False
        self._out = b""
        self._head_bytes = self._missing = 0  # of the reply; its body's bytes are known once its head has been read
        self._buffer = bytearray()
        self.in_flight = 0

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def start(self, message: bytes, *, keep: bool = False) -> int:
        """Queues the call; `flush` sends it."""
        self._started_s, self._keeps, self.in_flight = time.perf_counter(), keep, 1
        self._out = b"%b%d\r\n\r\n%b" % (self._head, len(message), message)
        return 0

    def cancel(self, stream: int) -> bool:
        """Not offered: the connection would have to be closed."""
        raise NotImplementedError

    def flush(self) -> None:
        """Sends what is queued."""
        if self._out:
            self._socket.sendall(self._out)
            self._out = b""

    def receive(self) -> list[Answer]:
        """Waits for bytes, once, and returns the call if it finished with them."""
        data = self._socket.recv(RECEIVE_BYTES)
        if not data:
            raise WireError("the server closed the connection")
        now_s = time.perf_counter()
        buffer = self._buffer
        buffer += data
        if not self._head_bytes:
            end = buffer.find(b"\r\n\r\n")
            if end < 0:
                return []
            self._head_bytes = end + 4
            self._missing = end + 4 + content_length(bytes(buffer[:end]))
        if len(buffer) < self._missing:
            return []
        status = OK if buffer.startswith(b"HTTP/1.1 200") else UNKNOWN
        body = bytes(buffer[self._head_bytes :]) if self._keeps else None
        answer = Answer(self._started_s, now_s, status, self._missing - self._head_bytes, body)
        buffer.clear()
        self._head_bytes = self.in_flight = 0
        return [answer]


def content_length(head: bytes) -> int:
    """Of a reply's head.

    Raises:
        WireError: it has none: it may be in chunks, which are not read here.
    """
    lowered = head.lower()
    at = lowered.find(b"\r\ncontent-length:")
    if at < 0:
        raise WireError(f"a reply without Content-Length: {head[:200]!r}")
    return int(lowered[at + 17 :].split(b"\r\n", 1)[0])
