"""gRPC spoken by hand, for what no client library does: messages that never end, windows that never open."""

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

DATA, HEADERS, RESET, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, END_HEADERS, ACK = 1, 4, 1
INITIAL_WINDOW_SIZE = 4
MAX_FRAME_BYTES = 1 << 14


def message(data: bytes, claimed_bytes: int | None = None) -> bytes:
    """A gRPC message on the wire; `claimed_bytes`: the length that its prefix says."""
    return b"\0" + struct.pack(">I", len(data) if claimed_bytes is None else claimed_bytes) + data


class RawConnection:
    """One HTTP/2 connection that answers settings and pings, and opens no window by itself.

    `received`: the payloads of all headers and data of each stream. grpc.aio's headers are plain text.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._next = 1
        self._changed = asyncio.Event()
        self.received: dict[int, bytes] = {}
        self.settings: dict[int, int] = {}  # the server's, by number
        self.answered_pings = 0
        self.farewell = b""
        self.closed: set[int] = set()
        self.is_lost = False

    def begin(self, path: str, data: bytes, ends: bool = False) -> int:
        """Begins a call and sends so much of its data, at most 64 KiB; its stream."""
        stream, self._next = self._next, self._next + 2
        head = {":method": "POST", ":scheme": "http", ":path": path, ":authority": "x"}
        head |= {"te": "trailers", "content-type": "application/grpc"}
        self._send(HEADERS, END_HEADERS, stream, b"".join(_field(*item) for item in head.items()))
        self.send(stream, data, ends)
        return stream

    def send(self, stream: int, data: bytes, ends: bool = False) -> None:
        parts = [data[at : at + MAX_FRAME_BYTES] for at in range(0, len(data), MAX_FRAME_BYTES)] or [b""]
        for part in parts[:-1]:
            self._send(DATA, 0, stream, part)
        self._send(DATA, END_STREAM if ends else 0, stream, parts[-1])

    def ping(self) -> None:
        self._send(PING, 0, 0, bytes(8))

    def open_window(self, stream: int, size: int) -> None:
        """Lets the server send so much more, on the stream and on the connection."""
        for number in (0, stream):
            self._send(WINDOW_UPDATE, 0, number, struct.pack(">I", size))

    async def until_closed(self, stream: int) -> bytes:
        """All that came on the stream, once the server has ended it or the connection."""
        async with asyncio.timeout(10):
            while stream not in self.closed and not self.is_lost:
                self._changed.clear()
                await self._changed.wait()
        return self.received.get(stream, b"")

    def greet(self, window: int) -> None:
        """What a client sends first."""
        self._writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        self._send(SETTINGS, 0, 0, struct.pack(">HI", INITIAL_WINDOW_SIZE, window))

    async def listen(self) -> None:
        """Reads until the connection is lost."""
        try:
            while True:
                head = await self._reader.readexactly(9)
                kind, flags, stream = head[3], head[4], int.from_bytes(head[5:9], "big")
                payload = await self._reader.readexactly(int.from_bytes(head[:3], "big"))
                self._take(kind, flags, stream, payload)
        except (asyncio.IncompleteReadError, ConnectionError):
            self.is_lost = True
            self._changed.set()

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind in (SETTINGS, PING) and not flags & ACK:
            self._send(kind, ACK, 0, payload if kind == PING else b"")
        if kind == SETTINGS and not flags & ACK:
            self.settings |= dict(struct.iter_unpack(">HI", payload))
        self.answered_pings += kind == PING and bool(flags & ACK)
        if kind == GOAWAY:
            self.farewell = payload[8:]
        if kind in (HEADERS, DATA):
            self.received[stream] = self.received.get(stream, b"") + payload
        if kind == RESET or (kind in (HEADERS, DATA) and flags & END_STREAM):
            self.closed.add(stream)
        self._changed.set()

    def _send(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        head = struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream)
        self._writer.write(head + payload)


def _field(name: str, value: str) -> bytes:
    """A header, literal and without index."""
    return b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()


@asynccontextmanager
async def raw_connection(target: str, window: int = 1 << 20) -> AsyncIterator[RawConnection]:
    """A connection to host:port; `window`: bytes that the server may send on a stream before it is given more."""
    host, _, port = target.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    connection = RawConnection(reader, writer)
    connection.greet(window)
    running = asyncio.create_task(connection.listen())
    try:
        yield connection
    finally:
        running.cancel()
        writer.close()
