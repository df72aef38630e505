"""The HTTP port, over real sockets."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from server.api import http
from server.api.connections import MAX_HTTP_CONNECTIONS
from server.api.http import HttpServer, make_app
from server.api.rest import call
from server.images.memory import Hold, MemoryBudget
from server.observability.metrics import Metrics

TIMEOUT_S = 10
APP = make_app(Metrics(), lambda: (True, "OK"), lambda: (True, "ready"))


@dataclass
class State:
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


@asynccontextmanager
async def running(server: HttpServer) -> AsyncIterator[Connection]:
    """A connection to the server, which runs meanwhile."""
    reader, writer = await asyncio.open_connection("127.0.0.1", await server.start())
    yield Connection(reader, writer)
    writer.transport.abort()
    await server.stop()


Connect = Callable[[], Awaitable[Connection]]


@pytest.fixture
def state() -> State:
    return State()


@pytest.fixture
async def connect(state: State) -> AsyncIterator[Connect]:
    app = make_app(state.metrics, lambda: (True, "OK"), lambda: (not state.missing, state.missing or "ready"))
    server = HttpServer(app, "127.0.0.1", 0)
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
    for path, text in (("/livez", b"OK\n"), ("/readyz?verbose", b"ready\n")):
        answer = await connection.ask(get(path))
        assert (answer.status, answer.body) == (200, text)


async def test_a_server_that_is_not_ready_says_why(connect: Connect, state: State) -> None:
    state.missing = "model faces: loading"
    answer = await (await connect()).ask(get("/readyz"))
    assert (answer.status, answer.body) == (503, b"model faces: loading\n")


async def test_metrics_come_as_prometheus_text(connect: Connect, state: State) -> None:
    state.metrics.model("faces", 1)
    answer = await (await connect()).ask(get("/metrics"))
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert b'\nnv_inference_count{model="faces",version="1"} 0\n' in answer.body


async def test_metrics_come_as_openmetrics_to_who_asks_for_it(connect: Connect, state: State) -> None:
    state.metrics.model("faces", 1)
    answer = await (await connect()).ask(get("/metrics?format=openmetrics"))
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    assert answer.body.endswith(b"\n# EOF\n")
    answer = await (await connect()).ask(get("/metrics?format=json"))
    assert (answer.status, answer.body) == (400, b"format: 'json'; must be text or openmetrics\n")


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


async def test_another_method_is_rejected(connect: Connect) -> None:
    answer = await (await connect()).ask(get("/metrics", "Content-Length: 3", method="POST") + "abc")
    assert (answer.status, set(answer.headers["allow"].split(", "))) == (405, {"GET", "HEAD"})


async def test_a_body_is_never_taken_for_the_next_request(connect: Connect) -> None:
    connection = await connect()
    smuggled = get("/metrics")
    assert (await connection.ask(get("/livez", f"Content-Length: {len(smuggled)}") + smuggled)).body == b"OK\n"
    assert (await connection.ask(get("/readyz"))).body == b"ready\n"


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
    ],
)
async def test_the_connection_stays_open_when_both_sides_wish(connect: Connect, request_text: str, stays: bool) -> None:
    connection = await connect()
    answer = await connection.ask(request_text)
    assert answer.headers.get("connection") == (None if stays else "close")
    if stays:
        assert (await connection.ask(get("/livez"))).status == 200
    else:
        assert await connection.rest() == b""


@pytest.mark.parametrize(
    "request_text",
    [
        "GARBAGE\r\n\r\n",
        "\x16\x03\x01\x02\x00",
        "GET /livez\r\n\r\n",
        "GET /livez HTTP/1.1\r\n\r\n",
        "GET /livez HTTP/1.1\r\nno colon here\r\n\r\n",
        "GET /livez HTTP/1.1\r\nHost : here\r\n\r\n",
        "GET /livez HTTP/1.1\r\nHost: here\r\nX: " + "y" * http.MAX_HEAD_BYTES,
        "GET /livez HTTP/1.1\r\nHost: here\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
    ids=["garbage", "TLS", "HTTP/0.9", "no host", "no colon", "space before colon", "endless head", "two ends"],
)
async def test_what_is_not_a_request_is_rejected_and_ended_without_a_line_in_the_log(
    connect: Connect, caplog: pytest.LogCaptureFixture, request_text: str
) -> None:
    connection = await connect()
    answer = await connection.ask(request_text, with_body=False)
    assert (answer.status, answer.headers["connection"]) == (400, "close")
    assert b"Invalid HTTP" in await connection.rest()
    assert not caplog.records


async def test_a_client_of_http_2_is_told_to_go_away(connect: Connect) -> None:
    connection = await connect()
    answer = await connection.ask("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    assert answer.status == 404
    assert b"connection: close" in (await connection.rest()).lower()


async def test_a_body_that_is_garbage_ends_the_connection_without_a_line_in_the_log(
    connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    connection = await connect()
    connection.writer.write((get("/metrics", "Transfer-Encoding: chunked") + "no chunk\r\n").encode())
    with contextlib.suppress(ConnectionResetError):
        assert await connection.rest() == b""
    assert (await (await connect()).ask(get("/livez"))).status == 200
    assert not caplog.records


@pytest.mark.parametrize(("nbytes", "ends"), [(1, True), (http.CHUNK_BYTES, False)])
async def test_a_body_in_very_many_small_chunks_ends_the_connection(connect: Connect, nbytes: int, ends: bool) -> None:
    connection = await connect()
    body = f"{nbytes:x}\r\n{'a' * nbytes}\r\n" * (http.FREE_CHUNKS + 9) + "0\r\n\r\n"
    connection.writer.write((get("/livez", "Transfer-Encoding: chunked") + body + get("/nowhere")).encode())
    answered: list[int] = []
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
        while 404 not in answered:
            answered.append((await connection.answer()).status)
    assert (404 in answered) is not ends


@pytest.mark.parametrize("body", ["no chunk\r\n", "1\r\na\r\n" * (http.FREE_CHUNKS + 9)], ids=["garbage", "chunks"])
async def test_a_bad_body_after_the_answer_ends_the_connection_without_a_line_in_the_log(
    connect: Connect, caplog: pytest.LogCaptureFixture, body: str
) -> None:
    connection = await connect()
    answer = await connection.ask(get("/livez", "Transfer-Encoding: chunked"))
    assert (answer.status, answer.body) == (200, b"OK\n")
    connection.writer.write(body.encode())
    with contextlib.suppress(ConnectionResetError):
        assert await connection.rest() == b""
    assert not caplog.records


async def test_a_request_cut_short_ends_the_connection(connect: Connect) -> None:
    connection = await connect()
    connection.writer.write(b"GET /livez HT")
    connection.writer.write_eof()
    assert await connection.rest() == b""


async def test_an_error_in_a_route_is_an_answer_and_a_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    def readiness() -> tuple[bool, str]:
        raise ArithmeticError("no idea")

    async with running(HttpServer(make_app(Metrics(), lambda: (True, "OK"), readiness), "127.0.0.1", 0)) as connection:
        assert (await connection.ask(get("/readyz"))).status == 500
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert "no idea" in caplog.text


@pytest.mark.parametrize("sent", ["", "GET /li", get("/livez"), get("/livez") + "GET /li"])
async def test_a_connection_without_a_whole_request_in_time_is_closed(sent: str) -> None:
    async with running(HttpServer(APP, "127.0.0.1", 0, idle_s=0.1)) as connection:
        connection.writer.write(sent.encode())
        assert (b"200 OK" in await connection.rest()) is (get("/livez") in sent)


async def test_a_client_that_sends_requests_and_reads_nothing_is_disconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "READ_STALL_S", 0.1)
    async with running(HttpServer(APP, "127.0.0.1", 0)) as connection:

        async def ask_on() -> None:
            while True:
                connection.writer.write(get("/metrics").encode() * 100)
                await connection.writer.drain()

        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            await asyncio.wait_for(ask_on(), TIMEOUT_S)


async def test_the_most_silent_connection_makes_room_for_a_new_one(connect: Connect) -> None:
    connections = [await connect() for _ in range(MAX_HTTP_CONNECTIONS)]
    for connection in connections:
        assert (await connection.ask(get("/livez"))).status == 200
    assert (await connections[0].ask(get("/livez"))).status == 200
    assert (await (await connect()).ask(get("/livez"))).status == 200
    assert await connections[1].rest() == b""
    assert (await connections[0].ask(get("/livez"))).status == 200


async def test_a_connection_that_is_owed_an_answer_is_kept_and_one_that_sends_slowly_is_not() -> None:
    entered, gate = asyncio.Queue[str](), asyncio.Event()

    async def answer(request: Request) -> Response:
        body = await request.body()
        entered.put_nowait(request.url.path)
        await gate.wait()
        return PlainTextResponse(f"{len(body)}")

    server = HttpServer(Starlette(routes=[Route("/{name}", answer, methods=["GET", "POST"])]), "127.0.0.1", 0, 2)
    async with running(server) as owed:
        port = owed.writer.get_extra_info("peername")[1]

        async def another(text: str) -> Connection:
            connection = Connection(*await asyncio.open_connection("127.0.0.1", port))
            connection.writer.write(text.encode())
            return connection

        owed.writer.write(get("/first").encode())
        assert await asyncio.wait_for(entered.get(), TIMEOUT_S) == "/first"
        slow = await another(get("/slow", "Content-Length: 5", method="POST") + "abc")
        second = await another(get("/second"))
        assert await asyncio.wait_for(entered.get(), TIMEOUT_S) == "/second"
        with contextlib.suppress(ConnectionResetError):
            assert await slow.rest() == b"", "its client had not sent everything"
        refused = await another(get("/third"))
        with contextlib.suppress(ConnectionResetError):
            assert await refused.rest() == b"", "the server is at work for both of the others"
        gate.set()
        for connection in (owed, second):
            assert (await connection.answer()).body == b"0"
        for connection in (slow, second, refused):
            connection.writer.close()


async def test_a_client_that_reads_a_reply_too_slowly_is_disconnected_and_its_call_ends(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(call, "SEND_S", 0.2)
    ended = asyncio.Event()
    budget = MemoryBudget(1 << 30)

    async def large(request: Request) -> Response:
        hold = Hold(budget)
        hold.take(64 << 20)
        context = call.HttpContext(request, hold)
        context.add_done_callback(lambda _: hold.release())
        context.add_done_callback(lambda _: ended.set())
        return call.Reply([bytes(64 << 20)], call.BINARY, context)

    server = HttpServer(Starlette(routes=[Route("/", large)]), "127.0.0.1", 0)
    with caplog.at_level(logging.INFO):
        async with running(server) as connection:
            connection.writer.write(get("/").encode())
            async with asyncio.timeout(TIMEOUT_S):
                await ended.wait()
            assert budget.held_bytes == 0
            assert "reply not read" in caplog.messages
            with contextlib.suppress(ConnectionResetError):
                assert len(await connection.rest()) < 64 << 20, "it was cut off"


async def test_stop_ends_open_connections_and_frees_the_port() -> None:
    server = HttpServer(APP, "127.0.0.1", 0)
    port = await server.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    connection = Connection(reader, writer)
    assert (await connection.ask(get("/livez"))).status == 200
    await server.stop()
    await server.stop()
    assert await connection.rest() == b""
    writer.close()
    again = HttpServer(APP, "127.0.0.1", port)
    assert await again.start() == port
    await again.stop()


async def test_stop_lets_a_request_in_progress_have_its_answer() -> None:
    entered, gate = asyncio.Event(), asyncio.Event()

    async def slow(request: Request) -> Response:
        entered.set()
        await gate.wait()
        return PlainTextResponse("done")

    server = HttpServer(Starlette(routes=[Route("/slow", slow)]), "127.0.0.1", 0)
    async with running(server) as connection:
        connection.writer.write(get("/slow").encode())
        await entered.wait()
        stopping = asyncio.create_task(server.stop())
        gate.set()
        assert (await connection.answer()).body == b"done"
        assert await connection.rest() == b""
        await stopping


async def test_a_port_that_is_taken_is_an_error() -> None:
    first = HttpServer(APP, "127.0.0.1", 0)
    port = await first.start()
    with pytest.raises(OSError, match="in use"):
        await HttpServer(APP, "127.0.0.1", port).start()
    await first.stop()
