"""Runs whose callers have left."""

import asyncio
import time
from typing import Any

import numpy as np
import pytest

from server.batching import batch
from server.errors import InferenceFailed
from tests.server.batching.test_batcher import ask, measured, reached, row


async def test_a_run_ends_when_all_callers_of_its_engine_have_left(
    make_batcher: Any, engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "ABANDONED_S", 0.01)
    interrupted = []

    def interrupt() -> None:
        interrupted.append(len(engine.runs))
        engine.gate.set()

    engine.stop = engine.interrupt = interrupt
    batcher = make_batcher(lanes=2)
    measured(batcher, item_s=0.5)
    (cost,) = batcher.costs.values()
    engine.gate.clear()
    calls = [asyncio.create_task(ask(batcher, row(i))) for i in range(2)]
    for _ in calls:
        await engine.busy()
    for left, call in enumerate(calls, 1):
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await reached(time.monotonic() + 0.05)
        assert bool(interrupted) == (left == 2), "the other one's caller waits"
    async with asyncio.timeout(30):
        while batcher.running.batches:
            await reached(time.monotonic() + 0.01)
    assert cost.seconds(4, 4) == 0.5, "what was interrupted is no measurement"
    np.testing.assert_array_equal((await ask(batcher, row(4))).outputs["y"], [[8]])


async def test_draining_ends_the_runs_that_all_callers_have_left(make_batcher: Any, engine: Any) -> None:
    engine.stop = engine.interrupt = engine.gate.set
    batcher = make_batcher()
    engine.gate.clear()
    call = asyncio.create_task(ask(batcher, row(1)))
    await engine.busy()
    call.cancel()
    await asyncio.wait({call})
    assert not engine.gate.is_set()
    await batcher.drain()
    assert engine.gate.is_set(), "before its engine is freed, and not a while later"


async def test_a_batch_in_which_a_run_failed_is_no_measurement(make_batcher: Any, engine: Any) -> None:
    batcher = make_batcher(lanes=2)
    measured(batcher, item_s=0.5)
    (cost,) = batcher.costs.values()
    with pytest.raises(InferenceFailed):
        await ask(batcher, row(np.nan))
    assert cost.seconds(4, 4) == 0.5, "it may have failed at once, or had its graph compiled anew"
