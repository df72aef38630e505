"""The niceness of threads that compute: those that answer callers go before them."""

import os
import sys
import threading

LANE_NICENESS = 10


def yield_to_loop() -> None:
    """Lets the threads that answer callers go before the one that calls this, if they share its core.

    Linux alone knows the niceness of a thread. Without it, a reply waits for the end of a lane's time slice.
    """
    if sys.platform == "linux":
        thread = threading.get_native_id()
        # The whole process may be nicer already, and root could take that back.
        nicer = max(LANE_NICENESS, os.getpriority(os.PRIO_PROCESS, thread))
        os.setpriority(os.PRIO_PROCESS, thread, nicer)
