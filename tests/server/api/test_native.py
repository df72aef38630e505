"""What the native front end's calls are run by: a coroutine that begins at once and goes on as a task."""

import asyncio
from contextvars import ContextVar

import pytest

from server.api.native import begin

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
