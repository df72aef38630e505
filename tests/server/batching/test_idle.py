"""An idle model gives memory back."""

import asyncio
import threading
import time
from typing import Any

import numpy as np
import pytest

from server.batching import hang, idle
from server.batching.device import Device
from server.batching.hang import Hangs
from server.engines.base import Engine, Trimmable
from tests.server.batching.test_batcher import ask, reached, row
from tests.server.conftest import HeldEngine, MakeBatcher

AFTER_S = 0.1


class TrimmedEngine(HeldEngine):
    """Remembers when it was trimmed and on which thread; `may_trim` holds that up."""

    def __init__(self) -> None:
        super().__init__()
        self.trimmed: list[tuple[float, threading.Thread]] = []
        self.may_trim = threading.Event()
        self.may_trim.set()
        self.error: Exception | None = None

    def trim(self) -> None:
        self.trimmed.append((time.monotonic(), threading.current_thread()))
        self.entered.release()
        assert self.may_trim.wait(30)
        if self.error is not None:
            raise self.error


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> TrimmedEngine:
    monkeypatch.setattr(idle, "TRIM_AFTER_S", AFTER_S)
    return TrimmedEngine()


async def answered(batcher: Any, engine: TrimmedEngine) -> float:
    """A moment shortly before a request of 1 had been answered."""
    at = time.monotonic()
    done = await ask(batcher, row(1))
    np.testing.assert_array_equal(done.outputs["y"], [[2]])
    await engine.busy()
    return at


async def test_a_model_is_trimmed_once_on_a_worker_thread_when_it_was_idle(
    make_batcher: MakeBatcher, engine: TrimmedEngine
) -> None:
    batcher = make_batcher()
    at = await answered(batcher, engine)
    await engine.busy()
    ((trimmed_at, thread),) = engine.trimmed
    assert trimmed_at - at > 0.9 * AFTER_S
    assert thread in engine.threads
    await reached(time.monotonic() + 3 * AFTER_S)
    assert len(engine.trimmed) == 1, "there is nothing more to give back"
    await answered(batcher, engine)
    await engine.busy()
    assert len(engine.trimmed) == 2


async def test_a_model_with_requests_is_not_trimmed(make_batcher: MakeBatcher, engine: TrimmedEngine) -> None:
    batcher = make_batcher()
    await answered(batcher, engine)
    engine.gate.clear()
    task = asyncio.create_task(ask(batcher, row(1)))
    await engine.busy()
    await reached(time.monotonic() + 3 * AFTER_S)
    assert not engine.trimmed
    at = time.monotonic()
    engine.gate.set()
    await task
    await engine.busy()
    assert engine.trimmed[0][0] - at > 0.9 * AFTER_S


async def test_a_request_does_not_wait_for_the_trimming_if_there_is_another_lane(
    make_batcher: MakeBatcher, engine: TrimmedEngine
) -> None:
    batcher = make_batcher(lanes=2)
    await answered(batcher, engine)
    engine.may_trim.clear()
    await engine.busy()
    await answered(batcher, engine)
    engine.may_trim.set()


async def test_an_engine_is_not_freed_while_it_is_trimmed(make_batcher: MakeBatcher, engine: TrimmedEngine) -> None:
    batcher = make_batcher(lanes=2)
    await answered(batcher, engine)
    engine.may_trim.clear()
    await engine.busy()
    draining = asyncio.create_task(batcher.drain())
    await asyncio.wait([draining], timeout=0.05)
    assert not draining.done()
    engine.may_trim.set()
    await draining


async def test_a_model_that_is_being_unloaded_is_not_trimmed(make_batcher: MakeBatcher, engine: TrimmedEngine) -> None:
    batcher = make_batcher()
    await answered(batcher, engine)
    await batcher.drain()
    await reached(time.monotonic() + 3 * AFTER_S)
    assert not engine.trimmed


async def test_an_engine_that_cannot_be_trimmed_serves_on(
    make_batcher: MakeBatcher, engine: TrimmedEngine, caplog: pytest.LogCaptureFixture
) -> None:
    batcher = make_batcher()
    engine.error = MemoryError("no arena")
    await answered(batcher, engine)
    await engine.busy()
    await answered(batcher, engine)
    assert [record.getMessage() for record in caplog.records] == ["engine not trimmed"]


def test_the_protocol_tells_engines_apart() -> None:
    held: Engine = HeldEngine()
    assert isinstance(TrimmedEngine(), Trimmable)
    assert not isinstance(held, Trimmable)


async def test_waiting_for_a_long_run_of_another_model_is_no_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hang, "RECHECK_S", 0.0)
    hangs = Hangs(0.001, lambda: None)
    device = Device("cpu", 1, hangs)
    began, may_end = threading.Event(), threading.Event()

    def first() -> None:
        began.set()
        assert may_end.wait(30)

    running = asyncio.create_task(device.call(first, "a long one"))
    assert await asyncio.to_thread(began.wait, 30)
    waiting = asyncio.create_task(device.call(lambda: None, "another"))
    async with asyncio.timeout(30):
        while not hangs.texts:
            await reached(time.monotonic() + 0.01)
    await reached(time.monotonic() + 0.05)
    assert [text.split(" has ")[0] for text in hangs.texts] == ["cpu: a long one"]
    may_end.set()
    await asyncio.gather(running, waiting)
    assert not hangs.texts
    device.close()
