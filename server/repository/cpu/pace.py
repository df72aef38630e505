"""How fast engines are measured while models serve: a short piece, then a rest."""

import threading
import time
from collections.abc import Callable

# While requests are computed, a piece of measuring is followed by a rest of so many times its length.
REST_TIMES = 3.0
MAX_REST_S = 1.0


class Pace:
    """When the next piece of measuring may begin. One measurement at a time, on its thread; `stop` on any."""

    def __init__(self, busy_s: Callable[[], float]) -> None:
        """`busy_s`: seconds that the CPU's worker threads have computed requests until now."""
        self._busy_s = busy_s
        self._stopping = threading.Event()
        self._begun_at = self._busy_before_s = 0.0  # of the piece; see `begin`

    @property
    def is_stopping(self) -> bool:
        """Whether the server stops."""
        return self._stopping.is_set()

    def stop(self) -> None:
        """Ends the rest, and what asks `is_stopping`."""
        self._stopping.set()

    def begin(self) -> None:
        """Begins a piece."""
        self._begun_at = time.monotonic()
        self._busy_before_s = self._busy_s()

    def rest(self) -> float:
        """Ends a piece: rests if requests were computed during it, and begins another one.

        Returns:
            How long it rested.
        """
        rest_s = 0.0
        if self._busy_s() > self._busy_before_s:
            rest_s = min(MAX_REST_S, REST_TIMES * (time.monotonic() - self._begun_at))
            self._stopping.wait(rest_s)
        self.begin()
        return rest_s
