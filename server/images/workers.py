"""Threads that decode and encode images, with a limit of time.

The libraries that do the work cannot be stopped from outside. So what reads or writes an image piece by piece calls
`check_time` between two pieces. A call that does not come back even so is given up: its caller gets an error, and
another thread takes its place. The pool `is_failing` while as many of its threads hang as it should have.

Clients take turns (`server.images.waiting`). If every thread has been at one call for HELD_UP_S, a client that waits
and has no call running gets a thread more, so that nobody's small image waits for the largest of others. There are at
most as many of those as the pool should have. Calls that share the processors with them have longer in proportion.
"""

import asyncio
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from server.errors import ImageTooLarge, InferenceFailed
from server.images.waiting import Waiting
from server.observability.context import current

T = TypeVar("T")

# A call is given up after so many times the limit; what checks the time has ended by itself long before.
GIVE_UP_TIMES = 2.0
HELD_UP_S = 0.05

log = logging.getLogger(__name__)
_thread = threading.local()


class Left(Exception):
    """The caller of the work has left: its result is of no use to anybody."""


def check_time() -> None:
    """Between two pieces of work: returns if the work may go on, as it always may in a thread that is no worker.

    Raises:
        ImageTooLarge: it takes longer than the limit.
        Left: nobody waits for it any more.
    """
    work: _Work | None = getattr(_thread, "work", None)
    if work is None:
        return
    if work.future.cancelled():
        raise Left
    if work.seconds() > work.allowed_s:
        raise ImageTooLarge(f"image: decoding or encoding it takes more than {work.limit_s:g} s (codec_timeout_s)")


class _Work:
    """One call and the future of its result. For `started_at` and `crowding` see `server.images.waiting`. `is_extra`:
    whether the thread that runs it is none of the pool's."""

    __slots__ = ("arguments", "client", "crowding", "function", "future", "is_extra", "limit_s", "started_at")

    def __init__(
        self, function: Callable[..., Any], arguments: tuple[Any, ...], limit_s: float, future: "asyncio.Future[Any]"
    ) -> None:
        request = current.get()
        self.client = "" if request is None else request.client
        self.function = function
        self.arguments = arguments
        self.limit_s = limit_s
        self.future = future
        self.started_at: float | None = None
        self.crowding = 1.0
        self.is_extra = False

    @property
    def allowed_s(self) -> float:
        """How long it may run."""
        return self.limit_s * self.crowding

    def seconds(self) -> float:
        """How long it has run."""
        return 0.0 if self.started_at is None else time.monotonic() - self.started_at


class Workers:
    """A pool of threads. Loop thread only.

    Args:
        count: number of threads.
        limit_s: of one call, its wait for a thread not counted (codec_timeout_s).
    """

    def __init__(self, count: int, limit_s: float) -> None:
        self._count = count
        self._limit_s = limit_s
        self._waiting: Waiting[_Work] = Waiting(count)
        self._tokens: queue.SimpleQueue[bool] = queue.SimpleQueue()  # one for each that waits; false: the end
        self._extra: list[threading.Thread] = []
        self._relief: asyncio.TimerHandle | None = None
        self._ended: deque[tuple[_Work, Any, BaseException | None]] = deque()
        self._has_told = False
        self._threads = 0
        self._unfinished: set[_Work] = set()
        self._hanging: set[_Work] = set()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_failing(self) -> bool:
        """Whether as many of the pool's threads hang as it should have."""
        return sum(not work.is_extra for work in self._hanging) >= self._count

    async def run(self, function: Callable[..., T], *arguments: Any, is_short: bool = False) -> T:
        """The result of a call in one of the threads. Cancellation ends the call when it next checks the time, at once
        if it has not begun. `is_short`: like the reading of a header, which waits for none of its client's images.

        Raises:
            ImageTooLarge: it took longer than the limit.
            InferenceFailed: it took twice as long without checking the time.
            Exception: what the function raises.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        work = _Work(function, arguments, self._limit_s, future)
        if is_short:
            work.client += ", short"
        self._unfinished.add(work)
        if self._threads < min(self._count, len(self._unfinished)):
            self._add_thread(loop)
        elif self._relief is None:
            self._relief = loop.call_later(HELD_UP_S, self._relieve)
        if self._timer is None:
            self._timer = loop.call_later(self._limit_s, self._look)
        self._waiting.put(work)
        self._tokens.put(True)
        try:
            return await future
        except asyncio.CancelledError:
            if self._waiting.drop(work):
                self._unfinished.discard(work)
            raise
        finally:
            del future, work  # an error has this frame in its traceback, and the future has the error: a circle

    async def run_if(self, is_long: bool, function: Callable[..., T], *arguments: Any) -> T:
        """The result of a call: of one that takes long in a thread, as `run`, else here and now."""
        return await self.run(function, *arguments) if is_long else function(*arguments)

    def close(self) -> None:
        """Ends the threads; waits for none."""
        for timer in (self._timer, self._relief):
            if timer is not None:
                timer.cancel()
        for _ in range(self._threads):
            self._tokens.put(False)

    def _add_thread(self, loop: asyncio.AbstractEventLoop) -> None:
        self._threads += 1
        threading.Thread(target=self._serve, args=(loop,), name="codec", daemon=True).start()

    def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        """A thread's life: one call after another, until it is told to end or another has taken its place."""
        while self._tokens.get():
            work = self._waiting.take()  # none if an extra thread took it, or its caller left
            if work is not None and not self._run(work, loop):
                return
            del work  # what it holds must not wait for the next call

    def _serve_extra(self, loop: asyncio.AbstractEventLoop) -> None:
        """That of a thread more: as long as clients are held up who have nothing running."""
        while (work := self._waiting.take_held_up(HELD_UP_S)) is not None:
            work.is_extra = True
            if not self._run(work, loop):
                break
            del work

    def _run(self, work: _Work, loop: asyncio.AbstractEventLoop) -> bool:
        """Runs a call; whether its thread may go on."""
        result, error = None, None
        if not work.future.cancelled():
            _thread.work = work
            try:
                result = work.function(*work.arguments)
            except BaseException as raised:
                error = raised
            _thread.work = None
        self._waiting.end(work)
        replaced = work in self._hanging
        self._ended.append((work, result, error))
        del work, result, error  # an error has this frame in its traceback
        if not self._has_told:  # else the loop has yet to look: to wake it takes as long as a small image
            self._has_told = True
            try:
                loop.call_soon_threadsafe(self._finish)
            except RuntimeError:  # the loop has ended
                return False
        return not replaced

    def _relieve(self) -> None:
        """Adds a thread for clients that are held up; once in HELD_UP_S while any call waits."""
        loop = asyncio.get_running_loop()
        self._relief = loop.call_later(HELD_UP_S, self._relieve) if self._waiting else None
        self._extra = [thread for thread in self._extra if thread.is_alive()]
        if len(self._extra) < self._count and self._waiting.is_held_up(HELD_UP_S):
            self._extra.append(threading.Thread(target=self._serve_extra, args=(loop,), name="codec", daemon=True))
            self._extra[-1].start()

    def _finish(self) -> None:
        """Answers those who wait for calls that have ended."""
        self._has_told = False  # first: what ends from now on is told again
        while self._ended:
            self._answer(*self._ended.popleft())

    def _answer(self, work: _Work, result: Any, error: BaseException | None) -> None:
        self._unfinished.discard(work)
        self._hanging.discard(work)
        if work.future.done():
            return
        if error is None:
            work.future.set_result(result)
        else:
            work.future.set_exception(error)

    def _look(self) -> None:
        """Gives up the calls that hang; once in every `limit_s` while there are any calls."""
        loop = asyncio.get_running_loop()
        for work in [work for work in self._unfinished if work.seconds() > GIVE_UP_TIMES * work.allowed_s]:
            self._unfinished.discard(work)
            self._hanging.add(work)
            if not work.is_extra:
                self._add_thread(loop)
            seconds = round(work.seconds(), 3)
            log.error("codec thread hangs", extra={"fields": {"seconds": seconds, "hanging": len(self._hanging)}})
            if not work.future.done():
                work.future.set_exception(InferenceFailed(f"the image was not ready after {seconds} s; see the log"))
        self._timer = loop.call_later(self._limit_s, self._look) if self._unfinished else None
