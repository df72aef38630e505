"""What the native front end's calls are run by: a coroutine that begins at once and goes on as a task; and its end."""

import asyncio
import contextlib
import gc
import threading
import weakref
from collections.abc import AsyncIterator, Callable
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import grpc
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from server.api.begin import begin
from server.api.native import NativeServer
from server.api.native_call import NativeCall
from server.api.relayed import RelayedContext, RelayedMessages
from server.shared_loop import new_loop

who: ContextVar[str] = ContextVar("who", default="nobody")


async def test_a_coroutine_that_waits_for_nothing_has_ended_at_once() -> None:
    steps: list[str] = []

    async def work() -> None:
        steps.append("ran")

    assert begin(work()) is None
    assert steps == ["ran"]


async def test_one_that_waits_goes_on_in_its_own_context() -> None:
    first, second = (asyncio.get_running_loop().create_future() for _ in range(2))
    seen: list[object] = []

    async def work() -> None:
        who.set("caller")
        seen.append(await first)
        seen.append(await second)
        seen.append(who.get())

    task = begin(work())
    assert task is not None
    assert who.get() == "nobody"
    first.set_result(1)
    await asyncio.sleep(0)
    second.set_result(2)
    await asyncio.wait_for(task, 10)
    assert seen == [1, 2, "caller"]


async def test_what_it_waits_for_may_fail() -> None:
    first = asyncio.get_running_loop().create_future()
    seen: list[str] = []

    async def work() -> None:
        try:
            await first
        except ValueError as error:
            seen.append(str(error))

    task = begin(work())
    assert task is not None
    first.set_exception(ValueError("bad"))
    await asyncio.wait_for(task, 10)
    assert seen == ["bad"]


@pytest.mark.parametrize("cleans_up", [False, True])
async def test_it_is_cancelled_where_it_waits(cleans_up: bool) -> None:
    first, second = (asyncio.get_running_loop().create_future() for _ in range(2))
    seen: list[str] = []

    async def work() -> None:
        try:
            await first
        finally:
            if cleans_up:
                await second
            seen.append("cleaned up")

    task = begin(work())
    assert task is not None
    task.cancel()
    await asyncio.sleep(0)
    assert first.cancelled()
    second.set_result(None)
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 10)
    assert seen == ["cleaned up"]


async def test_it_may_take_back_its_cancellation() -> None:
    first = asyncio.get_running_loop().create_future()

    async def work() -> None:
        try:
            await first
        except asyncio.CancelledError:
            await asyncio.sleep(0)

    task = begin(work())
    assert task is not None
    task.cancel()
    await asyncio.wait_for(task, 10)
    assert not task.cancelled()


async def test_it_may_wait_for_the_next_turn_of_the_loop_only() -> None:
    seen: list[str] = []

    async def work() -> None:
        await asyncio.sleep(0)
        seen.append("ran")

    task = begin(work())
    assert task is not None
    assert seen == []
    await asyncio.wait_for(task, 10)
    assert seen == ["ran"]
    cancelled = begin(work())
    assert cancelled is not None
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    assert seen == ["ran"]


async def test_a_server_that_stops_sends_the_whole_of_a_large_reply() -> None:
    reply, answered = b"x" * (32 << 20), asyncio.Event()

    async def method(request: bytes, context: object) -> bytes:
        answered.set()
        return reply

    server = NativeServer([], 1 << 30, 1 << 16)
    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(method, bytes, bytes)
    server.add_registered_method_handlers("test.Service", {"Call": handler})
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    options = [("grpc.max_receive_message_length", -1)]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options) as channel:
        stub: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/test.Service/Call", bytes, bytes)
        call = asyncio.ensure_future(stub(b""))
        await answered.wait()
        await server.stop(30)
        assert await call == reply


def test_the_thread_that_has_a_call_answers_it() -> None:
    threads = set()

    async def method(request: bytes, context: NativeCall) -> bytes:
        threads.add(threading.current_thread().name)
        if request == b"waits":
            await asyncio.sleep(0)
        return request

    async def check() -> None:
        server = NativeServer([], 1 << 20, 1 << 16)
        handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(method, bytes, bytes)
        server.add_registered_method_handlers("test.Service", {"Call": handler})
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()

        def call() -> None:  # from a thread: a client in this loop would keep it from waiting
            with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
                stub: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/test.Service/Call", None, None)
                while "calls" not in threads:  # a moment at which the loop waits
                    assert stub(b"now", timeout=30) == b"now"
                calls = [stub.future(b"waits", timeout=30) for _ in range(50)]
                assert {each.result() for each in calls} == {b"waits"}

        await asyncio.to_thread(call)
        await server.stop(30)
        assert server._thread is not None
        assert not server._thread.is_alive(), "what follows may need the loop's own thread: signal.signal does"

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(check())
    assert threads <= {"calls", threading.current_thread().name}


class Unread:
    """What grpc.aio gives a method whose client does not read: it gives out no message once the call is aborted."""

    def __init__(self) -> None:
        self.read = asyncio.Event()
        self.aborted = False

    async def write(self, message: object) -> None:
        await self.read.wait()

    async def abort(self, *status: object) -> None:
        self.aborted = True
        raise grpc.aio.AbortError


async def relay(unread: Unread, sent: AsyncIterator[bytes], parsed: list[bytes]) -> RelayedContext:
    """A call whose method has read a message, and waits for the next and for its client to read; it gives up both."""

    def parse(data: bytes) -> bytes:
        parsed.append(data)
        return data

    messages = RelayedMessages(sent, parse)
    context = RelayedContext(unread, messages)
    tasks = [asyncio.ensure_future(context.write(await anext(messages))), asyncio.ensure_future(anext(messages))]
    for _ in range(5):  # turns of the loop, after which both wait
        await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    return context


async def test_a_relayed_call_that_is_ended_takes_what_its_client_still_sends_first() -> None:
    unread, goes_on, taken = Unread(), asyncio.Event(), asyncio.Event()
    parsed: list[bytes] = []

    async def sent() -> AsyncIterator[bytes]:  # as grpc.aio's: it ends if the task that waits in it is cancelled
        yield b"first"
        await goes_on.wait()
        for _ in range(3):
            yield b"late"
        taken.set()
        await asyncio.Event().wait()  # the client is there and says nothing

    context = await relay(unread, sent(), parsed)
    ending = asyncio.ensure_future(context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "not read"))
    goes_on.set()
    await asyncio.wait_for(taken.wait(), 10)
    assert not unread.aborted, "the client would not see the status"
    unread.read.set()
    with pytest.raises(grpc.aio.AbortError):
        await ending
    assert parsed == [b"first"], "what is dropped is not read"


async def test_a_relayed_call_is_taken_from_for_as_long_as_its_client_sends(monkeypatch: pytest.MonkeyPatch) -> None:
    left = asyncio.Event()
    after_s: list[float | None] = []
    given = asyncio.wait

    async def wait(tasks: Any, *, timeout: float | None = None, **options: Any) -> Any:  # noqa: ASYNC109
        after_s.append(timeout)
        return await given(tasks, timeout=timeout, **options)

    async def sent() -> AsyncIterator[bytes]:
        yield b"first"
        while not left.is_set():
            await asyncio.sleep(0)
            yield b"more"

    unread = Unread()
    context = await relay(unread, sent(), [])
    monkeypatch.setattr("server.api.relayed.asyncio.wait", wait)
    ending = asyncio.ensure_future(context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "not read"))
    for _ in range(100):
        await asyncio.sleep(0)
    assert not unread.aborted
    assert after_s == [None], "a client that dies later would not be seen"
    left.set()
    with pytest.raises(grpc.aio.AbortError):
        await asyncio.wait_for(ending, 10)


async def until(condition: Callable[[], bool]) -> None:
    """Returns once `condition` holds; the loop goes on meanwhile."""
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.to_thread(threading.Event().wait, 0.02)


@contextlib.asynccontextmanager
async def through_cable(target: str) -> AsyncIterator[tuple[str, Callable[[], None]]]:
    """An address by which a server is reached, and what cuts its connections as a client's death does."""
    host, _, port = target.rpartition(":")
    writers: list[asyncio.StreamWriter] = []
    pipes: set[asyncio.Task[None]] = set()

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to_reader, to_writer = await asyncio.open_connection(host, int(port))
        writers.extend((writer, to_writer))
        pipes.update(map(asyncio.ensure_future, (pipe(reader, to_writer), pipe(to_reader, writer))))

    def cut() -> None:
        for each in writers:
            each.transport.abort()

    server = await asyncio.start_server(connect, "127.0.0.1", 0)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}", cut
        cut()
        await asyncio.gather(*pipes)


def relayed(server: Any) -> int:
    """How many connections the front end has to the grpc.aio behind it."""
    name = str(server._grpc._folder / "others.sock")
    rows = [row.split() for row in Path("/proc/self/net/unix").read_text().splitlines()]
    return sum(row[-1] == name and row[5] == "03" for row in rows)  # accepted ones have its name


@pytest.mark.parametrize("frontend", ["native"])
async def test_a_client_that_dies_with_answers_unread_leaves_no_connection_open(start: Any) -> None:
    running = await start(stream_idle_s=1.0)
    request = service_pb2.ModelInferRequest(model_name="none", id="x" * 30_000)  # which the answer has, too

    async def write(call: Any) -> None:
        while True:
            await call.write(request)

    async with through_cable(running.target) as (target, cut), grpc.aio.insecure_channel(target) as channel:
        writing = asyncio.create_task(write(service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelStreamInfer()))
        await until(lambda: b'code="RESOURCE_EXHAUSTED"' in running.server._metrics.render())
        assert relayed(running.server) == 1
        cut()
        await until(lambda: not relayed(running.server))
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)


async def test_what_failed_is_freed_at_once() -> None:
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    seen = weakref.ref(future)

    async def work(waited: list[asyncio.Future[None]]) -> None:
        with contextlib.suppress(ValueError):
            await waited.pop()

    gc.disable()
    try:
        task = begin(work([future]))
        assert task is not None
        future.set_exception(ValueError("bad"))
        del future
        await task
        del task
        assert seen() is None
    finally:
        gc.enable()
