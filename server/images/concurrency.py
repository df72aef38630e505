"""Many small pieces of work, a few of them in flight."""

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Iterable
from typing import Any, TypeVar

T = TypeVar("T")


async def as_ready(work: Iterable[Coroutine[Any, Any, T]], window: int) -> AsyncGenerator[T, None]:
    """Results in the order of readiness; at most `window` pieces are begun and not yet taken by the caller.

    So a slow reader holds back the work. Closing the iterator cancels what is in flight and begins no more; the first
    error does the same.
    """
    ready: asyncio.Queue[asyncio.Task[T]] = asyncio.Queue()
    begun: set[asyncio.Task[T]] = set()
    pieces = iter(work)
    try:
        while True:
            while len(begun) < window and (piece := next(pieces, None)) is not None:
                task = asyncio.create_task(piece)
                begun.add(task)
                task.add_done_callback(ready.put_nowait)
            if not begun:
                return
            task = await ready.get()
            result = task.result()
            yield result
            begun.discard(task)
    finally:
        for task in begun:
            task.cancel()
        # Also collects the errors of those that failed meanwhile.
        await asyncio.gather(*begun, return_exceptions=True)
