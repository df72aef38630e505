"""Loads and unloads of models, in turn for each model, run to their end whoever asked for them."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Collection
from contextvars import Context
from typing import NamedTuple, TypeAlias

from server.errors import NotServing, Overloaded

# Of one model, that wait for each other.
MAX_WAITING = 16
STOPPING = "the server is stopping; try another one"

Action: TypeAlias = Callable[[str], Awaitable[None]]


class _Operation(NamedTuple):
    run: Action
    done: asyncio.Future[None]


class Operations:
    """What is done with models, by name. Loop thread only.

    One operation of a model runs at a time. A caller that leaves does not stop what it asked for, and callers that ask
    for the same share what still waits for its turn.
    """

    def __init__(self) -> None:
        self._waiting: dict[str, deque[_Operation]] = {}
        self._workers: dict[str, asyncio.Task[None]] = {}  # one for each model with an operation
        self._running: dict[str, Action] = {}
        self._closed = False

    async def run(self, name: str, action: Action) -> None:
        """Runs `action(name)` after what else waits for this model; returns or raises as it does.

        Raises:
            NotServing: the server is stopping.
            Overloaded: MAX_WAITING operations of the model wait already.
        """
        await asyncio.shield(self.begin(name, action))

    def begin(self, name: str, action: Action) -> asyncio.Future[None]:
        """Likewise, without waiting: done when it has ended, or will never run.

        Raises:
            NotServing, Overloaded: as `run`, at once.
        """
        if self._closed:
            raise NotServing(STOPPING)
        waiting = self._waiting.setdefault(name, deque())
        if not waiting or waiting[-1].run != action:
            if len(waiting) >= MAX_WAITING:
                raise Overloaded(f"{len(waiting)} loads and unloads of model {name!r} wait already; try again later")
            waiting.append(_Operation(action, asyncio.get_running_loop().create_future()))
        done = waiting[-1].done
        if name not in self._workers:
            # In an empty context: it works for every caller that comes, not only for this one.
            self._workers[name] = asyncio.create_task(self._work(name, waiting), context=Context())
        return done

    async def settled(self, name: str) -> None:
        """Returns when nothing is done with the model any more."""
        if (worker := self._workers.get(name)) is not None:
            await asyncio.wait({worker})

    async def close(self, wait_for: Collection[Action]) -> None:
        """Ends what runs and drops what waits; `wait_for`: the actions that run to their end, others are cancelled."""
        self._closed = True
        for waiting in self._waiting.values():
            for operation in waiting:
                _refuse(operation.done)
            waiting.clear()
        for name, action in self._running.items():
            if action not in wait_for:
                self._workers[name].cancel()
        await asyncio.gather(*self._workers.values(), return_exceptions=True)

    async def _work(self, name: str, waiting: deque[_Operation]) -> None:
        try:
            while waiting:
                self._running[name], done = waiting.popleft()
                try:
                    await self._running[name](name)
                except Exception as error:  # the callers' to handle
                    done.set_exception(error)
                    done.exception()  # nobody may be left to see it
                else:
                    done.set_result(None)
                finally:
                    if not done.done():  # this task was cancelled
                        _refuse(done)
        finally:
            self._running.pop(name, None)
            del self._workers[name], self._waiting[name]


def _refuse(done: asyncio.Future[None]) -> None:
    done.set_exception(NotServing(STOPPING))
    done.exception()  # nobody may be left to see it
