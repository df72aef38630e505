"""Replies on the native front end that their clients do not read: counted, and their connections ended.

Its library keeps a reply until its client has read it, sets no limit to that, and tells only how much of all replies it
has sent. So what is left is taken from `max_held_bytes` as a whole. Who leaves it follows from what each connection was
given, less what its client's system says that has come.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

from server.api.connections import Address, acknowledged, end_connections
from server.api.unread import BYTES_PER_S, address_of
from server.images.memory import COUNTED_BYTES, Hold, MemoryBudget

# How often it is looked how much is left, and who leaves it: while it is more than this share of `max_held_bytes`.
LOOK_EVERY_S, SHARE = 0.25, 1 / 8
# And otherwise, so that what has been read is forgotten, and with it what HTTP/2 adds to replies.
SETTLE_EVERY_S = 10.0
# Beyond this multiple those who leave the most are ended at once: calls of less than 1 MiB are not counted beforehand.
MOST = 5 / 4

log = logging.getLogger(__name__)


@dataclass
class _Reader:
    """A connection. `acked`: bytes that have come there. `due`: how many must have `until` then."""

    inode: int
    acked: int = 0
    unread: int = 0
    due: int = 0
    until: float = 0.0


class NativeUnread:
    """What has been given to the front end and is not sent. Loop thread only."""

    def __init__(self, port: int, idle_s: float, budget: MemoryBudget, sent: Callable[[], tuple[int, int]]) -> None:
        """
        Args:
            port: that the connections come to.
            idle_s: a client may read nothing for so long (stream_idle_s).
            sent: bytes of replies that the front end has sent so far, or dropped since their clients left, and how many
                it has at most that are neither.
        """
        self._port, self._idle_s, self._sent = port, idle_s, sent
        self._hold, self._limit = Hold(budget), budget.limit_bytes
        self._given = self._largest = 0  # since there was none left
        self._given_to: dict[str, int] = {}  # since the readers were brought up to date
        self._readers: dict[Address, _Reader] = {}
        self._settled_at = time.monotonic()
        budget.when_short = self.end_late
        self._timer = asyncio.get_running_loop().call_later(LOOK_EVERY_S, self._look)

    def gave(self, peer: str, nbytes: int, is_reply: bool = True) -> None:
        """A connection was given so much to send. What is no reply, but a stream's message, has a limit of its own."""
        if is_reply:
            self._given += nbytes
            if nbytes > self._largest:
                self._largest = nbytes
        self._given_to[peer] = self._given_to.get(peer, 0) + nbytes

    def end_late(self) -> None:
        """Memory is short: ends the connections of replies that have not been read for too long."""
        if self._settled_at + LOOK_EVERY_S < (now := time.monotonic()):
            self._settle(now)
        self._end(
            [peer for peer, each in self._readers.items() if each.acked < each.due and each.until < self._settled_at]
        )

    def close(self) -> None:
        """Looks no more."""
        self._timer.cancel()

    def _look(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(LOOK_EVERY_S, self._look)
        sent, left = self._sent()
        if not left:  # what was dropped in the moment that it was given is not among what was sent
            self._given, self._largest = sent, 0
        unread = min(self._given - sent, left * self._largest)
        self._hold.settle(unread if unread > COUNTED_BYTES else 0)
        now = time.monotonic()
        if unread > SHARE * self._limit or self._settled_at + SETTLE_EVERY_S < now:
            self._settle(now)
        if unread > MOST * self._limit:
            self._end_largest(unread - self._limit)

    def _settle(self, now: float) -> None:
        """Brings the readers up to date."""
        given = {address_of(peer): nbytes for peer, nbytes in self._given_to.items()}
        readers = {}
        for peer, (inode, acked) in acknowledged(self._port).items():
            reader = self._readers.get(peer)
            if reader is None or reader.inode != inode:
                reader = _Reader(inode)
            reader.unread = max(0, reader.unread + given.get(peer, 0) - (acked - reader.acked))
            reader.acked = acked
            if acked >= reader.due or not reader.unread:
                expected = min(reader.unread, int(self._idle_s * BYTES_PER_S))
                reader.due = acked + expected
                reader.until = now + self._idle_s + expected / BYTES_PER_S
            readers[peer] = reader
        self._readers, self._given_to, self._settled_at = readers, {}, now

    def _end_largest(self, excess: int) -> None:
        """Ends the connections that leave the most, until so many bytes are free."""
        ended = []
        for peer, reader in sorted(self._readers.items(), key=lambda item: -item[1].unread):
            if excess <= 0 or reader.unread < COUNTED_BYTES:
                break
            ended.append(peer)
            excess -= reader.unread
        self._end(ended)

    def _end(self, peers: Collection[Address]) -> None:
        if peers and (ended := end_connections(self._port, peers)):
            fields = {"closed": ended, "limit_s": self._idle_s}
            log.warning("connections whose replies were not read (stream_idle_s)", extra={"fields": fields})
