"""Answers kept for requests that come again: `response_cache { enable: true }` in config.pbtxt, as in Triton.

Equal inputs give equal bytes here, so an answer is as good as a run. The key is a digest of everything that an answer
depends on: the loaded model and each input's name, type, shape and bytes (Triton's has no shapes and types).
"""

import hashlib
import itertools
import time
import weakref
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from server.api.kept_answers import KeptAnswers
from server.engines.strings import held_bytes
from server.images.workers import Workers
from server.repository.ensemble import Served

Outputs = Mapping[str, NDArray[Any]]


# A digest of more takes longer than a millisecond, which is work for another thread than the event loop's.
LARGE_BYTES = 1 << 19
# Of an answer, beside its arrays' bytes.
ENTRY_BYTES = 1 << 10


class ResponseCache:
    """The answers of models. Loop thread only."""

    def __init__(self, answers: KeptAnswers, workers: Workers) -> None:
        """`answers`: where they are kept. `workers`: for long digests."""
        self._answers = answers
        self._workers = workers
        # A model that is loaded again is another model, also if it lies where the old one did.
        self._numbers: weakref.WeakKeyDictionary[object, int] = weakref.WeakKeyDictionary()
        self._next = itertools.count()

    def serves(self, model: Served) -> bool:
        """Whether the model's answers are kept."""
        return bool(model.config.response_cache.enable and self._answers.limit_bytes)

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

        async def run() -> Outputs:
            outputs = await compute()
            if not 0 < _size_of(outputs) <= self._answers.limit_bytes:
                return outputs
            # A view would keep the whole batch.
            return {name: array if array.base is None else array.copy() for name, array in outputs.items()}

        def told(is_hit: bool) -> None:
            count = model.statistics.cache_hit if is_hit else model.statistics.cache_miss
            count(time.monotonic() - started_at)

        outputs: Outputs = await self._answers.get(key, run, _size_of, told)
        return outputs

    def _number(self, model: Served) -> int:
        number = self._numbers.get(model)
        if number is None:
            number = self._numbers[model] = next(self._next)
        return number


def _size_of(outputs: Outputs) -> int:
    """0 for strings, which are not kept."""
    if any(array.dtype == np.object_ for array in outputs.values()):
        return 0
    return ENTRY_BYTES + sum(array.nbytes for array in outputs.values())


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
