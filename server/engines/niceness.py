"""The niceness of threads that compute: those that answer callers go before them."""

import contextlib
import os
import sys
import threading

LANE_NICENESS = 10


def yield_to_loop() -> None:
    """Lets the threads that answer callers go before the one that calls this, if they share its core.

    Linux alone knows the niceness of a thread. Without it, a reply waits for the end of a lane's time slice.
    """
    if sys.platform == "linux":
        with contextlib.suppress(PermissionError):  # the whole process is nicer already
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LANE_NICENESS)
