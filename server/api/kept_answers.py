"""Answers kept by key for requests that come again. Equal requests that come at once are computed once."""

import asyncio
import functools
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from server.errors import CapacityError


@dataclass
class _Flight:
    """A run that equal requests wait for."""

    task: asyncio.Task[Any]
    waiting: int = 0


class KeptAnswers:
    """Bounded in bytes: the least recently used go first. Loop thread only."""

    def __init__(self, limit_bytes: int) -> None:
        """`limit_bytes`: of all answers (response_cache_bytes); 0: none is kept."""
        self._limit_bytes = limit_bytes
        self._kept: OrderedDict[bytes, tuple[Any, int]] = OrderedDict()
        self._nbytes = 0
        self._flights: dict[bytes, _Flight] = {}

    @property
    def limit_bytes(self) -> int:
        """What they may take."""
        return self._limit_bytes

    @property
    def nbytes(self) -> int:
        """What they take."""
        return self._nbytes

    def find(self, key: bytes) -> Any:
        """The answer that is kept; None if there is none."""
        found = self._kept.get(key)
        if found is None:
            return None
        self._kept.move_to_end(key)
        return found[0]

    async def get(
        self,
        key: bytes,
        compute: Callable[[], Awaitable[Any]],
        size_of: Callable[[Any], int],
        told: Callable[[bool], None],
    ) -> Any:
        """The answer that is kept, or else what `compute` gives.

        Args:
            key: of all that the answer depends on.
            size_of: an answer's bytes of memory; 0: it is not to be kept.
            told: called with whether the answer was there or on its way: a hit, or else a miss.

        Raises:
            Exception: what `compute` raises.
        """
        while True:
            found = self.find(key)
            if found is not None:
                told(True)
                return found
            flight = self._flights.get(key)
            is_mine = flight is None
            if flight is None:
                told(False)
                flight = self._flights[key] = _Flight(asyncio.create_task(self._run(key, compute, size_of)))
                flight.task.add_done_callback(functools.partial(self._forget, key))
            flight.waiting += 1
            try:
                answer = await asyncio.shield(flight.task)
            except CapacityError:  # the other request's deadline, perhaps, not this one's
                if is_mine:
                    raise
                continue
            finally:
                flight.waiting -= 1
                if not flight.waiting and not flight.task.done():
                    self._forget(key, flight.task)
                    flight.task.cancel()
            if not is_mine:
                told(True)
            return answer

    async def _run(self, key: bytes, compute: Callable[[], Awaitable[Any]], size_of: Callable[[Any], int]) -> Any:
        answer = await compute()
        nbytes = size_of(answer)
        if 0 < nbytes <= self._limit_bytes:
            self._kept[key] = answer, nbytes
            self._nbytes += nbytes
            while self._nbytes > self._limit_bytes:
                _, (_, dropped) = self._kept.popitem(last=False)
                self._nbytes -= dropped
        return answer

    def _forget(self, key: bytes, task: asyncio.Task[Any]) -> None:
        flight = self._flights.get(key)
        if flight is not None and flight.task is task:
            del self._flights[key]
