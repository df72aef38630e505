import asyncio
import contextlib
import errno
import resource
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from server.api import connections, transport
from server.observability.logs import BURST_LINES, LINES_PER_S
from tests.hostile.connections import path_that_is_not_utf8
from tests.server.api.raw_http2 import raw_connection
from tests.server.conftest import read_page, write_tiny
from tests.serving import ServerProcess, serve_command

MAX_CONCURRENT_STREAMS = 3  # the number of that setting
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
OWN = [("grpc.use_local_subchannel_pool", 1)]


async def is_live(channel: grpc.aio.Channel) -> bool:
    reply = await service_pb2_grpc.GRPCInferenceServiceStub(channel).ServerLive(pb.ServerLiveRequest(), timeout=10)
    return bool(reply.live)


@contextmanager
def flood(port: int, number: int, greeting: bytes = b"") -> Iterator[list[socket.socket]]:
    """So many connections that say no more than their greeting."""
    with contextlib.ExitStack() as stack:
        opened = []
        for _ in range(number):
            opened.append(stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10)))
            opened[-1].sendall(greeting)
        yield opened


def is_open(connection: socket.socket) -> bool:
    """Whether the server has not closed it; what it has said is read."""
    connection.setblocking(False)
    try:
        while connection.recv(4096):
            pass
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


async def number_open(opened: list[socket.socket], expected: int) -> int:
    """How many are open, once they are no more than expected."""
    for _ in range(200):
        found = sum(map(is_open, opened))
        if found <= expected:
            break
        await asyncio.sleep(0.05)
    return found


@pytest.mark.parametrize("greeting", [b"", PREFACE], ids=["silent", "http2"])
async def test_no_more_connections_are_open_than_allowed(start: Any, greeting: bytes) -> None:
    running = await start(max_connections=6)
    port = running.serving.grpc_port
    with flood(port, 6, greeting) as first:
        assert await number_open(first, 6) == 6
        with flood(port, 20, greeting) as more:
            assert await number_open([*first, *more], 6) == 6
    for _ in range(50):
        async with grpc.aio.insecure_channel(running.target, options=OWN) as channel:
            with contextlib.suppress(grpc.aio.AioRpcError):  # it may not have noticed yet that they have left
                assert await is_live(channel)
                return
        await asyncio.sleep(0.1)
    raise AssertionError("no call is served after the others have left")


@pytest.mark.parametrize("frontend", ["native"])
async def test_native_closes_the_connections_that_were_silent_longest(start: Any) -> None:
    running = await start(max_connections=6)
    port = running.serving.grpc_port
    async with grpc.aio.insecure_channel(running.target, options=OWN) as channel:
        assert await is_live(channel)
        with flood(port, 5, PREFACE) as old:
            await asyncio.sleep(3 * connections.CHECK_EVERY_S)
            assert all(map(is_open, old)), "there are no more than the limit"
            assert await is_live(channel)
            with flood(port, 5, PREFACE) as new:
                assert await number_open([*old, *new], 5) == 5
                assert not any(map(is_open, old))
                assert await is_live(channel)
                assert channel.get_state() is grpc.ChannelConnectivity.READY


async def test_a_connection_is_told_how_many_calls_it_may_have(start: Any) -> None:
    running = await start(max_calls_per_connection=7)
    async with raw_connection(running.target) as connection:
        for _ in range(200):
            if connection.settings:
                break
            await asyncio.sleep(0.02)
        assert connection.settings[MAX_CONCURRENT_STREAMS] == 7


async def test_clients_may_ping_a_quiet_connection(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert transport.MIN_PING_MS < 5000
    monkeypatch.setattr(transport, "MIN_PING_MS", 10)
    running = await start()
    async with raw_connection(running.target) as connection:
        for number in range(20):
            connection.ping()
            for _ in range(200):
                if connection.answered_pings > number or connection.is_lost:
                    break
                await asyncio.sleep(0.02)
            await asyncio.sleep(0.03)
        assert (connection.answered_pings, connection.farewell, connection.is_lost) == (20, b"", False)


@pytest.mark.parametrize("frontend", ["grpcio"])
async def test_clients_that_ping_all_the_time_are_sent_away(start: Any) -> None:
    running = await start()
    async with raw_connection(running.target) as connection:
        for _ in range(200):
            connection.ping()
            if connection.farewell:
                break
            await asyncio.sleep(0.02)
        assert connection.farewell == b"too_many_pings"


async def test_a_path_that_is_not_utf8_leaves_the_calls_in_flight_alone(
    start: Any, caplog: pytest.LogCaptureFixture
) -> None:
    running = await start()
    host, port = running.target.split(":")
    async with grpc.aio.insecure_channel(running.target) as channel:
        assert await is_live(channel)
        method: Any = channel.unary_stream("/grpc.health.v1.Health/Watch")
        watch = method(b"")
        assert await watch.read() == b"\x08\x02", "one of the models is not ready"
        for _ in range(3):
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(path_that_is_not_utf8())
            answer = await asyncio.wait_for(reader.read(1 << 16), 10)
            assert answer
            writer.close()
        unknown: Any = channel.unary_unary("/a.Service/Unknown")
        with pytest.raises(grpc.aio.AioRpcError, match="UNIMPLEMENTED"):
            await unknown(b"")
        assert not watch.done()
        assert await is_live(channel)
    assert {record.message for record in caplog.records if record.levelname == "ERROR"} == {"model unavailable"}


def test_the_connections_of_a_port_are_counted_and_those_from_it_are_not() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        assert connections.established(port) == 0
        with socket.create_connection(("127.0.0.1", port)) as client, socket.create_connection(("127.0.0.1", port)):
            accepted = [listening.accept()[0] for _ in range(2)]
            assert connections.established(port) == 2
            assert connections.established(client.getsockname()[1]) == 1
            for each in accepted:
                each.close()


@pytest.mark.parametrize(
    ("limits", "used", "expected"),
    [
        ((20_000, 20_000), 20, (4096, 64, 1024)),
        ((1024, 1024), 20, (497, 64, 187)),
        ((256, 256), 20, (86, 43, 43)),
        ((64, 64), 14, (18, 8, 8)),
        ((16, 16), 14, (1, 1, 1)),
    ],
)
def test_small_limits_of_descriptors_are_shared_out(
    limits: tuple[int, int], used: int, expected: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits)
    monkeypatch.setattr(connections, "_open_descriptors", lambda: list(range(used)))
    found = connections.share_descriptors(4096, 1024)
    assert (found.grpc, found.http, found.rest) == expected


def test_the_limit_of_descriptors_is_raised_as_far_as_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [(1024, 1 << 20)]
    monkeypatch.setattr(resource, "getrlimit", lambda _: now[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: now.append(limits))
    assert connections.share_descriptors(4096, 1024).grpc == 4096
    assert 4096 < now[-1][0] < 6000
    assert now[-1][1] == 1 << 20


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("repository")
    write_tiny(folder, "tiny")
    return folder


LIMITED = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
os.execv(sys.argv[1], sys.argv[1:])
"""


@pytest.mark.slow
def test_the_probes_are_answered_while_descriptors_are_short(tiny: Path, frontend: str) -> None:
    command = serve_command(tiny, "--frontend", frontend, "--device", "cpu")
    started = time.monotonic()
    with ServerProcess([sys.executable, "-c", LIMITED, *command]) as server:
        with contextlib.ExitStack() as floods:
            for name in ("http_port", "rest_port", "grpc_port"):
                floods.enter_context(flood(int(server.ready[name]), 120))
            for _ in range(3):
                began = time.monotonic()
                assert read_page(f"http://127.0.0.1:{server.http_port}/livez")[0] == 200
                assert read_page(f"http://127.0.0.1:{server.http_port}/readyz")[0] == 200
                assert time.monotonic() - began < 60
        for _ in range(50):
            with grpc.insecure_channel(server.address, options=OWN) as channel, contextlib.suppress(grpc.RpcError):
                stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
                assert stub.ModelReady(pb.ModelReadyRequest(name="tiny"), timeout=10).ready
                break
            time.sleep(0.1)
        else:
            raise AssertionError("no call is served after the flood")
        kinds = 4  # of lines that come in numbers
        assert len(server.log.splitlines()) < 20 + kinds * (BURST_LINES + LINES_PER_S * (time.monotonic() - started))
        assert "the limit of open files (ulimit -n) allows fewer connections" in server.log


async def test_connections_for_which_no_descriptor_is_left_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    loop = asyncio.get_running_loop()
    eviction = connections.Eviction(1, 1)
    for _ in range(30):  # as asyncio does
        loop.call_exception_handler({"message": "out of resource", "exception": OSError(errno.EMFILE, "too many")})
    loop.call_exception_handler({"message": "another", "exception": ValueError()})
    await asyncio.sleep(0)
    eviction.close()
    assert [(each.getMessage(), getattr(each, "fields", None)) for each in caplog.records] == [
        ("another", None),
        ("no file descriptor left for a connection", {"times": 30}),
    ]
