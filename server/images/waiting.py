"""Calls that wait for a codec thread. Clients take turns: one with a thousand large images is nobody's queue."""

import threading
import time
from collections import deque
from typing import Generic, Protocol, TypeVar


class Call(Protocol):
    """What `Waiting` asks of a call. `started_at`: on the monotonic clock; None while it waits. `crowding`: how many
    calls ran for each thread that the pool should have, at the worst moment; at least 1."""

    client: str
    started_at: float | None
    crowding: float


C = TypeVar("C", bound=Call)


class Waiting(Generic[C]):
    """The calls that wait, and those that threads have begun. Any thread."""

    def __init__(self, threads: int) -> None:
        """`threads`: that the pool should have."""
        self._threads = threads
        self._lock = threading.Lock()
        self._lines: dict[str, deque[C]] = {}  # by client, in turn
        self._running: list[C] = []

    def put(self, call: C) -> None:
        """It waits behind others of its client."""
        with self._lock:
            self._lines.setdefault(call.client, deque()).append(call)

    def drop(self, call: C) -> bool:
        """It waits no longer; whether it did."""
        with self._lock:
            line = self._lines.get(call.client)
            if line is None or call not in line:
                return False
            line.remove(call)
            if not line:
                del self._lines[call.client]
            return True

    def take(self) -> C | None:
        """The next one, which begins; None if there is none."""
        with self._lock:
            return self._begin(next(iter(self._lines), None))

    def take_held_up(self, after_s: float) -> C | None:
        """The next one of those that are held up (see `is_held_up`), which begins; None if there is none."""
        with self._lock:
            return self._begin(self._held_up(after_s))

    def is_held_up(self, after_s: float) -> bool:
        """Whether a client waits that has none running, while all that run have done so for `after_s`."""
        with self._lock:
            return self._held_up(after_s) is not None

    def end(self, call: C) -> None:
        """It has run."""
        with self._lock:
            self._running.remove(call)

    def __bool__(self) -> bool:
        """Whether any waits."""
        return bool(self._lines)

    def _held_up(self, after_s: float) -> str | None:
        begun = time.monotonic() - after_s
        if not self._running or any(call.started_at is None or call.started_at >= begun for call in self._running):
            return None
        busy = {call.client for call in self._running}
        return next((client for client in self._lines if client not in busy), None)

    def _begin(self, client: str | None) -> C | None:
        if client is None:
            return None
        line = self._lines.pop(client)
        call = line.popleft()
        if line:
            self._lines[client] = line
        call.started_at = time.monotonic()
        self._running.append(call)
        if (crowding := len(self._running) / self._threads) > 1:
            for each in self._running:
                each.crowding = max(each.crowding, crowding)
        return call
