"""Runs on a device that take so long that they are taken to be hung, and devices that are lost: told, and seen by the
probes."""

import asyncio
import logging
import time
from collections.abc import Callable

# A run is also given so many times its estimate, and loading a model so many times the limit of a run: TensorRT may
# build an engine for minutes.
ESTIMATE_TIMES = 20.0
LOAD_TIMES = 10.0
# A process that was stopped (SIGSTOP, a suspended machine) finds its timers over before its results: they get so long.
RECHECK_S = 1.0

log = logging.getLogger(__name__)


class Hangs:
    """The hung runs of every device. Loop thread only.

    `limit_s`: how long a run may take at least; 0: for ever. `changed` is called when one begins to hang and when it
    ends after all.
    """

    def __init__(self, limit_s: float, changed: Callable[[], None]) -> None:
        self.limit_s = limit_s
        self._changed = changed
        self._hung: dict[Watch, float] = {}  # since when
        self._lost: list[str] = []

    def watch(self, what: Callable[[], str], limit_s: float, interrupt: Callable[[], None] = lambda: None) -> "Watch":
        """A run that begins now; `what` describes it if it hangs, and `interrupt` then tries to end it."""
        return Watch(self, what, limit_s, interrupt)

    @property
    def texts(self) -> list[str]:
        """One line for each run that hangs now, and for each device that is lost."""
        return [*self._lost, *(watch.text for watch in self._hung)]

    @property
    def is_any(self) -> bool:
        """Whether a run hangs now."""
        return bool(self._hung)

    @property
    def is_dead(self) -> bool:
        """Whether only a restart helps: a device is lost, or a run has hung for as long again and will not end."""
        now = time.monotonic()
        return bool(self._lost) or any(now - since > watch.limit_s for watch, since in self._hung.items())

    def lose(self, device: str, reason: str) -> None:
        """Notes that nothing will run on the device any more."""
        text = f"{device} is lost ({reason}): nothing runs there until this process is started again"
        if text not in self._lost:
            self._lost.append(text)
            log.error("a device is lost", extra={"fields": {"what": device, "reason": reason}})
            self._changed()

    def hangs(self, watch: "Watch") -> None:
        """Notes that a run hangs."""
        self._hung[watch] = time.monotonic()
        log.error("a run hangs", extra={"fields": {"what": watch.text}})
        self._changed()

    def ended(self, watch: "Watch") -> None:
        """Notes that a run that hung has ended after all."""
        if self._hung.pop(watch, None) is not None:
            log.warning("a run that hung has ended", extra={"fields": {"what": watch.text}})
            self._changed()


class Watch:
    """One run, from its beginning to `end`."""

    __slots__ = ("_hangs", "_interrupt", "_timer", "_what", "limit_s", "text")

    def __init__(self, hangs: Hangs, what: Callable[[], str], limit_s: float, interrupt: Callable[[], None]) -> None:
        self.limit_s = limit_s
        self.text = ""
        self._hangs = hangs
        self._what = what
        self._interrupt = interrupt
        self._timer = asyncio.get_running_loop().call_later(limit_s, self._over) if hangs.limit_s else None

    def end(self) -> None:
        """The run has ended."""
        if self._timer is not None:
            self._timer.cancel()
            if self.text:
                self._hangs.ended(self)

    def _over(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(RECHECK_S, self._hang)

    def _hang(self) -> None:
        self.text = f"{self._what()} has been running for more than {self.limit_s:g} s (hang_timeout_s)"
        self._hangs.hangs(self)
        self._interrupt()
