"""Saturation: the share of its time that a server's busiest device spent in batches.

Near 1 there is no idle time. Whether callers wait for each other is told by the queue wait, not by this: a request that
is alone gets all lanes of a CPU, so a single caller who never pauses keeps a device busy.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import NamedTuple

WINDOW_S = 10.0


class LaneTime(NamedTuple):
    """What the lanes of one device did since it was made. `busy_s`: all lanes together, so `lanes` of it a second."""

    device: str
    slot: int
    lanes: int
    busy_s: float


class Saturation:
    """The share of lane time that went into batches over the last WINDOW_S, of the device where it is largest.

    The largest, because idle lanes of another device do not help a model that is not there. `read` is called by
    `sample` and by `share`, never when a batch runs.
    """

    def __init__(self, read: Callable[[], Iterable[LaneTime]], clock: Callable[[], float] = time.monotonic) -> None:
        self._read = read
        self._clock = clock
        self._past: deque[tuple[float, dict[tuple[str, int], float]]] = deque()
        self.sample()

    def sample(self) -> None:
        """Stores the current counts; to be called about once a second."""
        now = self._clock()
        self._past.append((now, {(each.device, each.slot): each.busy_s for each in self._read()}))
        while len(self._past) > 1 and now - self._past[1][0] >= WINDOW_S:
            self._past.popleft()

    def share(self) -> float:
        """0 to 1; over less than WINDOW_S for the first so many seconds."""
        then, before = self._past[0]
        elapsed_s = self._clock() - then
        if elapsed_s <= 0:
            return 0.0
        shares = (
            (each.busy_s - before.get((each.device, each.slot), 0.0)) / (each.lanes * elapsed_s)
            for each in self._read()
        )
        return min(1.0, max(shares, default=0.0))
