"""One device and its lanes: the worker threads that run engines, and which model's turn it is.

A lane runs one batch at a time. A GPU has one lane; a CPU has one for each core, because several single-threaded runs
give more images per second than one run over every core (docs/adr/0002-lanes.md). A batch is formed at the moment a
lane is free, from what queued while the lanes were busy; nothing polls and nothing waits for a timer by default.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context
from typing import Protocol, TypeVar

from server.batching.hang import ESTIMATE_TIMES, LOAD_TIMES, Hangs, Watch
from server.engines.niceness import yield_to_loop

T = TypeVar("T")


class Work(Protocol):
    """A batch for one lane. `is_short`: it has the whole device and takes less than 5 ms."""

    whole_device: bool
    is_short: bool
    estimated_s: float

    @property
    def has_failed(self) -> bool:
        """Whether something of it failed, once it was executed."""

    def describe(self) -> str:
        """What it is, for people; after it was taken to be hung."""

    def execute(self) -> None:
        """Runs the work; on the lane's thread; never raises."""

    def interrupt(self) -> None:
        """Makes it end with an error if that is possible, since it hangs; on the loop."""

    def finish(self) -> None:
        """Hands the results to their callers; on the loop."""


class Source(Protocol):
    """What forms batches: a model on this device."""

    @property
    def is_short(self) -> bool:
        """Whether an item takes so little time that handing it between threads counts."""

    @property
    def fills_batch(self) -> bool:
        """Whether the next batch could not be fuller later, and is brief enough to wait behind another."""

    def take(self, lanes: int, may_use_whole_device: bool) -> Work | None:
        """The next batch, None if nothing may leave now. `lanes`: how many more batches the device takes.
        `may_use_whole_device`: a single job may have it for itself."""

    def has_work(self) -> bool:
        """Whether there is more for a lane."""


class Device:
    """Lanes shared by every model on one device, served in turn. Loop thread only.

    One batch may be formed ahead, so that a lane need not wait for the loop between two: on a CPU of several lanes if
    the model is so cheap that a thread's wake-up counts, on a GPU if the batch is full in any case.

    Only on a CPU, and for such models, a single request on an idle device runs on the loop's own thread, which could do
    nothing for other requests meanwhile: the device is busy, and for less than 5 ms. That is for graphs that export
    made: in others the time may depend on values, and what hangs there hangs everything.

    `failed` gets the exception of a turn that went wrong: a broken batcher must end the process, not hang its callers.
    """

    def __init__(
        self,
        name: str,
        lanes: int,
        hangs: Hangs | None = None,
        is_cpu: bool = False,
        lost: Callable[[], str] = lambda: "",
    ) -> None:
        """`is_cpu`: several lanes are a CPU's in any case. `lost`: asked on a lane's thread after work that failed, why
        nothing can run here any more; "" if it can."""
        self.name = name
        self.lanes = lanes
        self.is_cpu = is_cpu or lanes > 1
        self._hangs = hangs or Hangs(0.0, lambda: None)
        self._lost = lost
        self._loop = asyncio.get_running_loop()
        # Batches are formed in an empty context, so that log lines and spans are not attributed to one request.
        self._context = Context()
        self.failed: asyncio.Future[None] = self._loop.create_future()
        self._threads = ThreadPoolExecutor(lanes, f"lane-{name}", yield_to_loop if lanes > 1 else None)
        self._held = 0  # lanes' worth of batches given out, the one formed ahead included
        self._busy_s = 0.0  # up to the moment when that number last changed
        self._changed_at = time.monotonic()
        self._turns: deque[Source] = deque()
        self._scheduled = False

    @property
    def sources(self) -> int:
        """Models with work for a lane, not counting the one whose turn it is."""
        return len(self._turns)

    @property
    def is_idle(self) -> bool:
        """Whether nothing runs here."""
        return not self._held

    @property
    def free(self) -> int:
        """Lanes without work."""
        return max(0, self.lanes - self._held)

    @property
    def busy_s(self) -> float:
        """Seconds that lanes ran batches, all lanes together, those that run now included."""
        return self._busy_s + min(self._held, self.lanes) * (time.monotonic() - self._changed_at)

    def offer(self, source: Source, is_alone: bool = False) -> None:
        """Says that `source` has work. Batches are formed after the callbacks that are ready now have run, so that
        requests which arrived together leave together; at once if it `is_alone`."""
        if source not in self._turns:
            self._turns.append(source)
        if is_alone and not self._held:
            self._context.run(self._take_turns)
        elif not self._scheduled and self._lanes_for(source) > 0:
            self._scheduled = True
            self._loop.call_soon(self._take_turns, context=self._context)

    async def call(self, function: Callable[[], T], what: str = "loading or closing a model") -> T:
        """The result of a function run on a lane's thread, between batches: warm-up, opening, trimming and closing
        engines. `what`: for people, if it hangs."""
        watch: Watch | None = None
        is_over = False

        def begin() -> None:
            nonlocal watch
            if not is_over:
                watch = self._hangs.watch(lambda: f"{self.name}: {what}", LOAD_TIMES * self._hangs.limit_s)

        def watched() -> T:
            self._loop.call_soon_threadsafe(begin)  # not before: it may wait for a long run of another model
            return function()

        try:
            return await self._loop.run_in_executor(self._threads, watched)
        finally:
            is_over = True
            if watch is not None:
                watch.end()

    def close(self) -> None:
        """Ends the threads after the work they hold; does not wait for one that hangs."""
        self._threads.shutdown(wait=not self._hangs.texts, cancel_futures=True)

    def _lanes_for(self, source: Source) -> int:
        """Batches that the device takes now, the one formed ahead included."""
        ahead = (self.lanes > 1 and source.is_short) if self.is_cpu else (self._held > 0 and source.fills_batch)
        return self.lanes + ahead - self._held

    def _take_turns(self) -> None:
        self._scheduled = False
        try:
            while self._turns and (lanes := self._lanes_for(self._turns[0])) > 0:
                source = self._turns.popleft()
                is_idle = not (self._held or self._turns)
                work = source.take(lanes, may_use_whole_device=is_idle and self.is_cpu)
                if work is None:
                    continue
                if source.has_work():
                    self._turns.append(source)
                self._give(work)
        except Exception as error:
            self._fail(error)

    def _give(self, work: Work) -> None:
        held = self.lanes if work.whole_device else 1
        self._hold(held)
        if work.is_short:
            work.execute()
            self._hold(-held)
            work.finish()
            return
        limit_s = max(self._hangs.limit_s, ESTIMATE_TIMES * work.estimated_s)
        watch = self._hangs.watch(lambda: f"{self.name}: {work.describe()}", limit_s, work.interrupt)
        self._threads.submit(self._run, work, held, watch)

    def _hold(self, lanes: int) -> None:
        """Takes so many lanes, or gives them back if the number is negative."""
        now = time.monotonic()
        self._busy_s += min(self._held, self.lanes) * (now - self._changed_at)
        self._changed_at = now
        self._held += lanes

    def _run(self, work: Work, held: int, watch: Watch) -> None:
        work.execute()
        lost = self._lost() if work.has_failed else ""
        self._loop.call_soon_threadsafe(self._ran, work, held, watch, lost)

    def _ran(self, work: Work, held: int, watch: Watch, lost: str) -> None:
        watch.end()
        if lost:
            self._hangs.lose(self.name, lost)
        self._hold(-held)
        if self._turns:
            self._take_turns()  # the lane first, the callers after: it computes while they are answered
        try:
            work.finish()
        except Exception as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        if not self.failed.done():
            self.failed.set_exception(error)
