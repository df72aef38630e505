"""Calls like one that was just rejected are rejected without being read, until something leaves the queue."""

import asyncio
import logging
from collections.abc import Awaitable
from typing import Any

import grpc
import pytest

from server.api.alike import Alike, _head
from server.api.native import NativeServer
from server.batching.batcher import Batcher
from server.batching.standing import Standstill
from tests.server.api.test_overload import Held, asking, connected, until
from tests.server.conftest import Running, Start, read_page


@pytest.fixture
def frontend() -> str:
    return "native"


async def rejected(call: Awaitable[Any]) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED, caught.value
    return caught.value


def batcher_of(running: Running) -> Batcher:
    """Of `tiny`, which is believed to take 2 s an item."""
    batcher = running.server.repository.get_model("tiny").batcher
    (cost,) = batcher.costs.values()
    for _ in range(20):
        cost.learn(items=1, nbytes=16, device_s=2.0)
    return batcher


def alike_of(running: Running) -> Alike:
    server = running.server._grpc
    assert isinstance(server, NativeServer)
    assert server.alike is not None
    return server.alike


async def test_calls_like_a_rejected_one_are_not_read_until_the_queue_moves(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = await start(threads=1, queue_target_s=12)
    batcher, alike = batcher_of(running), alike_of(running)
    checks: list[int] = []
    check_time = batcher.check_time

    def check(*given: Any) -> None:
        checks.append(1)
        check_time(*given)

    monkeypatch.setattr(batcher, "check_time", check)
    with Held(running) as held:
        async with connected(running) as stub, connected(running) as other:
            calls = [asyncio.ensure_future(stub.ModelInfer(asking(0)))]
            await held.busy()
            calls += [asyncio.ensure_future(stub.ModelInfer(asking(value))) for value in range(1, 3)]
            await until(lambda: batcher.waiting_items == 2)
            first = await rejected(stub.ModelInfer(asking(8)))
            assert alike.known
            looked = len(checks)
            for value in range(5):
                again = await rejected(stub.ModelInfer(asking(value), metadata=(("x-request-id", f"mine-{value}"),)))
                assert again.details() == first.details()
                assert dict(again.trailing_metadata() or ())["x-request-id"] == f"mine-{value}"
            assert len(checks) == looked, "they have not got to the model"
            # What is not like it is looked at: with a deadline, of another client, with time.
            text = str((await rejected(stub.ModelInfer(asking(1), timeout=9))).details())
            assert "the deadline is in " in text
            text = str((await rejected(stub.ModelInfer(asking(1), timeout=8))).details())
            assert "the deadline is in " in text
            assert len(checks) == looked + 1
            calls.append(asyncio.ensure_future(other.ModelInfer(asking(1))))
            await until(lambda: batcher.waiting_items == 3)
            calls.append(asyncio.ensure_future(stub.ModelInfer(asking(1), timeout=25)))
            await until(lambda: batcher.waiting_items == 4)
            assert batcher.statistics.failures["REJECTED"] == 8
            _, page = await asyncio.to_thread(read_page, f"{running.url}/metrics")
            assert 'rpc="ModelInfer",model="tiny",code="RESOURCE_EXHAUSTED"} 8' in page.replace("_count{", "{")
            held.gate.set()
            await asyncio.gather(*calls)
            assert not alike.known
            await stub.ModelInfer(asking(8))


async def test_of_a_model_that_is_unloaded_no_rejection_is_left(start: Start) -> None:
    running = await start(threads=1, queue_target_s=12)
    batcher = batcher_of(running)
    with Held(running) as held:
        async with connected(running) as stub:
            calls = [asyncio.ensure_future(stub.ModelInfer(asking(0)))]
            await held.busy()
            calls += [asyncio.ensure_future(stub.ModelInfer(asking(value))) for value in range(1, 3)]
            await until(lambda: batcher.waiting_items == 2)
            await rejected(stub.ModelInfer(asking(8)))
            assert alike_of(running).known
            unloading = asyncio.ensure_future(running.server.repository.unload("tiny"))
            await until(lambda: all(model.name != "tiny" for model in running.server.repository.ready()))
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.ModelInfer(asking(8))
            assert caught.value.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED
            held.gate.set()
            await asyncio.gather(*calls, unloading)


@pytest.mark.parametrize(("restricted", "level"), [("health:key=secret", logging.INFO), (None, logging.DEBUG)])
async def test_where_each_caller_is_looked_at_or_each_call_is_shown_none_is_skipped(
    start: Start, caplog: pytest.LogCaptureFixture, restricted: str | None, level: int
) -> None:
    caplog.set_level(level, "server.api.calls")
    running = await start(threads=1, queue_target_s=12, grpc_restricted_protocol=restricted)
    batcher = batcher_of(running)
    with Held(running) as held:
        async with connected(running) as stub:
            calls = [asyncio.ensure_future(stub.ModelInfer(asking(0)))]
            await held.busy()
            calls += [asyncio.ensure_future(stub.ModelInfer(asking(value))) for value in range(1, 3)]
            await until(lambda: batcher.waiting_items == 2)
            for _ in range(2):
                await rejected(stub.ModelInfer(asking(8)))
            assert not alike_of(running).known
            held.gate.set()
            await asyncio.gather(*calls)


@pytest.mark.parametrize(
    ("message", "head"),
    [
        (b"\x0a\x04tiny\x2a\x00", b"\x0a\x04tiny"),
        (b"\x0a\x04tiny\x12\x011\x1a\x01a", b"\x0a\x04tiny\x12\x011"),
        (b"\x0a\x04tiny\x12\x81\x00", b""),
        (b"\x0a\x04tiny\x12", b""),
        (b"\x12\x011\x0a\x04tiny", b""),
        (b"\x0a\x84\x00tiny", b""),
        (b"\x0a", b""),
        (b"", b""),
    ],
)
def test_the_model_and_its_version_are_read_off_a_message(message: bytes, head: bytes) -> None:
    assert _head(message) == head


def test_what_waits_for_the_end_of_a_standstill_that_is_over_is_called_at_once() -> None:
    called: list[int] = []
    standstill = Standstill()
    standstill.then(lambda: called.append(1))
    assert called == []
    standstill.end()
    standstill.then(lambda: called.append(2))
    assert called == [1, 2]
