"""One device and its lanes: the threads that run engines, and whose turn it is.

A lane is one run at a time. A GPU has one lane; a CPU has one for each core, because several single-threaded runs
give more images per second than one run over every core (docs/adr/0002-lanes.md). A batch is formed at the moment a
lane is free, from what queued while the lanes were busy; nothing polls and nothing waits for a timer by default.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

T = TypeVar("T")


class Batch(Protocol):
    """Work for one lane."""

    alone: bool

    def execute(self) -> None:
        """Runs the work; on the lane's thread; never raises."""

    def finish(self) -> None:
        """Hands the results to their callers; on the loop."""


class Source(Protocol):
    """What forms batches: a batcher."""

    def take(self, idle_lanes: int, lanes: int) -> Batch | None:
        """The next batch, None where nothing may leave now."""

    def has_work(self) -> bool:
        """Whether there is more for a lane."""


class Device:
    """Lanes shared by the batchers of every model on one device, served in turn. Loop thread only.

    `failed` gets the exception of a turn that went wrong: a broken batcher must end the process, not hang its callers.
    """

    def __init__(self, name: str, lanes: int) -> None:
        self.name = name
        self.lanes = lanes
        self._loop = asyncio.get_running_loop()
        self.failed: asyncio.Future[None] = self._loop.create_future()
        self._threads = ThreadPoolExecutor(lanes, thread_name_prefix=f"lane-{name}")
        self._idle = lanes
        self._turns: deque[Source] = deque()
        self._scheduled = False

    @property
    def sources(self) -> int:
        """Batchers with work for a lane, not counting the one whose turn it is."""
        return len(self._turns)

    def offer(self, source: Source) -> None:
        """Says that `source` has work. Batches are formed after the callbacks that are ready now have run, so that
        requests which arrived together leave together."""
        if source not in self._turns:
            self._turns.append(source)
        if self._idle and not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._take_turns)

    async def call(self, function: Callable[[], T]) -> T:
        """The result of a function run on a lane's thread, between batches: warm-up, opening and closing engines."""
        return await self._loop.run_in_executor(self._threads, function)

    def close(self) -> None:
        """Ends the threads after the work they hold."""
        self._threads.shutdown()

    def _take_turns(self) -> None:
        self._scheduled = False
        try:
            while self._idle and self._turns:
                source = self._turns.popleft()
                batch = source.take(self._idle, self.lanes)
                if batch is None:
                    continue
                if source.has_work():
                    self._turns.append(source)
                # A lone batch may use the whole device: it takes every lane.
                held = self.lanes if batch.alone else 1
                self._idle -= held
                self._threads.submit(self._run, batch, held)
        except Exception as error:
            self._fail(error)

    def _run(self, batch: Batch, held: int) -> None:
        batch.execute()
        self._loop.call_soon_threadsafe(self._ran, batch, held)

    def _ran(self, batch: Batch, held: int) -> None:
        self._idle += held
        if self._turns:
            self._take_turns()  # the lane first, the callers after: it computes while they are answered
        try:
            batch.finish()
        except Exception as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        if not self.failed.done():
            self.failed.set_exception(error)
