"""Calls that wait for a codec thread. Clients take turns: one with a thousand large images is nobody's queue."""

import threading
import time
from collections import deque
from typing import Generic, Protocol, TypeVar


class Call(Protocol):
    """What `Waiting` asks of a call. `started_at`: on the monotonic clock; None while it waits."""

    client: str
    started_at: float | None


C = TypeVar("C", bound=Call)


class Waiting(Generic[C]):
    """The calls that wait, and those that threads have begun. Any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lines: dict[str, deque[C]] = {}  # by client, in turn
        self._running: list[C] = []

    def put(self, call: C) -> None:
        """It waits behind others of its client."""
        with self._lock:
            self._lines.setdefault(call.client, deque()).append(call)

    def take(self, is_extra: bool = False) -> C | None:
        """The next one, which begins; None if there is none. `is_extra`: of a client that has none running."""
        with self._lock:
            busy = {call.client for call in self._running} if is_extra else ()
            client = next((each for each in self._lines if each not in busy), None)
            if client is None:
                return None
            line = self._lines.pop(client)
            call = line.popleft()
            if line:
                self._lines[client] = line
            call.started_at = time.monotonic()
            self._running.append(call)
            return call

    def end(self, call: C) -> None:
        """It has run."""
        with self._lock:
            self._running.remove(call)

    def is_held_up(self, after_s: float) -> bool:
        """Whether a client waits that has none running, while all that run have done so for `after_s`."""
        with self._lock:
            begun = time.monotonic() - after_s
            busy = {call.client for call in self._running}
            waits = any(client not in busy for client in self._lines)
            return waits and all(call.started_at is not None and call.started_at < begun for call in self._running)

    def __bool__(self) -> bool:
        """Whether any waits."""
        return bool(self._lines)
