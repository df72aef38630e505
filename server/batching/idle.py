"""A model without requests: its engines give back the memory that the last ones needed."""

import asyncio
import logging
import time
from collections.abc import Mapping
from functools import partial

from server import allocator
from server.batching.device import Device
from server.engines.base import Engine, Trimmable

# So long after its last request a model gives memory back: the next one, if it comes later, has to take it again, which
# makes a run a few percent slower.
TRIM_AFTER_S = 10.0

log = logging.getLogger(__name__)


class Idle:
    """Whether one model has requests; trims its engines when it has had none for `TRIM_AFTER_S`. Loop thread only."""

    def __init__(self, engines: Mapping[Device, Engine]) -> None:
        self._engines = engines
        self._since: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._trimming: asyncio.Task[None] | None = None

    def ends(self) -> None:
        """A request was admitted."""
        self._since = None

    def begins(self) -> None:
        """The last admitted request was answered."""
        self._since = time.monotonic()
        if self._timer is None:  # one timer, however many requests: when it is over it looks how long is left
            self._timer = asyncio.get_running_loop().call_later(TRIM_AFTER_S, self._look)

    async def close(self) -> None:
        """Trims no more; returns when no engine is being trimmed."""
        if self._timer is not None:
            self._timer.cancel()
        if self._trimming is not None:
            await self._trimming

    def _look(self) -> None:
        self._timer = None
        if self._since is None:
            return
        loop = asyncio.get_running_loop()
        left_s = self._since + TRIM_AFTER_S - time.monotonic()
        if left_s > 0:
            self._timer = loop.call_later(left_s, self._look)
        else:
            self._trimming = loop.create_task(self._trim())

    async def _trim(self) -> None:
        for device, engine in self._engines.items():
            try:
                await device.call(partial(_trim, engine), "trimming a model")
            except Exception as error:  # whatever the engine raises, its next run may succeed
                log.warning("engine not trimmed", exc_info=error)


def _trim(engine: Engine) -> None:
    """On a worker thread."""
    if isinstance(engine, Trimmable):
        engine.trim()
    allocator.trim()
