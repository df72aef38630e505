"""An event loop whose callbacks another thread may run while the loop's own thread waits.

A thread that has something for an event loop wakes the loop's thread, which takes longer than what a call of a small
model has to do there (docs/adr/0027-one-thread-less.md). Here it runs that itself, if nobody else runs callbacks.
"""

import asyncio
import ctypes
import os
import select
import selectors
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from contextvars import Context
from math import ceil, inf
from typing import Any, NoReturn, TypeVarTuple, Unpack

Ts = TypeVarTuple("Ts")

# Another thread goes so often through what is ready, and then leaves the rest to the loop's own.
ROUNDS = 8


def new_loop() -> asyncio.AbstractEventLoop:
    """A `SharedLoop` where there is epoll, which is Linux; elsewhere asyncio's own."""
    return SharedLoop() if sys.platform == "linux" else asyncio.new_event_loop()


def call_in(loop: asyncio.AbstractEventLoop, callback: Callable[..., object], *args: Any) -> None:
    """Has a callback run in the loop, for another thread than the loop's: here and now if the loop can do that.

    Raises:
        RuntimeError: the loop is closed.
    """
    if isinstance(loop, SharedLoop) and not loop.get_debug():  # which checks that its own thread adds callbacks
        loop.call_here(callback, *args)
    else:
        loop.call_soon_threadsafe(callback, *args)


class SharedLoop(asyncio.SelectorEventLoop):
    """One thread at a time has the turn and runs callbacks: the loop's own, or another while that one waits.

    What holds for callbacks of an event loop holds: they run one after the other, and this is their running loop. They
    must not depend on the thread.
    """

    _ready: "deque[asyncio.Handle]"  # asyncio's, as is `_run_once`

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._turn.acquire()  # by the loop's own thread, always but while it waits
        self._waiting = _Waiting(self._turn)
        self._must_wake = False  # whether the one who has the turn did what changes how long the loop's own may wait
        super().__init__(self._waiting)
        self._waiting.ready = self._ready

    def call_here(self, callback: Callable[..., object], *args: Any) -> None:
        """Runs a callback, and what it makes ready, on this thread if nobody has the turn; else whoever has it does.

        Raises:
            RuntimeError: the loop is closed.
        """
        self.call_soon(callback, *args)
        # Nothing is left behind: whoever has the turn looks at what is ready once more after giving it back.
        for _ in range(ROUNDS):
            if not self._ready or not self._turn.acquire(blocking=False):
                return
            try:
                if self._ready:  # else another had the turn meanwhile, and this thread would wait like the loop's own
                    self._run_here()
            finally:
                self._turn.release()
        if self._ready and self._turn.acquire(blocking=False):
            self._waiting.wake()
            self._turn.release()

    def _write_to_self(self) -> None:
        """Has what another thread has just added be seen: by whoever has the turn, else by the loop's own thread."""
        if not self._turn.locked():
            self._waiting.wake()

    def _run_here(self) -> None:
        """One round on this thread, which has the turn."""
        self._must_wake = False
        asyncio._set_running_loop(self)
        sys.set_asyncgen_hooks(*self._waiting.hooks)
        try:
            self._run_once()  # type: ignore[attr-defined]
        except BaseException as error:  # SystemExit and the like, which asyncio lets through to end the loop
            self.call_soon_threadsafe(_raise, error)
            self._must_wake = True
        finally:
            asyncio._set_running_loop(None)
            if self._must_wake:
                self._waiting.wake()

    def call_at(
        self, when: float, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """As asyncio has it."""
        if when < self._waiting.until:
            self._must_wake = True
        return super().call_at(when, callback, *args, context=context)

    def stop(self) -> None:
        """As asyncio has it."""
        self._must_wake = True
        super().stop()


class _Waiting(selectors.DefaultSelector):
    """A selector that gives the turn away while it waits. `until`: for how long at most, on the loop's clock."""

    def __init__(self, turn: threading.Lock) -> None:
        super().__init__()
        self.until = -inf
        self.ready: deque[asyncio.Handle] = deque()
        self.hooks = sys.get_asyncgen_hooks()  # of the loop's own thread
        self._turn = turn
        self._woken = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._write = ctypes.PyDLL(None).eventfd_write
        self._write.argtypes = ctypes.c_int, ctypes.c_uint64
        self._poll = select.poll()  # an epoll's descriptor can be waited for like any other
        self._poll.register(self.fileno(), select.POLLIN)
        self._poll.register(self._woken, select.POLLIN)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """What has come; looked up with the turn, since another thread may have taken it out of the selector."""
        if timeout is None or timeout > 0:
            self._wait(timeout)
        return super().select(0)

    def wake(self) -> None:
        """Ends the wait, for another thread, which keeps the interpreter: with `os.eventfd_write` the loop's own thread
        would have it at once, and the other one, a lane with its next batch say, waits until that has nothing to do."""
        self._write(self._woken, 1)

    def close(self) -> None:
        """As selectors have it."""
        super().close()
        os.close(self._woken)

    def _wait(self, timeout: float | None) -> None:
        self.until = inf if timeout is None else time.monotonic() + timeout
        self.hooks = sys.get_asyncgen_hooks()
        self._turn.release()
        try:
            if not self.ready:  # what was added before the turn was given away
                for descriptor, _ in self._poll.poll(None if timeout is None else ceil(timeout * 1000)):
                    if descriptor == self._woken:
                        os.eventfd_read(self._woken)
        finally:
            self._turn.acquire()
            self.until = -inf


def _raise(error: BaseException) -> NoReturn:
    raise error
