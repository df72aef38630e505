"""A gRPC caller that costs almost nothing: unary calls as HTTP/2 frames, written and read on a plain socket.

A load generator shares the machine with the server it measures, so each microsecond it spends is taken from the
answer. Measured with 12 KB replies, this takes half the processor time per call of grpcio's own completion queue driven
directly, and a quarter to a half of what its public clients take (table in docs/benchmarks.md): a reply is a few frame
headers to look at, and no object per event.

What makes it small: it only ever sends the same few headers (prepared once, HPACK without indexing); it forbids the
server the HPACK dynamic table (SETTINGS_HEADER_TABLE_SIZE 0), so equal trailers are equal bytes; it opens its receive
windows to the protocol's limit; and it does not parse replies but counts their bytes.
"""

import socket
import struct
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from bench.caller.hpack import Trailers, header_block, read_trailers

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
END_STREAM, ACK, END_HEADERS, PADDED, PRIORITY = 1, 1, 4, 8, 32
CANCEL = 8
WIDEST_WINDOW = 2**31 - 1
FRAME_LIMIT_BYTES = 16384
RECEIVE_BYTES = 1 << 18
OK, CANCELLED, UNKNOWN, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, UNAVAILABLE = 0, 1, 2, 4, 8, 14


class WireError(Exception):
    """The server spoke HTTP/2 in a way this caller cannot go on from; the text says how."""


_DATA_HEAD = struct.Struct(">HBBBIBI")  # of a DATA frame that begins a message, and of the message


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


_NOTHING = memoryview(b"")


@dataclass(slots=True)
class Answer:
    """One finished call: `status` as gRPC counts them, times on the monotonic clock."""

    started_s: float
    finished_s: float
    status: int
    reply_bytes: int
    body: bytes | None = None  # the serialized reply message, if it was to be kept
    pushback_s: float | None = None  # how long the server says to wait before the next try

    @property
    def latency_s(self) -> float:
        return self.finished_s - self.started_s


@dataclass(slots=True)
class _Call:
    started_s: float
    window: int
    received: int = 0
    declared: int = -1  # the message's length by its five-byte prefix
    kept: bytearray | None = None
    unsent: memoryview = _NOTHING


class Connection:
    """One HTTP/2 connection with any number of unary calls to one method in flight. Not for several threads.

    Raises:
        OSError: nobody listens there, or the connection broke.
        WireError: the server broke the protocol or closed the connection.
    """

    def __init__(self, address: tuple[str, int], path: str, *, timeout_s: float | None = None) -> None:
        self._socket = socket.create_connection(address)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._headers = header_block(f"{address[0]}:{address[1]}", path, timeout_s)
        self._head = _frame(HEADERS, END_HEADERS, 0, self._headers)[:5]  # what comes before the stream
        self._calls: dict[int, _Call] = {}
        self._blocked: deque[int] = deque()
        self._ok: dict[bytes, Trailers] = {}  # by block: successful calls end with the same bytes
        self._next_stream = 1
        self._window, self._stream_window = 65535, 65535
        self.stream_limit = WIDEST_WINDOW  # calls that the server lets be in flight here
        self._consumed = 0
        self._buffer = bytearray()
        self._block, self._block_flags = b"", 0
        self._out = bytearray(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        wishes = ((1, 0), (2, 0), (4, WIDEST_WINDOW))  # header table, push, initial window
        self._out += _frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", *wish) for wish in wishes))
        self._out += _frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", WIDEST_WINDOW - 65535))

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    @property
    def in_flight(self) -> int:
        return len(self._calls)

    def start(self, message: bytes, *, keep: bool = False) -> int:
        """Queues one call and returns its stream; `message` is a serialized request. `flush` sends what is queued."""
        stream, self._next_stream = self._next_stream, self._next_stream + 2
        call = self._calls[stream] = _Call(time.perf_counter(), self._stream_window)
        if keep:
            call.kept = bytearray()
        size, number = len(message) + 5, stream.to_bytes(4)
        if size <= min(self._window, call.window, FRAME_LIMIT_BYTES) and not self._blocked:
            self._window -= size
            head = _DATA_HEAD.pack(size >> 8, size & 0xFF, DATA, END_STREAM, stream, 0, size - 5)
            self._out += b"".join((self._head, number, self._headers, head, message))
        else:
            self._out += b"".join((self._head, number, self._headers))
            call.unsent = memoryview(b"\x00" + struct.pack(">I", len(message)) + message)
            self._blocked.append(stream)
            self._send_blocked()
        return stream

    def cancel(self, stream: int) -> bool:
        """Gives a call up, as a gRPC client does at its deadline; False if it has already finished."""
        if self._calls.pop(stream, None) is None:
            return False
        self._out += _frame(RST_STREAM, 0, stream, struct.pack(">I", CANCEL))
        return True

    def flush(self) -> None:
        """Sends what is queued."""
        if self._out:
            self._socket.sendall(self._out)
            self._out.clear()

    def receive(self) -> list[Answer]:
        """Waits for bytes, once, and returns the calls that finished with them; their times are that moment's."""
        data = self._socket.recv(RECEIVE_BYTES)
        if not data:
            raise WireError("the server closed the connection")
        now_s = time.perf_counter()
        self._buffer += data
        answers = list(self._read_frames(now_s))
        if self._consumed > 1 << 29:
            self._out += _frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", self._consumed))
            self._consumed = 0
        return answers

    def _read_frames(self, now_s: float) -> Iterator[Answer]:
        buffer, at, size_read = self._buffer, 0, len(self._buffer)
        while size_read - at >= 9:
            size = (buffer[at] << 16) | (buffer[at + 1] << 8) | buffer[at + 2]
            if size_read - at < 9 + size:
                break
            kind, flags = buffer[at + 3], buffer[at + 4]
            stream = int.from_bytes(buffer[at + 5 : at + 9]) & WIDEST_WINDOW
            payload = at + 9
            at = payload + size
            if kind == DATA:
                self._take_data(stream, payload, size, flags)
                end = Trailers(UNKNOWN, None) if flags & END_STREAM else None
            elif kind in (HEADERS, CONTINUATION):
                end = self._take_headers(kind, flags, bytes(buffer[payload:at]))
            elif kind == RST_STREAM:
                end = Trailers(CANCELLED if buffer[payload + 3] == CANCEL else UNAVAILABLE, None)
            else:
                self._take_control(kind, flags, stream, bytes(buffer[payload:at]))
                continue
            if end is not None and (call := self._calls.pop(stream, None)) is not None:
                yield self._answer(call, end, now_s)
        del buffer[:at]

    def _answer(self, call: _Call, end: Trailers, now_s: float) -> Answer:
        status = UNKNOWN if end.status is None else end.status
        if status == OK and call.received != call.declared + 5:
            raise WireError(f"a reply of {call.received} bytes announced {call.declared + 5}")
        body = bytes(call.kept[5:]) if call.kept is not None else None
        return Answer(call.started_s, now_s, status, max(call.received - 5, 0), body, end.pushback_s)

    def _take_data(self, stream: int, at: int, size: int, flags: int) -> None:
        self._consumed += size
        if (call := self._calls.get(stream)) is None:
            return
        if flags & PADDED:
            raise WireError("padded DATA frames are not read here")
        if call.declared < 0 and size >= 5:
            call.declared = int.from_bytes(self._buffer[at + 1 : at + 5])
        call.received += size
        if call.kept is not None:
            call.kept += self._buffer[at : at + size]

    def _take_headers(self, kind: int, flags: int, payload: bytes) -> Trailers | None:
        """The call's trailers if this frame ends them, None otherwise."""
        if kind == HEADERS:
            padding = payload[0] if flags & PADDED else 0
            skipped = (1 if flags & PADDED else 0) + (5 if flags & PRIORITY else 0)
            self._block, self._block_flags = payload[skipped : len(payload) - padding], flags
        else:
            self._block += payload
        if not flags & END_HEADERS or not self._block_flags & END_STREAM:
            return None
        found = self._ok.get(self._block)
        if found is None:
            found = read_trailers(self._block)
            if found.status == OK:
                self._ok[self._block] = found
        return found

    def _take_control(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == SETTINGS and not flags & ACK:
            for key, value in struct.iter_unpack(">HI", payload):
                if key == 3:
                    self.stream_limit = value
                elif key == 4:
                    for call in self._calls.values():
                        call.window += value - self._stream_window
                    self._stream_window = value
            self._out += _frame(SETTINGS, ACK, 0)
        elif kind == PING and not flags & ACK:
            self._out += _frame(PING, ACK, 0, payload)
        elif kind == GOAWAY:
            reason = int.from_bytes(payload[4:8])
            raise WireError(f"the server sent GOAWAY, error {reason}: {payload[8:].decode(errors='replace')}")
        elif kind == WINDOW_UPDATE:
            more = int.from_bytes(payload)
            if stream == 0:
                self._window += more
            elif stream in self._calls:
                self._calls[stream].window += more
        if self._blocked:
            self._send_blocked()

    def _send_blocked(self) -> None:
        """Queues as much of the waiting requests as the server's windows allow, oldest first."""
        for _ in range(len(self._blocked)):
            stream = self._blocked.popleft()
            if (call := self._calls.get(stream)) is None:
                continue
            while (size := min(len(call.unsent), FRAME_LIMIT_BYTES, self._window, call.window)) > 0:
                last = size == len(call.unsent)
                self._out += _frame(DATA, END_STREAM if last else 0, stream, bytes(call.unsent[:size]))
                call.unsent = call.unsent[size:]
                call.window, self._window = call.window - size, self._window - size
            if call.unsent:
                self._blocked.append(stream)
