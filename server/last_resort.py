"""The last resort: a thread that ends the process if its event loop does not answer, or if its end takes too long.

Whatever hangs (an engine on the loop's thread, a decoder, a driver), the process must not look alive for ever, and a
SIGTERM must end it in bounded time.
"""

import asyncio
import contextlib
import os
import sys
import threading
import time
from typing import NoReturn

# How often the loop is asked, as a share of what it may take.
ASKED_PER_LIMIT = 4
# A process that was stopped (SIGSTOP) finds the time over before its loop could answer: it gets so long.
GRACE_S = 5.0
EXIT_CODE = 70  # EX_SOFTWARE


class LastResort:
    """Watches the running loop from a daemon thread. `hang_s`: how long the loop may take to answer; 0: for ever."""

    def __init__(self, hang_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._hang_s = hang_s
        self._ends_at = float("inf")
        self._code = EXIT_CODE
        self._changed = threading.Event()
        threading.Thread(target=self._watch, name="last-resort", daemon=True).start()

    def end_within(self, seconds: float, code: int = EXIT_CODE) -> None:
        """From now on the process has so long to end, less if it was told so before; else it ends with `code`."""
        self._ends_at = min(self._ends_at, time.monotonic() + seconds)
        self._code = code
        self._changed.set()

    def _watch(self) -> None:
        asks_every_s = self._hang_s / ASKED_PER_LIMIT or None
        while True:
            left_s = self._ends_at - time.monotonic()
            if left_s <= 0:
                _exit("the server did not end in time", self._code)
            waits_s = min(left_s, asks_every_s or left_s)
            self._changed.wait(None if waits_s == float("inf") else waits_s)
            self._changed.clear()
            if self._hang_s and not self._answers():
                _exit(f"the event loop did not answer for {self._hang_s:g} s (hang_timeout_s)")

    def _answers(self) -> bool:
        answered = threading.Event()
        try:
            self._loop.call_soon_threadsafe(answered.set)
        except RuntimeError:  # the loop is closed: the interpreter ends
            return True
        limit_s = max(0.0, min(self._hang_s, self._ends_at - time.monotonic()))
        return answered.wait(limit_s) or answered.wait(GRACE_S)


def _exit(reason: str, code: int = EXIT_CODE) -> NoReturn:
    """Ends the process now: no handler, no flush, no thread is waited for."""
    os.set_blocking(sys.stderr.fileno(), False)  # a reader that does not read must not keep it either
    with contextlib.suppress(OSError):
        os.write(sys.stderr.fileno(), f"ganserve: {reason}; exiting with {code}\n".encode())
    os._exit(code)
