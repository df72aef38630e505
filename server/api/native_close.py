"""The end of the native front end: what it was given to send is sent before it closes."""

import threading
import time

from pygrpc_native import NativeGrpcFront

# The end of any reply takes so long from there to the socket, on a busy machine.
FLUSH_S = 0.05
# How often a server that stops looks whether its replies are sent.
UNSENT_S = 0.005


def close(front: NativeGrpcFront, over_at: float, sent_at: float) -> None:
    """Closes the front end once it has sent what it was given, or `over_at`; not before `sent_at`. Blocks.

    It drops the rest of replies that it only holds yet. A call has a status in its metrics when all of it is on its
    way to the socket, which nothing tells.
    """
    never = threading.Event()
    while (now := time.monotonic()) < over_at:
        counts = front.metrics()["methods"].values()
        if all(each["started"] == sum(status["count"] for status in each["status"].values()) for each in counts):
            break
        never.wait(UNSENT_S)
        sent_at = max(sent_at, now + FLUSH_S)
    never.wait(max(0.0, sent_at - time.monotonic()))
    front.close()
