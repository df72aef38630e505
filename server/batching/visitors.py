"""Requests that have found a model, from then until they are answered: it stays open for them.

Between finding a model and being admitted to its queue a request may wait, while its message or image is read. A model
that is unloaded or replaced in that time is not found any more, and closes when those who have found it are gone.
"""

import asyncio


class Visitors:
    """A context for each request. Loop thread only."""

    __slots__ = ("_count", "_gone")

    def __init__(self) -> None:
        self._count = 0
        self._gone: asyncio.Event | None = None  # while somebody waits

    def __enter__(self) -> None:
        self._count += 1

    def __exit__(self, *_: object) -> None:
        self._count -= 1
        if self._gone is not None and not self._count:
            self._gone.set()

    async def gone(self) -> None:
        """Returns when there are none."""
        while self._count:
            self._gone = asyncio.Event()
            await self._gone.wait()
        self._gone = None
