"""Who asks: the identity that a request's log lines, its answer and its spans share, and what is told of its phases.

A request's own task and those that it starts find it in `current`; nobody hands it on. Ids are made when they are first
needed: most requests leave no line.
"""

import itertools
import re
import secrets
from collections.abc import Iterable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol

ID_KEY = "x-request-id"
LONGEST_ID = 128
# W3C Trace Context, version 00; later versions may go on after another dash.
_TRACEPARENT = re.compile(r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")

Metadata = Iterable[tuple[str, str | bytes]]

_process = secrets.token_hex(6)
_numbers = itertools.count(1)


class Trace(Protocol):
    """The spans of one request that is sampled. Moments are on the monotonic clock, here and below."""

    trace_id: str
    span_id: str

    @property
    def tracer(self) -> "Tracer":
        """Where the trace began."""

    def admitted(self, rows: int) -> None:
        """Says how many rows the request asks of the model."""

    def phase(self, name: str, started_at: float, ended_at: float) -> None:
        """Shows something that was done for this request alone."""

    def end(self, code: str, number: int, text: str) -> None:
        """Ends the request with its gRPC status, as word and number, and the text of its error."""


@dataclass(frozen=True)
class Share:
    """A sampled request's part in a run of an engine. `queued_at`: None where its wait was shown already."""

    trace: Trace
    queued_at: float | None
    rows: int


@dataclass(frozen=True)
class Run:
    """One run of an engine; `input_at` to `output_at` is the engine's own time. `error`: why it failed, else empty."""

    device: str
    rows: int
    requests: int
    started_at: float
    input_at: float
    output_at: float
    ended_at: float
    error: str = ""


class Tracer(Protocol):
    """Where traces begin, and what is shown of the work that several requests share."""

    def request(self, request: "Request", started_at: float) -> Trace | None:
        """The trace of a request that begins; None where it is not sampled."""

    def batch(self, run: Run, shares: Sequence[Share]) -> None:
        """Shows a run that sampled requests took part in."""

    async def close(self) -> None:
        """Sends what is left, within seconds."""


class Request:
    """One RPC as its caller named it."""

    __slots__ = ("_id", "_message", "metadata", "model", "names_itself", "rpc", "service", "trace")

    def __init__(self, service: str, rpc: str, message: object, metadata: Metadata) -> None:
        self.service = service
        self.rpc = rpc
        self.model: str = getattr(message, "model_name", "") or getattr(message, "model", "")
        self.metadata = metadata
        self.trace: Trace | None = None
        self.names_itself = False  # whether the caller sent an id, and so is told the one that counts
        self._message = message
        self._id = ""
        for key, value in metadata:
            if key == ID_KEY and value:
                self.names_itself = True
                self._id = _printable(value)
                break

    @property
    def id(self) -> str:
        """The caller's x-request-id where it may stand in a log, else its trace id, else one of our own."""
        if not self._id:
            self._id = self.trace_id or f"{_process}-{next(_numbers):x}"
        return self._id

    @property
    def trace_id(self) -> str:
        """The id of the caller's trace, or of the one that began here; empty where there is none."""
        return self.trace.trace_id if self.trace is not None else _caller_trace_id(self.metadata)

    @property
    def message_id(self) -> str:
        """The `id` in a KServe request, cut to what a line may hold; empty where there is none."""
        return str(getattr(self._message, "id", ""))[:LONGEST_ID]

    def log_fields(self) -> Iterator[tuple[str, str]]:
        """What every line that is written for this request says of it."""
        yield "request_id", self.id
        if trace_id := self.trace_id:
            yield "trace_id", trace_id
        if self.trace is not None:
            yield "span_id", self.trace.span_id


current: ContextVar[Request | None] = ContextVar("current", default=None)


def show_phase(name: str, started_at: float, seconds: float) -> None:
    """Shows a phase in the trace of the current request, where it has one."""
    request = current.get()
    if request is not None and request.trace is not None:
        request.trace.phase(name, started_at, started_at + seconds)


def valid_traceparent(metadata: Metadata) -> re.Match[str] | None:
    """The caller's traceparent where W3C Trace Context takes it."""
    for key, value in metadata:
        if key == "traceparent" and isinstance(value, str):
            found = _TRACEPARENT.fullmatch(value)
            return found if found and (found[1] != "00" or found[3] is None) else None
    return None


def _caller_trace_id(metadata: Metadata) -> str:
    found = valid_traceparent(metadata)
    return found[2] if found else ""


def _printable(value: str | bytes) -> str:
    """An id that can stand in a line as it is; empty for any other."""
    fits = isinstance(value, str) and len(value) <= LONGEST_ID and value.isascii() and value.isprintable()
    return str(value) if fits else ""
