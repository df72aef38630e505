"""The HTTP port: /livez and /readyz for Kubernetes, /metrics for Prometheus.

Three GET paths without bodies do not need a web framework; what they need is to stay up beside a busy gRPC server
whoever connects. So: a bounded head, a bounded wait for it, a bounded number of connections (a new one takes the place
of the one that was silent longest, so that nobody can lock the probes out), and a close after anything odd.
"""

import asyncio
from asyncio import StreamReader, StreamWriter
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import urlsplit

from server.observability.metrics import CONTENT_TYPE, Metrics

MAX_HEAD_BYTES = 16 << 10
MAX_CONNECTIONS = 64
WRITE_TIMEOUT_S = 10.0
PLAIN = "text/plain; charset=utf-8"
INDEX = b"/livez    is the process alive?\n/readyz   may it get requests?\n/metrics  Prometheus metrics\n"


@dataclass(frozen=True, slots=True)
class Head:
    """The part of a request that matters here."""

    method: str
    path: str
    keep_alive: bool


class BadHead(Exception):
    """A request that gets this status, and then the end of its connection."""

    def __init__(self, status: HTTPStatus, text: str) -> None:
        super().__init__(text)
        self.status = status


class WebServer:
    """Serves the three paths until stopped. Loop thread only."""

    def __init__(
        self,
        host: str,
        port: int,
        metrics: Metrics,
        is_live: Callable[[], bool],
        readiness: Callable[[], tuple[bool, str]],
        idle_s: float = 75.0,  # above Prometheus' default interval of 60 s
    ) -> None:
        self._host, self._port = host, port
        self._metrics, self._is_live, self._readiness = metrics, is_live, readiness
        self._idle_s = idle_s
        self._connections: dict[asyncio.Task[None], None] = {}  # the one that was silent longest first
        self._server: asyncio.Server | None = None

    async def start(self) -> int:
        """Listens; returns the port.

        Raises:
            OSError: the address cannot be had.
        """
        self._server = await asyncio.start_server(self._connected, self._host, self._port, limit=MAX_HEAD_BYTES)
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Stops listening and ends all connections; a second call does nothing."""
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        connections = list(self._connections)
        for connection in connections:
            connection.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
        await server.wait_closed()

    def _connected(self, reader: StreamReader, writer: StreamWriter) -> None:
        if self._server is None:  # accepted in the very moment of stop
            writer.close()
            return
        if len(self._connections) >= MAX_CONNECTIONS:
            longest_silent = next(iter(self._connections))
            del self._connections[longest_silent]
            longest_silent.cancel()
        task = asyncio.get_running_loop().create_task(self._converse(reader, writer))
        self._connections[task] = None
        task.add_done_callback(lambda done: self._connections.pop(done, None))

    async def _converse(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Answers one request after the other until either side has enough; then no socket is left."""
        try:
            while await self._exchange(reader, writer):
                pass
            writer.close()
            async with asyncio.timeout(WRITE_TIMEOUT_S):
                await writer.wait_closed()
        except (OSError, TimeoutError):
            pass  # the client left, or does not read
        finally:
            writer.transport.abort()

    async def _exchange(self, reader: StreamReader, writer: StreamWriter) -> bool:
        """One request, one answer; whether another may follow."""
        try:
            head = await _read_head(reader, self._idle_s)
        except BadHead as error:
            await _write(writer, error.status, f"{error}\n".encode(), PLAIN, keep_alive=False)
            return False
        if head is None:
            return False
        self._heard_from(asyncio.current_task())
        status, body, content_type = self._answer(head)
        keep_alive = head.keep_alive and status != HTTPStatus.METHOD_NOT_ALLOWED
        await _write(writer, status, body, content_type, keep_alive=keep_alive, with_body=head.method != "HEAD")
        return keep_alive

    def _heard_from(self, connection: asyncio.Task[None] | None) -> None:
        """Moves the connection to the end of the line of those that make room."""
        if connection in self._connections:
            self._connections[connection] = self._connections.pop(connection)

    def _answer(self, head: Head) -> tuple[HTTPStatus, bytes, str]:
        """(status, body, content type)."""
        if head.path not in ("/", "/livez", "/readyz", "/metrics"):
            return HTTPStatus.NOT_FOUND, b"not found; there are:\n" + INDEX, PLAIN
        if head.method not in ("GET", "HEAD"):
            return HTTPStatus.METHOD_NOT_ALLOWED, b"only GET and HEAD\n", PLAIN
        if head.path == "/metrics":
            return HTTPStatus.OK, self._metrics.render(), CONTENT_TYPE
        if head.path == "/":
            return HTTPStatus.OK, INDEX, PLAIN
        good, text = self._readiness() if head.path == "/readyz" else (self._is_live(), "")
        status = HTTPStatus.OK if good else HTTPStatus.SERVICE_UNAVAILABLE
        return status, f"{text or status.phrase}\n".encode(), PLAIN


async def _read_head(reader: StreamReader, idle_s: float) -> Head | None:
    """The next request's head; None where the client closed or was silent instead.

    Raises:
        BadHead: too large, or not HTTP/1.
    """
    try:
        async with asyncio.timeout(idle_s):
            first = await reader.read(1)
            if first and not first.isalpha():  # TLS, say: its client would wait for our side of the handshake
                raise BadHead(HTTPStatus.BAD_REQUEST, "not an HTTP request; this port has no TLS")
            data = first + await reader.readuntil(b"\r\n\r\n") if first else b""
    except asyncio.LimitOverrunError:
        text = f"the request's head is larger than {MAX_HEAD_BYTES} bytes"
        raise BadHead(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, text) from None
    except TimeoutError:
        return None
    except asyncio.IncompleteReadError:
        raise BadHead(HTTPStatus.BAD_REQUEST, "the request ends before its head does") from None
    return _parse_head(data) if data else None


def _parse_head(data: bytes) -> Head:
    """What a request's first line and headers say.

    Raises:
        BadHead: not HTTP/1.
    """
    lines = data[:-4].decode("latin-1").split("\r\n")
    words = lines[0].split(" ")
    if len(words) != 3 or not words[0].isalpha() or not words[2].startswith("HTTP/"):
        raise BadHead(HTTPStatus.BAD_REQUEST, "not an HTTP request")
    method, target, protocol = words
    if protocol not in ("HTTP/1.0", "HTTP/1.1"):
        raise BadHead(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "this port speaks HTTP/1.1; gRPC is on another")
    headers: dict[str, str] = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise BadHead(HTTPStatus.BAD_REQUEST, "a header line is not `name: value`")
        headers[name.lower()] = value.strip().lower()
    if protocol == "HTTP/1.1" and "host" not in headers:
        raise BadHead(HTTPStatus.BAD_REQUEST, "no Host header")
    try:
        path = urlsplit(target).path
    except ValueError:
        raise BadHead(HTTPStatus.BAD_REQUEST, "the target is not a URL") from None
    # A body is never read: what followed it could not be told from the next request.
    has_body = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
    asked = headers.get("connection", "")
    stays = "close" not in asked if protocol == "HTTP/1.1" else "keep-alive" in asked
    return Head(method, path or "/", keep_alive=stays and not has_body)


async def _write(
    writer: StreamWriter,
    status: HTTPStatus,
    body: bytes,
    content_type: str,
    *,
    keep_alive: bool,
    with_body: bool = True,
) -> None:
    head = [
        f"HTTP/1.1 {status.value} {status.phrase}",
        f"Content-Type: {content_type}",
        f"Content-Length: {len(body)}",
        "Cache-Control: no-store",
        f"Connection: {'keep-alive' if keep_alive else 'close'}",
    ]
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        head.append("Allow: GET, HEAD")
    writer.write("\r\n".join(head).encode() + b"\r\n\r\n" + (body if with_body else b""))
    async with asyncio.timeout(WRITE_TIMEOUT_S):
        await writer.drain()
