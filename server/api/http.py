"""HTTP/1.1 by uvicorn, and the port of the probes: /livez and /readyz for Kubernetes, /metrics for Prometheus.

That port must stay available next to a busy gRPC server, whoever connects. uvicorn bounds neither the number of
connections (it answers 503, to the probes too) nor the time that a client may take over a request, so `_Connection`
does (docs/adr/0012-http-library.md). Its own event loop, signal handlers and log configuration are not used.
"""

import asyncio
import math
import ssl
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import h11
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from server.api.connections import MAX_HTTP_CONNECTIONS
from server.errors import PermissionDenied, Unauthenticated
from server.observability import openmetrics
from server.observability.metrics import CONTENT_TYPE, Metrics

MAX_BACKLOG = 128
# TLS handshakes end within this time, and so many may have begun in it: descriptors are left for them.
HANDSHAKE_S = 10.0
MAX_HANDSHAKES = 128
MAX_HEAD_BYTES = 16 << 10
# A chunk of a body costs the event loop more than a hundred bytes do, and many come in one piece. So a body has so many
# of any size, and of further ones one for so many of its bytes.
FREE_CHUNKS = 1024
CHUNK_BYTES = 256
# Above Prometheus' default interval of 60 s.
IDLE_S = 75.0
# A client that reads nothing for so long is disconnected.
READ_STALL_S = 10.0
# What the answers being made may still take when the server stops.
STOP_S = 2.0
INDEX = (
    "/livez    is the process alive?  (also /v2/health/live)\n"
    "/readyz   may it get requests?   (also /v2/health/ready)\n"
    "/metrics  Prometheus metrics\n"
)


def everybody(authorization: str | None) -> None:
    """Lets everybody read the metrics."""


def make_app(
    metrics: Metrics,
    liveness: Callable[[], tuple[bool, str]],
    readiness: Callable[[], tuple[bool, str]],
    check_reader: Callable[[str | None], None] = everybody,
) -> Starlette:
    """The routes.

    Args:
        liveness, readiness: whether the server is, and the text that says why not.
        check_reader: raises an AccessError unless metrics may be read with this header `authorization`.
    """

    async def index(request: Request) -> Response:
        return _text(INDEX)

    async def livez(request: Request) -> Response:
        live, text = liveness()
        return _text(f"{text}\n", 200 if live else 503)

    async def readyz(request: Request) -> Response:
        ready, text = readiness()
        return _text(f"{text}\n", 200 if ready else 503)

    async def page(request: Request) -> Response:
        check_reader(request.headers.get("authorization"))
        wanted = request.query_params.get("format", "text")
        if wanted == "openmetrics":
            headers = {"Content-Type": openmetrics.CONTENT_TYPE, "Cache-Control": "no-store"}
            return Response(metrics.render_openmetrics(), headers=headers)
        if wanted != "text":
            return _text(f"format: {wanted[:80]!r}; must be text or openmetrics\n", 400)
        return Response(metrics.render(), headers={"Content-Type": CONTENT_TYPE, "Cache-Control": "no-store"})

    async def not_found(request: Request, error: Exception) -> Response:
        return _text(f"not found; there are:\n{INDEX}", 404)

    async def unauthenticated(request: Request, error: Exception) -> Response:
        return _text(f"{error}\n", 401, {"WWW-Authenticate": "Bearer"})

    async def denied(request: Request, error: Exception) -> Response:
        return _text(f"{error}\n", 403)

    pages = {
        "/": index,
        "/livez": livez,
        "/v2/health/live": livez,
        "/readyz": readyz,
        "/v2/health/ready": readyz,
        "/metrics": page,
        "/metrics/": page,
    }
    routes = [Route(path, function) for path, function in pages.items()]
    handlers = {404: not_found, Unauthenticated: unauthenticated, PermissionDenied: denied}
    app = Starlette(routes=routes, exception_handlers=handlers)
    app.router.redirect_slashes = False
    return app


class HttpServer:
    """Serves an application until stopped, in the event loop that runs. Loop thread only."""

    def __init__(
        self,
        app: Starlette,
        host: str,
        port: int,
        max_connections: int = MAX_HTTP_CONNECTIONS,
        idle_s: float = IDLE_S,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """`idle_s`: how long a connection may be without a request in progress."""
        self._host, self._port, self._idle_s = host, port, idle_s
        self._max_connections, self._tls = max_connections, tls
        self._config = Config(
            app,
            lifespan="off",
            ws="none",
            timeout_keep_alive=math.ceil(
                idle_s
            ),  # between requests; `_Connection` also bounds the wait for a whole head
            h11_max_incomplete_event_size=MAX_HEAD_BYTES,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            # Its errors go to our log; it warns of every odd client, which anybody could fill the log with.
            log_config=None,
            log_level="error",
            access_log=False,
            workers=1,  # given, so that WEB_CONCURRENCY is not read
        )
        self._config.load()
        self._state = ServerState()
        self._connections: dict[_Connection, None] = {}  # the one that has been silent longest first
        self._server: asyncio.Server | None = None
        self._shaking: deque[float] = deque()  # since when, the longest first

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._connections)

    async def start(self) -> int:
        """Listens; returns the port.

        Raises:
            OSError: the address is not available.
        """
        loop = asyncio.get_running_loop()
        # So many are accepted at once, before the oldest of too many are closed; descriptors must be left for them.
        backlog = min(self._max_connections, MAX_BACKLOG)
        handshake_s = None if self._tls is None else HANDSHAKE_S
        self._server = await loop.create_server(
            self._connect, self._host, self._port, backlog=backlog, ssl=self._tls, ssl_handshake_timeout=handshake_s
        )
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self, timeout_s: float = STOP_S) -> None:
        """Stops listening, finishes the answers being made within `timeout_s`, ends all connections; a second call does
        nothing."""
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        for connection in list(self._connections):
            connection.shutdown()
        if self._state.tasks:
            await asyncio.wait(self._state.tasks, timeout=timeout_s)
        for connection in list(self._connections):
            connection.transport.abort()
        await server.wait_closed()

    def _connect(self) -> "_Connection":
        """The protocol for a connection. With TLS it is told of it only after the handshake, so those are counted here.

        Raises:
            ConnectionRefusedError: too many may be shaking hands; asyncio drops the connection.
        """
        if self._tls is not None:
            now = time.monotonic()
            while self._shaking and self._shaking[0] < now - HANDSHAKE_S:
                self._shaking.popleft()
            if len(self._shaking) >= MAX_HANDSHAKES:
                raise ConnectionRefusedError
            self._shaking.append(now)
        return _Connection(
            self._config, self._state, self._connections, self._max_connections, self._idle_s, self._shaking
        )


class _Parser(h11.Connection):
    """h11's, which takes chunks of any size, and a body of which a proxy may know another end."""

    def __init__(self) -> None:
        super().__init__(h11.SERVER, MAX_HEAD_BYTES)
        self._chunks = self._nbytes = 0

    def next_event(self) -> Any:
        """As h11's.

        Raises:
            RemoteProtocolError: what came is not HTTP, a body in too many chunks, or in chunks with a length as well.
        """
        event = super().next_event()
        if isinstance(event, h11.Request):
            self._chunks = self._nbytes = 0
            if {b"content-length", b"transfer-encoding"} <= {name for name, _ in event.headers}:
                raise h11.RemoteProtocolError("length and chunks")
        elif isinstance(event, h11.Data):
            self._chunks += event.chunk_start
            self._nbytes += len(event.data)
            if self._chunks > FREE_CHUNKS + self._nbytes // CHUNK_BYTES:
                raise h11.RemoteProtocolError("too many chunks")
        return event


class _Connection(H11Protocol):
    """uvicorn's connection with the bounds that it lacks.

    A connection without a request in progress is closed after `idle_s`, whatever part of a head has come by then. When
    there are `max_connections`, a new one replaces the one that has been silent longest, of those without a request in
    progress if there are any, else of those whose client sends or reads slowly, so that nobody can lock out the probes.
    If all wait for the server, the new one is refused. A body in very many small chunks ends its connection.
    """

    def __init__(
        self,
        config: Config,
        state: ServerState,
        connections: "dict[_Connection, None]",
        max_connections: int,
        idle_s: float,
        shaking: deque[float],
    ) -> None:
        super().__init__(config, state, app_state={})
        self.conn = _Parser()
        self._shaking = shaking
        self._all = connections  # `connections` is uvicorn's set, without order
        self._max = max_connections
        self._idle_s = idle_s
        self._idle: asyncio.TimerHandle | None = None
        self._stalled: asyncio.TimerHandle | None = None

    @property
    def _is_busy(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    @property
    def _is_owed(self) -> bool:
        """Whether the server is at work for it, not waiting for the client to send or to read."""
        return self._is_busy and not self.cycle.more_body and not self.flow.write_paused

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        super().connection_made(transport)
        if self._shaking:
            self._shaking.popleft()
        if len(self._all) >= self._max:
            silent = next((each for each in self._all if not each._is_busy), None)
            silent = silent or next((each for each in self._all if not each._is_owed), None)
            if silent is None:
                transport.abort()
                return
            del self._all[silent]
            silent.transport.abort()
        self._all[self] = None
        self._wait_for_request()

    def connection_lost(self, exc: Exception | None) -> None:
        self._all.pop(self, None)
        _cancel(self._idle)
        _cancel(self._stalled)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._is_busy and self in self._all:
            _cancel(self._idle)
            self._all[self] = self._all.pop(self)

    def on_response_complete(self) -> None:
        self._wait_for_request()
        super().on_response_complete()  # begins the next request if it is there already
        if self._is_busy:
            _cancel(self._idle)

    def send_400_response(self, msg: str) -> None:
        """Answers what is not HTTP. If it is the body of a request being answered, or that has been, only the end of
        the connection can say so; the application then talks to nobody."""
        if not self._is_busy and self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            super().send_400_response(f"{msg}\n")
            return
        if self._is_busy:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.transport.abort()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stalled = self.loop.call_later(READ_STALL_S, self._end_if_stalled, self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        _cancel(self._stalled)
        super().resume_writing()

    def _end_if_stalled(self, unsent_bytes: int) -> None:
        now_bytes = self.transport.get_write_buffer_size()
        if now_bytes >= unsent_bytes:
            self.transport.abort()
        else:
            self._stalled = self.loop.call_later(READ_STALL_S, self._end_if_stalled, now_bytes)

    def _wait_for_request(self) -> None:
        _cancel(self._idle)
        self._idle = self.loop.call_later(self._idle_s, self.transport.abort)


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()


def _text(text: str, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return PlainTextResponse(text, status, headers={"Cache-Control": "no-store", **(headers or {})})
