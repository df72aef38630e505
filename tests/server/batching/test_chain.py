"""One request at two models: admitted at both before the first works, and what the statistics of each say of it."""

import asyncio
import time
from collections.abc import Sequence

import numpy as np
import pytest

from server.batching.batcher import Batcher
from server.batching.chain import Chain, Stage
from server.engines.base import Arrays
from server.errors import DeadlinePassed, InferenceFailed, NotServing, Overloaded
from tests.server.conftest import HeldEngine, MakeBatcher

ROW = {"x": np.ones((1, 4), np.float32)}
POISON = {"x": np.full((1, 4), np.nan, np.float32)}


def stages(*batchers: Batcher, items: int = 1) -> list[Stage]:
    return [Stage(f"step {n}", batcher, items, 16) for n, batcher in enumerate(batchers, 1)]


async def walk(stages: Sequence[Stage], rows: Sequence[Arrays], deadline: float | None = None) -> None:
    """Runs a row at each stage in turn."""
    with Chain(stages, deadline) as chain:
        for number, row in enumerate(rows):
            with chain.step(number) as run:
                await run(row)


def counts(batcher: Batcher) -> tuple[int, dict[str, int]]:
    """Successes, and the failures by reason."""
    statistics = batcher.statistics
    return statistics.success_count, {reason: count for reason, count in statistics.failures.items() if count}


async def test_each_model_counts_the_request_once(make_batcher: MakeBatcher) -> None:
    first, second = make_batcher(name="a"), make_batcher(name="b")
    with Chain(stages(first, second), None) as chain:
        assert (first.waiting_items, second.waiting_items) == (1, 1)
        with chain.step(0) as run:
            done = await run(ROW)
        chain.end(0)
        assert counts(first) == (1, {})
        with chain.step(1) as run:
            np.testing.assert_array_equal((await run({"x": done.outputs["y"]})).outputs["y"], ROW["x"] * 4)
    assert counts(second) == (1, {})
    assert (first.admitted, second.admitted) == (0, 0)


async def test_a_model_that_rejects_it_is_named_and_the_others_forget_it(make_batcher: MakeBatcher) -> None:
    first, second = make_batcher(name="a"), make_batcher(name="b", max_queue_rows=0)
    with pytest.raises(Overloaded, match=r"^step 2: 1 items requested.*max_queue_rows"):
        Chain(stages(first, second), None)
    assert (first.admitted, first.waiting_items, counts(first)) == (0, 0, (0, {}))
    assert counts(second) == (0, {"REJECTED": 1})


async def test_a_request_does_not_stand_in_its_own_way_at_a_model_of_several_steps(make_batcher: MakeBatcher) -> None:
    batcher = make_batcher(max_queue_requests=1, max_queue_rows=3)
    first, second, third = stages(batcher, batcher, batcher, items=2)
    with Chain([first, second, third._replace(items=3)], None) as chain:
        assert batcher.admitted == 3
        for number in range(3):
            with chain.step(number) as run:
                await run(ROW)
        with pytest.raises(Overloaded, match="max_queue_rows"):
            Chain([third._replace(items=4)], None)
    assert (batcher.waiting_items, batcher.admitted) == (0, 0)
    with Chain([first, second], None), pytest.raises(Overloaded):
        Chain([first], None)


async def test_a_long_step_does_not_reject_a_short_one_behind_it_at_the_same_model(make_batcher: MakeBatcher) -> None:
    batcher = make_batcher(target_s=0.1)
    for cost in batcher.costs.values():
        cost.learn(1, 16, 0.5)
    long, short = stages(batcher, batcher)
    with Chain([long._replace(items=10, nbytes=160), short], None), pytest.raises(Overloaded, match="queue_target_s"):
        Chain([short], None)


async def test_a_failure_is_counted_where_it_happened(make_batcher: MakeBatcher) -> None:
    batchers = [make_batcher(name=name) for name in "abc"]
    with pytest.raises(InferenceFailed, match=r"^step 2: inference failed"):
        await walk(stages(*batchers), [ROW, POISON])
    assert [counts(batcher) for batcher in batchers] == [(1, {}), (0, {"BACKEND": 1}), (0, {})]
    assert [batcher.admitted for batcher in batchers] == [0, 0, 0]


async def test_work_that_is_cut_short_is_cancelled(make_batcher: MakeBatcher) -> None:
    first, second = make_batcher(name="a"), make_batcher(name="b")
    with pytest.raises(InferenceFailed):
        await walk(stages(first, second, items=2), [ROW, POISON])
    assert counts(first) == (0, {"CANCELED": 1})


async def test_a_model_that_is_drained_meanwhile_answers_what_was_accepted(
    make_batcher: MakeBatcher, engine: HeldEngine
) -> None:
    first, second = make_batcher(name="a"), make_batcher(name="b")
    with Chain(stages(first, second), None) as chain:
        draining = asyncio.create_task(second.drain())
        await asyncio.sleep(0)
        with pytest.raises(NotServing, match=r"^step 2: "):
            Chain(stages(first, second), None)
        with chain.step(1) as run:
            await run(ROW)
    await draining
    assert counts(second) == (1, {"REJECTED": 1})


async def test_the_deadline_is_one_for_all_steps(make_batcher: MakeBatcher, engine: HeldEngine) -> None:
    first, second = make_batcher(name="a"), make_batcher(name="b")
    engine.gate.clear()
    deadline = time.monotonic() + 1.0
    walking = asyncio.create_task(walk(stages(first, second), [ROW, ROW], deadline))
    await engine.busy()
    await asyncio.sleep(deadline - time.monotonic())
    engine.gate.set()  # what runs is computed to its end; what comes next is not begun
    with pytest.raises(DeadlinePassed, match=r"^step 2: the deadline is over"):
        await walking
    assert counts(first) == (1, {})
    assert len(engine.runs) == 1
