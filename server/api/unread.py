"""Replies of grpc.aio that their clients do not read: what they hold is taken back when another call needs it.

grpc.aio has no limit of time for the reply to a call that is no stream, and ends a stream only once its client reads
on. A few such replies could keep all of `max_held_bytes`. No call of grpc.aio can be reset, so its connection is ended,
which takes the other calls on it along: therefore not before memory is short.
"""

import logging
import time
from urllib.parse import unquote

from server.api.calls import Context, at_end
from server.api.connections import end_connections

# A client that reads is at least so fast.
BYTES_PER_S = 1 << 20

log = logging.getLogger(__name__)


class Unread:
    """The replies that hold memory and are on their way to their clients. Loop thread only."""

    def __init__(self, port: int, idle_s: float) -> None:
        """`port`: that the connections come to. `idle_s`: a client may read nothing for so long (stream_idle_s)."""
        self._port = port
        self._idle_s = idle_s
        self._replies: dict[Context, tuple[float, str]] = {}  # until when they may take, and to whom they go

    def add(self, context: Context, nbytes: int) -> None:
        """The call's reply, of so many bytes, is in grpc.aio's hands, which do not tell how much of it was read."""
        self._replies[context] = time.monotonic() + self._idle_s + nbytes / BYTES_PER_S, context.peer()
        at_end(context, lambda: self._forget(context))

    def end_oldest(self) -> None:
        """Memory is short: ends the connections of replies that have not been read for too long."""
        now = time.monotonic()
        peers = {address_of(peer) for until, peer in self._replies.values() if until < now}
        if peers and (ended := end_connections(self._port, peers)):
            fields = {"closed": ended, "limit_s": self._idle_s}
            log.warning("connections whose replies were not read (stream_idle_s)", extra={"fields": fields})

    def _forget(self, context: Context) -> None:
        self._replies.pop(context, None)


def address_of(peer: str) -> tuple[str, int]:
    """Host and port of `ipv4:127.0.0.1:1234` or `ipv6:%5B::1%5D:1234`; see `connections.Address`."""
    host, _, port = unquote(peer.partition(":")[2]).rpartition(":")
    return host.strip("[]").removeprefix("::ffff:"), int(port) if port.isdecimal() else 0
