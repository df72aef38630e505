"""What the server tells of a sampled request's phases. `otlp` implements it, if a collector is configured.

All moments are on the monotonic clock.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

# What a caller sends with an RPC, keys in lower case.
Metadata = Iterable[tuple[str, str | bytes]]


class Trace(Protocol):
    """The spans of one request that is sampled."""

    trace_id: str
    span_id: str

    @property
    def tracer(self) -> "Tracer":
        """Where the trace began."""

    def admitted(self, items: int) -> None:
        """Adds the items that the request was admitted with."""

    def phase(self, name: str, started_at: float, ended_at: float) -> None:
        """Shows something that was done for this request alone."""

    def end(self, code: str, number: int, text: str, request_id: str, message_id: str) -> None:
        """Ends the request with its gRPC status, as word and number, the text of its error, and the ids that the log
        has of it."""


@dataclass(frozen=True)
class Share:
    """A sampled request's part in a run of an engine. `queued_at`: None if its wait was shown already."""

    trace: Trace
    queued_at: float | None
    items: int


@dataclass(frozen=True)
class Run:
    """One run of an engine; `input_at` to `output_at` is the engine's own time. `error`: why it failed, else empty."""

    device: str
    items: int
    requests: int
    started_at: float
    input_at: float
    output_at: float
    ended_at: float
    error: str = ""


class Tracer(Protocol):
    """Where traces begin, and what is shown of the work that several requests share."""

    def request(self, service: str, rpc: str, model: str, metadata: Metadata, started_at: float) -> Trace | None:
        """The trace of a request that begins; None if it is not sampled."""

    def sample(self, ratio: float) -> None:
        """Changes the share to sample of those requests whose caller did not decide."""

    def batch(self, run: Run, shares: Sequence[Share]) -> None:
        """Shows a run that sampled requests took part in."""

    async def close(self) -> None:
        """Sends what is left, within seconds."""
