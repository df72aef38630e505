"""Replies on the native front end that their clients do not read: counted, and their connections ended.

Its library keeps a reply until its client has read it, sets no limit to that, and tells only how much of all replies it
has sent. So what is left is taken from `max_held_bytes` as a whole. Who leaves it follows from what each connection was
given, less what its client's system says that has come. What calls were given that their clients have cancelled never
comes; so that is forgotten once as much has come after it, or once nothing is left of all replies.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from server.api.connections import Address, acknowledged, end_connections
from server.api.unread import BYTES_PER_S, address_of
from server.images.memory import COUNTED_BYTES, Hold, MemoryBudget

LOOK_EVERY_S = 0.25
# Asking the system takes 10 us for each connection: this share of the loop's time at most.
SETTLE_SHARE = 1 / 20
# So often there is nothing left before that is believed: a call that has just ended may be counted as none.
QUIET_LOOKS = 2
# Beyond this multiple those who leave the most are ended at once: calls of less than 1 MiB are not counted beforehand.
MOST = 5 / 4

log = logging.getLogger(__name__)


@dataclass
class _Reader:
    """A connection.

    `acked`: bytes that have come there. `unread`: that it was given beyond. `due`: how many are to come `until` then.
    `turn`: how many have come once all has that was given before, and `later` what was given since. `kept`: the size of
    the replies of which something may be left.
    """

    inode: int
    acked: int = 0
    unread: int = 0
    due: int = 0
    until: float = 0.0
    turn: int = 0
    later: int = 0
    kept: int = 0

    def update(self, acked: int, given: int, most: int) -> None:
        """It was given so much more; no more than `most` can be unread."""
        self.unread = min(most, max(0, self.unread + given - (acked - self.acked)))
        self.acked = acked
        self.later += given
        self.kept += given
        if acked >= self.turn or not self.unread:
            self.unread = min(self.unread, self.later)
            self.kept = self.later if self.unread else 0
            self.turn, self.later = acked + self.unread, 0


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
        self._is_new = True  # nothing is known of the readers but what they were given since
        self._nameless = 0  # bytes that were unread when the readers were forgotten
        self._quiet = 0  # times in a row that nothing was left
        self._settled_at = self._settle_at = time.monotonic()
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
        if not self._hold.nbytes:
            return
        if self._settle_at <= time.monotonic():
            self._count()
        late = {peer: each for peer, each in self._readers.items() if each.acked < each.due}
        self._end({peer: each for peer, each in late.items() if each.until < self._settled_at}, self._hold.nbytes)

    def close(self) -> None:
        """Looks no more."""
        self._timer.cancel()

    def _look(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(LOOK_EVERY_S, self._look)
        self._count()
        if (excess := self._hold.nbytes - self._limit) > (MOST - 1) * self._limit:
            self._end({peer: each for peer, each in self._readers.items() if each.unread >= COUNTED_BYTES}, excess)

    def _count(self) -> None:
        sent, left = self._sent()
        unread = min(self._given - sent, left * self._largest)
        if unread > COUNTED_BYTES and self._settle_at <= time.monotonic():
            self._settle(unread)
        kept = self._nameless + sum(self._given_to.values()) + sum(each.kept for each in self._readers.values())
        unread = max(0, min(unread, kept))
        self._hold.settle(unread if unread > COUNTED_BYTES else 0)
        self._quiet = 0 if self._hold.nbytes else self._quiet + 1
        if self._quiet >= QUIET_LOOKS:
            self._given_to, self._readers, self._is_new, self._nameless = {}, {}, True, unread
            if left <= 0:  # what was dropped in the moment that it was given is not among what was sent
                self._given, self._largest = sent, 0

    def _settle(self, most: int) -> None:
        """Brings the readers up to date; so many bytes are unread at most."""
        began = time.monotonic()
        given = {address_of(peer): nbytes for peer, nbytes in self._given_to.items()}
        readers = {}
        for peer, (inode, acked) in acknowledged(self._port).items():
            reader = self._readers.get(peer)
            if reader is None or reader.inode != inode:
                reader = _Reader(inode, acked if self._is_new else 0)
            reader.update(acked, given.get(peer, 0), most)
            if acked >= reader.due or not reader.unread:
                expected = min(reader.unread, int(self._idle_s * BYTES_PER_S))
                reader.due = acked + expected
                reader.until = began + self._idle_s + expected / BYTES_PER_S
            readers[peer] = reader
        self._readers, self._given_to, self._is_new, self._settled_at = readers, {}, False, began
        took = time.monotonic() - began
        self._settle_at = began + max(LOOK_EVERY_S, took / SETTLE_SHARE)

    def _end(self, readers: Mapping[Address, _Reader], excess: int) -> None:
        """Ends connections, those that leave the most first, until so many bytes are free, or few more could be."""
        ended, left = [], sum(each.unread for each in readers.values())
        for peer, reader in sorted(readers.items(), key=lambda item: -item[1].unread):
            if min(excess, left) < COUNTED_BYTES:
                break
            ended.append(peer)
            excess, left = excess - reader.unread, left - reader.unread
        if ended and (number := end_connections(self._port, ended)):
            fields = {"closed": number, "limit_s": self._idle_s}
            log.warning("connections whose replies were not read (stream_idle_s)", extra={"fields": fields})
