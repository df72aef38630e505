"""Calls like one that was just rejected as overload, rejected before they begin.

A call that is rejected on its usual way (read, given to its model, answered by an error) takes a third of a hundred
microseconds of the event loop. At ten times the capacity that is most of a core. Calls of a client for the same model,
with as many bytes and no more time, get the same answer until something leaves the queue or a batch ends (`TooLate`):
so they are not even read. They are counted as the others are.
"""

import logging
import time
from typing import NamedTuple, Protocol

import grpc

from server.api.calls import Calls, log
from server.batching.standing import TooLate
from server.observability.context import ID_KEY, RequestContext
from server.observability.prometheus_text import Counter
from server.observability.trace import Metadata
from server.settings import Settings

# The RPC whose cost is known by the size of its message.
RPC = "ModelInfer"
# Kinds of calls that are known at once; each ends with the standstill that it was found in.
MOST = 256
# While calls are rejected they are taken and answered together, so often: at the highest rates that saves half of what
# the front end does for each.
TOGETHER_S = 0.002
# The first bytes of a message's first two fields, which are texts.
_MODEL, _VERSION = 0x0A, 0x12

Trailers = tuple[tuple[str, str], ...]


class Front(Protocol):
    """What calls come from."""

    def fail(self, call_id: int, code: int, message: str, trailing_metadata: Trailers) -> bool:
        """Ends a call with a status."""


class Kind(NamedTuple):
    """What calls have in common that are rejected alike. `head`: the model and its version."""

    peer: str
    head: bytes
    nbytes: int
    has_deadline: bool


class _Known(NamedTuple):
    error: TooLate
    model: str


class Alike:
    """The kinds of calls that are rejected now. Loop thread only."""

    def __init__(self, calls: Calls, received: Counter, settings: Settings) -> None:
        """`received`: of messages' bytes."""
        self._calls = calls
        self._received = received
        # With keys and restrictions every caller is looked at first.
        self._is_open = settings.api_keys is None and not settings.grpc_restricted_protocol
        self.known: dict[Kind, _Known] = {}
        self._unsent: list[tuple[Front, int, str, Trailers]] = []
        self.sent_at = 0.0  # when calls were rejected here last

    def note(self, message: bytes, peer: str, has_deadline: bool, error: TooLate, rpc: str, model: str) -> None:
        """A call with that message was rejected."""
        if rpc != RPC or error.standstill is None or not self._is_open or len(self.known) >= MOST:
            return
        if self._calls.tracer is not None or log.isEnabledFor(logging.DEBUG):  # each call is shown
            return
        head = _head(message)
        if head:
            kind = Kind(peer, head, len(message), has_deadline)
            self.known[kind] = _Known(error, model)
            error.standstill.then(lambda: self.known.pop(kind, None))

    def rejects(
        self, front: Front, number: int, message: bytes, metadata: Metadata, peer: str, left_s: float | None
    ) -> bool:
        """Whether a call need not begin. Then it is counted, and `send` tells its caller."""
        if not self.known:
            return False
        text = self._rejection(message, peer, left_s)
        if text is None:
            return False
        self._unsent.append((front, number, text, ((ID_KEY, RequestContext("", RPC, None, metadata).id),)))
        return True

    def send(self) -> None:
        """Tells the callers."""
        if not self._unsent:
            return
        self.sent_at = time.monotonic()
        unsent, self._unsent = self._unsent, []
        for front, number, text, trailers in unsent:
            front.fail(number, grpc.StatusCode.RESOURCE_EXHAUSTED.value[0], text, trailers)

    def _rejection(self, message: bytes, peer: str, left_s: float | None) -> str | None:
        """The text with which a call is rejected; None: it is to go its way."""
        known = self.known.get(Kind(peer, _head(message), len(message), left_s is not None))
        if known is None or self._calls.is_closed:
            return None
        error = known.error
        if left_s is not None and not 0.0 < left_s < error.least_s:
            return None
        self._received.value += len(message)
        self._calls.rejected(RPC, known.model)
        error.statistics.failed("REJECTED", 0.0)
        error.statistics.dropped("overloaded")
        return str(error) if left_s is None else error.with_deadline(left_s)


def _head(message: bytes) -> bytes:
    """The fields that name a model and its version; empty if they are written in another way than libraries do."""
    if len(message) < 2 or message[0] != _MODEL or message[1] > 0x7F:
        return b""
    end = 2 + message[1]
    if message[end : end + 1] == bytes((_VERSION,)):
        if end + 1 >= len(message) or message[end + 1] > 0x7F:
            return b""
        end += 2 + message[end + 1]
    return message[:end]
