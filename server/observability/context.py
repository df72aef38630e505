"""Per-request context: the ids that a request's log lines, its answer and its spans share.

The request's own task, and the tasks that it starts, find it in `current`; it is not passed on as an argument. Ids are
made when they are first needed: most requests leave no line in the log.
"""

import itertools
import re
import secrets
from collections.abc import Iterator
from contextvars import ContextVar

from server.observability.trace import Metadata, Trace

ID_KEY = "x-request-id"
MAX_ID_CHARS = 128
# W3C Trace Context, version 00; later versions may go on after another dash.
_TRACEPARENT = re.compile(r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")

_process = secrets.token_hex(6)
_numbers = itertools.count(1)


class RequestContext:
    """One RPC as its caller named it."""

    __slots__ = (
        "_id", "_message", "came_alone", "client", "has_caller_id", "holds", "metadata", "model", "rpc", "service",
        "trace",
    )  # fmt: skip

    def __init__(self, service: str, rpc: str, message: object, metadata: Metadata, client: str = "") -> None:
        """`client`: the connection that it came on, for fairness between clients."""
        self.client = client
        self.service = service
        self.rpc = rpc
        self.model: str = getattr(message, "model_name", "") or getattr(message, "model", "")
        self.metadata = metadata
        self.trace: Trace | None = None
        self.came_alone = False  # whether it is known that no other came at the same moment
        self.holds = False  # whether its reply is counted until it has been read
        self.has_caller_id = False  # whether the caller sent an id, and so is told which id is used
        self._message: object = message
        self._id = ""
        for key, value in metadata:
            if key == ID_KEY and value:
                self.has_caller_id = True
                self._id = _printable(value)
                break

    @property
    def id(self) -> str:
        """The caller's x-request-id if it can be logged as it is, else its trace id, else one of our own."""
        if not self._id:
            self._id = self.trace_id or f"{_process}-{next(_numbers):x}"
        return self._id

    @property
    def trace_id(self) -> str:
        """The id of the caller's trace, or of the one that began here; empty if there is none."""
        return self.trace.trace_id if self.trace is not None else _caller_trace_id(self.metadata)

    @property
    def message_id(self) -> str:
        """The `id` in a KServe request, cut to MAX_ID_CHARS; empty if there is none."""
        return str(getattr(self._message, "id", ""))[:MAX_ID_CHARS]

    def end(self) -> None:
        """The call is over; its context may go on in timers and tasks, its message does not."""
        self._message = None

    def log_fields(self) -> Iterator[tuple[str, str]]:
        """The fields of every log line that is written for this request."""
        yield "request_id", self.id
        if trace_id := self.trace_id:
            yield "trace_id", trace_id
        if self.trace is not None:
            yield "span_id", self.trace.span_id


current: ContextVar[RequestContext | None] = ContextVar("current", default=None)


def show_phase(name: str, started_at: float, seconds: float) -> None:
    """Shows a phase in the trace of the current request, if it has one."""
    request = current.get()
    if request is not None and request.trace is not None:
        request.trace.phase(name, started_at, started_at + seconds)


def valid_traceparent(metadata: Metadata) -> re.Match[str] | None:
    """The caller's traceparent; None if it has none that is valid by W3C Trace Context."""
    for key, value in metadata:
        if key == "traceparent" and isinstance(value, str):
            found = _TRACEPARENT.fullmatch(value)
            return found if found and (found[1] != "00" or found[3] is None) else None
    return None


def _caller_trace_id(metadata: Metadata) -> str:
    found = valid_traceparent(metadata)
    return found[2] if found else ""


def _printable(value: str | bytes) -> str:
    """An id that can be logged as it is; empty for any other."""
    fits = isinstance(value, str) and len(value) <= MAX_ID_CHARS and value.isascii() and value.isprintable()
    return str(value) if fits else ""
