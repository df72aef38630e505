import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import aclosing
from typing import Any

import pytest

from server.images.concurrency import run_bounded


class Works:
    """Pieces of work that end when told to; remembers which began and which were cancelled."""

    def __init__(self, count: int) -> None:
        self.ends: list[asyncio.Future[int]] = [asyncio.get_running_loop().create_future() for _ in range(count)]
        self.begun: list[int] = []
        self.cancelled: list[int] = []

    def __iter__(self) -> Iterator[Coroutine[Any, Any, int]]:
        return (self._one(index) for index in range(len(self.ends)))

    async def _one(self, index: int) -> int:
        self.begun.append(index)
        try:
            return await self.ends[index]
        except asyncio.CancelledError:
            self.cancelled.append(index)
            raise


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_results_come_in_the_request_of_readiness() -> None:
    works = Works(3)
    for value, index in enumerate((2, 0, 1)):
        asyncio.get_running_loop().call_later(0.001 * value, works.ends[index].set_result, index)
    assert [result async for result in run_bounded(works, 3)] == [2, 0, 1]


async def test_no_more_than_the_window_is_begun_and_not_taken() -> None:
    works = Works(10)
    for end in works.ends:
        end.set_result(0)
    async with aclosing(run_bounded(works, 4)) as results:
        await anext(results)
        await turns()
        assert works.begun == [0, 1, 2, 3]
        await anext(results)
        await turns()
        assert works.begun == [0, 1, 2, 3, 4]


async def test_closing_cancels_what_is_in_flight_and_begins_no_more() -> None:
    works = Works(10)
    works.ends[0].set_result(0)
    async with aclosing(run_bounded(works, 4)) as results:
        await anext(results)
    assert works.begun == [0, 1, 2, 3]
    assert sorted(works.cancelled) == [1, 2, 3]


async def test_the_first_error_ends_all() -> None:
    works = Works(4)
    works.ends[1].set_exception(ArithmeticError("one"))
    works.ends[2].set_exception(ArithmeticError("two"))
    with pytest.raises(ArithmeticError, match="one"):
        [result async for result in run_bounded(works, 4)]
    assert sorted(works.cancelled) == [0, 3]


async def test_a_cancelled_reader_cancels_the_work() -> None:
    works = Works(4)

    async def read() -> list[int]:
        async with aclosing(run_bounded(works, 2)) as results:
            return [result async for result in results]

    reader = asyncio.create_task(read())
    await turns()
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    assert sorted(works.cancelled) == works.begun == [0, 1]


async def test_nothing_to_do_gives_nothing() -> None:
    assert [result async for result in run_bounded(Works(0), 3)] == []
