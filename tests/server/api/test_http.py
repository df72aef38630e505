"""The HTTP port, over real sockets."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import pytest

from server.api import http
from server.api.http import WebServer
from server.observability.metrics import Metrics

TIMEOUT_S = 10


@dataclass
class State:
    live: bool = True
    missing: str = ""
    metrics: Metrics = field(default_factory=Metrics)


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


class Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def ask(self, text: str, *, with_body: bool = True) -> Answer:
        self.writer.write(text.encode())
        return await self.answer(with_body=with_body)

    async def answer(self, *, with_body: bool = True) -> Answer:
        async with asyncio.timeout(TIMEOUT_S):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
            first, *lines = head.strip().split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
            body = await self.reader.readexactly(int(headers["content-length"])) if with_body else b""
        return Answer(int(first.split(" ")[1]), headers, body)

    async def rest(self) -> bytes:
        async with asyncio.timeout(TIMEOUT_S):
            return await self.reader.read()


Connect = Callable[[], Awaitable[Connection]]


@pytest.fixture
def state() -> State:
    return State()


@pytest.fixture
async def connect(state: State) -> AsyncIterator[Connect]:
    server = WebServer(
        "127.0.0.1", 0, state.metrics, lambda: state.live, lambda: (not state.missing, state.missing or "ready")
    )
    port = await server.start()
    opened: list[asyncio.StreamWriter] = []

    async def open_one() -> Connection:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        opened.append(writer)
        return Connection(reader, writer)

    yield open_one
    await server.stop()
    for writer in opened:
        writer.transport.abort()


def get(path: str, *headers: str, method: str = "GET", protocol: str = "HTTP/1.1") -> str:
    return "\r\n".join((f"{method} {path} {protocol}", "Host: here", *headers, "", ""))


async def test_a_live_and_ready_server_says_ok(connect: Connect) -> None:
    connection = await connect()
    for path, text in (("/livez", b"OK\n"), ("/readyz?verbose", b"ready\n"), ("http://here/livez", b"OK\n")):
        answer = await connection.ask(get(path))
        assert (answer.status, answer.body) == (200, text)


async def test_a_server_that_is_not_ready_says_why(connect: Connect, state: State) -> None:
    state.missing = "model faces: loading"
    answer = await (await connect()).ask(get("/readyz"))
    assert (answer.status, answer.body) == (503, b"model faces: loading\n")


async def test_a_server_that_is_not_live_is_unavailable(connect: Connect, state: State) -> None:
    state.live = False
    assert (await (await connect()).ask(get("/livez"))).status == 503


async def test_metrics_come_as_prometheus_text(connect: Connect, state: State) -> None:
    state.metrics.model("faces", 1)
    answer = await (await connect()).ask(get("/metrics"))
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert b'\nnv_inference_count{model="faces",version="1"} 0\n' in answer.body


async def test_the_index_names_the_three_paths(connect: Connect) -> None:
    answer = await (await connect()).ask(get("/"))
    assert answer.status == 200
    assert all(path in answer.body for path in (b"/livez", b"/readyz", b"/metrics"))


async def test_an_unknown_path_is_not_found_and_the_connection_goes_on(connect: Connect) -> None:
    connection = await connect()
    assert (await connection.ask(get("/healthz"))).status == 404
    assert (await connection.ask(get("/livez"))).status == 200


async def test_head_gives_the_length_without_the_body(connect: Connect) -> None:
    connection = await connect()
    answer = await connection.ask(get("/livez", method="HEAD"), with_body=False)
    assert (answer.status, answer.headers["content-length"]) == (200, "3")
    assert (await connection.ask(get("/livez"))).body == b"OK\n"


async def test_another_method_is_refused_and_ends_the_connection(connect: Connect) -> None:
    connection = await connect()
    answer = await connection.ask(get("/metrics", "Content-Length: 3", method="POST") + "abc")
    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")
    assert await connection.rest() == b""


async def test_a_body_is_never_taken_for_the_next_request(connect: Connect) -> None:
    connection = await connect()
    smuggled = get("/metrics")
    answer = await connection.ask(get("/livez", f"Content-Length: {len(smuggled)}") + smuggled)
    assert (answer.status, answer.headers["connection"]) == (200, "close")
    assert await connection.rest() == b""


async def test_requests_sent_together_are_answered_in_turn(connect: Connect) -> None:
    connection = await connect()
    first = await connection.ask(get("/livez") + get("/nothing"))
    assert (first.status, (await connection.answer()).status) == (200, 404)


@pytest.mark.parametrize(
    ("request_text", "stays"),
    [
        (get("/livez"), True),
        (get("/livez", "Connection: close"), False),
        (get("/livez", protocol="HTTP/1.0"), False),
        (get("/livez", "Connection: Keep-Alive", protocol="HTTP/1.0"), True),
    ],
)
async def test_the_connection_stays_open_when_both_sides_wish(connect: Connect, request_text: str, stays: bool) -> None:
    connection = await connect()
    answer = await connection.ask(request_text)
    assert answer.headers["connection"] == ("keep-alive" if stays else "close")
    if stays:
        assert (await connection.ask(get("/livez"))).status == 200
    else:
        assert await connection.rest() == b""


@pytest.mark.parametrize(
    ("request_text", "status"),
    [
        ("GARBAGE\r\n\r\n", 400),
        ("\x16\x03\x01\x02\x00", 400),
        ("GET /livez\r\n\r\n", 400),
        ("GET /livez HTTP/1.1\r\n\r\n", 400),
        ("GET /livez HTTP/1.1\r\nno colon here\r\n\r\n", 400),
        ("GET /livez HTTP/1.1\r\nHost : here\r\n\r\n", 400),
        ("GET http://[ HTTP/1.1\r\nHost: here\r\n\r\n", 400),
        ("PRI * HTTP/2.0\r\n\r\n", 505),
        (get("/livez", "X: " + "y" * http.MAX_HEAD_BYTES), 431),
    ],
)
async def test_what_is_not_a_decent_request_is_named_and_ended(
    connect: Connect, request_text: str, status: int
) -> None:
    connection = await connect()
    answer = await connection.ask(request_text)
    assert (answer.status, answer.headers["connection"]) == (status, "close")
    assert await connection.rest() == b""


async def test_a_request_cut_short_is_a_bad_request(connect: Connect) -> None:
    connection = await connect()
    connection.writer.write(b"GET /livez HT")
    connection.writer.write_eof()
    assert (await connection.answer()).status == 400


async def test_a_silent_connection_is_closed_without_a_word() -> None:
    server = WebServer("127.0.0.1", 0, Metrics(), lambda: True, lambda: (True, ""), idle_s=0.01)
    reader, writer = await asyncio.open_connection("127.0.0.1", await server.start())
    assert await Connection(reader, writer).rest() == b""
    writer.close()
    await server.stop()


async def test_the_most_silent_connection_makes_room_for_a_new_one(connect: Connect) -> None:
    connections = [await connect() for _ in range(http.MAX_CONNECTIONS)]
    for connection in connections:
        assert (await connection.ask(get("/livez"))).status == 200
    assert (await connections[0].ask(get("/livez"))).status == 200
    assert (await (await connect()).ask(get("/livez"))).status == 200
    assert await connections[1].rest() == b""
    assert (await connections[0].ask(get("/livez"))).status == 200


async def test_stop_ends_open_connections_and_frees_the_port() -> None:
    server = WebServer("127.0.0.1", 0, Metrics(), lambda: True, lambda: (True, ""))
    port = await server.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    connection = Connection(reader, writer)
    assert (await connection.ask(get("/livez"))).status == 200
    await server.stop()
    await server.stop()
    writer.transport.abort()
    again = WebServer("127.0.0.1", port, Metrics(), lambda: True, lambda: (True, ""))
    assert await again.start() == port
    await again.stop()
