"""Runs many coroutines, a bounded number at a time or all of a few."""

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Iterable
from typing import Any, TypeVar

T = TypeVar("T")


async def run_bounded(work: Iterable[Coroutine[Any, Any, T]], window: int) -> AsyncGenerator[T, None]:
    """Yields results in the order in which they become ready.

    At most `window` coroutines are started whose result the caller has not taken, so a slow reader holds back the work.
    Closing the iterator cancels those in flight and starts no more; the first error does the same.
    """
    ready: asyncio.Queue[asyncio.Task[T]] = asyncio.Queue()
    started: set[asyncio.Task[T]] = set()
    coroutines = iter(work)
    try:
        while True:
            while len(started) < window and (coroutine := next(coroutines, None)) is not None:
                task = asyncio.create_task(coroutine)
                started.add(task)
                task.add_done_callback(ready.put_nowait)
            if not started:
                return
            task = await ready.get()
            result = task.result()
            yield result
            started.discard(task)
    finally:
        for task in started:
            task.cancel()
        # Also collects the errors of those that failed meanwhile.
        await asyncio.gather(*started, return_exceptions=True)


async def together(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """All results, in the order of `work`. The first error ends the others, and so does cancelling."""
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
