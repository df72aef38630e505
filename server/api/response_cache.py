"""Answers kept for requests that come again: `response_cache { enable: true }` in config.pbtxt, as in Triton.

Equal inputs give equal bytes here, so an answer is as good as a run. The key is a digest of everything that an answer
depends on: the loaded model and each input's name, type, shape and bytes (Triton's has no shapes and types). Equal
requests that come at once are computed once.
"""

import asyncio
import functools
import hashlib
import itertools
import time
import weakref
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from server.engines.strings import held_bytes
from server.errors import CapacityError
from server.images.workers import Workers
from server.repository.ensemble import Served

Outputs = Mapping[str, NDArray[Any]]


# A digest of more takes longer than a millisecond, which is work for another thread than the event loop's.
LARGE_BYTES = 1 << 19
# Of an answer, beside its arrays' bytes.
ENTRY_BYTES = 1 << 10


def _nbytes_of(outputs: Outputs) -> int:
    return ENTRY_BYTES + sum(array.nbytes for array in outputs.values())


@dataclass
class _Flight:
    """A run that equal requests wait for."""

    task: asyncio.Task[Outputs]
    waiting: int = 0


class ResponseCache:
    """The least recently used answers go first. Loop thread only."""

    def __init__(self, limit_bytes: int, workers: Workers) -> None:
        """`limit_bytes`: of all answers; 0: none is kept (response_cache_bytes). `workers`: for long digests."""
        self._limit_bytes = limit_bytes
        self._workers = workers
        self._kept: OrderedDict[bytes, Outputs] = OrderedDict()
        self._nbytes = 0
        self._flights: dict[bytes, _Flight] = {}
        # A model that is loaded again is another model, also if it lies where the old one did.
        self._numbers: weakref.WeakKeyDictionary[object, int] = weakref.WeakKeyDictionary()
        self._next = itertools.count()

    def serves(self, model: Served) -> bool:
        """Whether the model's answers are kept."""
        return bool(model.config.response_cache.enable and self._limit_bytes)

    async def get(
        self, model: Served, arrays: Mapping[str, NDArray[Any]], compute: Callable[[], Awaitable[Outputs]]
    ) -> Outputs:
        """The outputs for these inputs: those that are kept, or else what `compute` gives.

        Raises:
            Exception: what `compute` raises.
        """
        started_at = time.monotonic()
        nbytes = sum(held_bytes(array) for array in arrays.values())
        key = await self._workers.run_if(nbytes > LARGE_BYTES, _digest, self._number(model), arrays)
        while True:
            found = self._kept.get(key)
            if found is not None:
                self._kept.move_to_end(key)
                model.statistics.cache_hit(time.monotonic() - started_at)
                return found
            flight = self._flights.get(key)
            is_mine = flight is None
            if flight is None:
                model.statistics.cache_miss(time.monotonic() - started_at)
                flight = self._flights[key] = _Flight(asyncio.create_task(self._run(key, compute)))
                flight.task.add_done_callback(functools.partial(self._forget, key))
            flight.waiting += 1
            try:
                outputs = await asyncio.shield(flight.task)
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
                model.statistics.cache_hit(time.monotonic() - started_at)
            return outputs

    async def _run(self, key: bytes, compute: Callable[[], Awaitable[Outputs]]) -> Outputs:
        outputs = await compute()
        nbytes = _nbytes_of(outputs)
        if nbytes <= self._limit_bytes and all(array.dtype != np.object_ for array in outputs.values()):
            # A view would keep the whole batch.
            outputs = {name: array if array.base is None else array.copy() for name, array in outputs.items()}
            self._keep(key, outputs, nbytes)
        return outputs

    def _forget(self, key: bytes, task: asyncio.Task[Outputs]) -> None:
        flight = self._flights.get(key)
        if flight is not None and flight.task is task:
            del self._flights[key]

    def _keep(self, key: bytes, outputs: Outputs, nbytes: int) -> None:
        self._kept[key] = outputs
        self._nbytes += nbytes
        while self._nbytes > self._limit_bytes:
            _, dropped = self._kept.popitem(last=False)
            self._nbytes -= _nbytes_of(dropped)

    def _number(self, model: Served) -> int:
        number = self._numbers.get(model)
        if number is None:
            number = self._numbers[model] = next(self._next)
        return number


def _digest(number: int, arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """The key of a request to the model of that number. Any thread."""
    digest = hashlib.blake2b(f"{number}".encode(), digest_size=32)
    for name, array in arrays.items():
        digest.update(f"\0{name}\0{array.dtype.str}\0{array.shape}\0".encode())
        if array.dtype == np.object_:
            for value in array.flat:
                data = value.encode() if isinstance(value, str) else bytes(value)
                digest.update(len(data).to_bytes(8, "little") + data)
        else:
            digest.update(np.ascontiguousarray(array).data)
    return digest.digest()
