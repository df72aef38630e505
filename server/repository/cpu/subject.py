"""An engine on trial: its runs, as many at once as there are lanes, each within a limit of time.

They run on threads of their own: a library that hangs is left behind, not waited for.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeAlias, TypeVar

from numpy.typing import NDArray

from server.engines.base import Arrays, Engine, Stoppable
from server.engines.niceness import yield_to_loop

T = TypeVar("T")
Items: TypeAlias = Mapping[str, NDArray[Any]]
"""The input or output arrays of several items, by name."""

# An engine that was stopped gets so long to end.
STOP_S = 2.0


class RunFailed(Exception):
    """An engine could not do what it was given; the text is the reason."""


class Hung(RunFailed):
    """It did not end within the limit; `threads` are still running."""

    def __init__(self, limit_s: float, threads: Sequence[threading.Thread]) -> None:
        super().__init__(f"it had not ended after {limit_s:g} s (hang_timeout_s)")
        self.threads = threads


class GivenUp(Exception):
    """The server is stopping, or the time for measuring is over."""


class Setup(NamedTuple):
    """One way to use the CPU. `items`: of a batch, 0 for a graph without a batch axis."""

    side_px: int
    items: int
    whole_device: bool

    def __str__(self) -> str:
        size = f" of {self.side_px} px" if self.side_px else ""
        return f"batch {max(1, self.items)}{size}{' alone' if self.whole_device else ''}"


def open_within(open_: Callable[[], Engine], limit_s: float) -> Engine:
    """An engine, opened on a thread of its own. It is no nicer than the one that loads models: what the engine starts
    there keeps that niceness while it serves.

    Raises:
        RunFailed: see `together`.
    """
    return together([open_], limit_s, yields=False)[0]


def together(functions: Sequence[Callable[[], T]], limit_s: float, yields: bool = True) -> list[T]:
    """The results of functions that run at once, each on a thread of its own.

    Args:
        limit_s: for all of them; 0: for ever.
        yields: the threads have the niceness of worker threads.

    Raises:
        Hung: the limit is over; the threads go on.
        RunFailed: one raised an exception.
    """
    results: list[T | None] = [None] * len(functions)
    errors: list[Exception] = []

    def work(index: int, function: Callable[[], T]) -> None:
        try:
            if yields:
                yield_to_loop()
            results[index] = function()
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=pair, daemon=True, name="trial") for pair in enumerate(functions)]
    until = time.monotonic() + limit_s
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()) if limit_s else None)
        if thread.is_alive():
            raise Hung(limit_s, threads)
    if errors:
        raise RunFailed(" ".join(str(errors[0]).split())[:300] or type(errors[0]).__name__) from errors[0]
    return results  # type: ignore[return-value]


class Subject:
    """One engine on trial, run within the limit of time. `lanes`: runs at once."""

    def __init__(self, engine: Engine, lanes: int, limit_s: float) -> None:
        self.engine = engine
        self.was_stopped = False  # no run of it succeeds any more
        self.hangs = False
        self._lanes = lanes
        self._limit_s = limit_s

    def run(self, arrays: Arrays, whole_device: bool = False) -> Items:
        """The outputs of one run; see `Engine`.

        Raises:
            RunFailed: see `together`.
        """
        return self._within([partial(self.engine.run, arrays, whole_device)])[0]

    def run_on_lanes(self, arrays: Arrays) -> list[dict[str, NDArray[Any]]]:
        """The outputs of the same run on every lane at once.

        Raises:
            RunFailed: see `together`.
        """
        return self._within([partial(self.engine.run, arrays, False)] * self._lanes)

    def items_per_s(self, arrays: Arrays, setup: Setup, seconds: float) -> float:
        """Items per second over all lanes, or of one run after the other that has the whole device.

        Raises:
            RunFailed: see `together`.
        """

        def work() -> float:
            started_s, runs = time.perf_counter(), 0
            while (spent_s := time.perf_counter() - started_s) < seconds or not runs:
                self.engine.run(arrays, setup.whole_device)
                runs += 1
            return runs * max(1, setup.items) / spent_s

        return sum(self._within([work] * (1 if setup.whole_device else self._lanes)))

    def close(self) -> None:
        """Frees the engine, unless a run of it is still in progress: then nothing can."""
        if not self.hangs:
            self.engine.close()

    def _within(self, functions: Sequence[Callable[[], T]]) -> list[T]:
        try:
            return together(functions, self._limit_s)
        except Hung as hung:
            self.was_stopped = True
            if isinstance(self.engine, Stoppable):
                self.engine.stop()
            until = time.monotonic() + STOP_S
            for thread in hung.threads:
                thread.join(max(0.0, until - time.monotonic()))
            self.hangs = any(thread.is_alive() for thread in hung.threads)
            raise
