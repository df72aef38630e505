"""Spans over OTLP, through OpenTelemetry's SDK, which is loaded only if a collector is configured.

A sampled request is a server span with the children queue, compute, decode and encode; each run of an engine is a span
`batch` in a trace of its own, with links to the requests in it and from their `compute`. Spans are made after the fact,
from times that the server takes anyway, and in a later turn of the loop than the answer that they describe.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from opentelemetry import trace as api
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased, Sampler, SamplingResult, TraceIdRatioBased
from opentelemetry.trace import Link, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from server.errors import StartError
from server.observability.context import valid_traceparent
from server.observability.trace import Metadata, Run, Share

# Time limit for sending the last spans once the server has stopped.
FLUSH_S = 2.0
# A request for thousands of images shows its first phases; an attribute counts the others.
MAX_CHILDREN = 128
# Called every few seconds by probes and load balancers; never traced.
PROBES = frozenset({"Check", "Watch", "ServerLive", "ServerReady", "ModelReady"})
# The statuses that are the server's fault, as OpenTelemetry's conventions for RPC have them.
FAULTS = frozenset({"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"})

NO_ATTRIBUTES: Mapping[str, str | int] = {}

log = logging.getLogger(__name__)


class _Adjustable(Sampler):
    """A share of requests that can be changed. `now`: the sampler of the share."""

    def __init__(self, ratio: float) -> None:
        self.now = TraceIdRatioBased(ratio)

    def should_sample(self, *args: Any, **options: Any) -> SamplingResult:
        """See the SDK."""
        return self.now.should_sample(*args, **options)

    def get_description(self) -> str:
        """See the SDK."""
        return self.now.get_description()


class OtlpTracer:
    """Samples requests, and sends their spans to a collector from a thread of the SDK's. Loop thread only."""

    def __init__(self, endpoint: str, ratio: float, version: str) -> None:
        """`ratio`: the share to sample of those requests whose caller did not decide.

        Raises:
            StartError: one of the SDK's own settings (OTEL_...) cannot be used.
        """
        self._loop = asyncio.get_running_loop()
        self._propagator = TraceContextTextMapPropagator()
        # It warns of malformed headers, which callers may send as often as they like.
        logging.getLogger("opentelemetry.trace").setLevel(logging.ERROR)
        try:
            self._exporter = _Exporter(endpoint)
            self._processor = BatchSpanProcessor(self._exporter)
            # OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES override our own attributes.
            own = Resource.create({SERVICE_NAME: "ganserve", SERVICE_VERSION: version})
            resource = own.merge(OTELResourceDetector().detect())
            self._sampler = _Adjustable(ratio)
            requests = self._provide(resource, ParentBased(self._sampler))
            # A batch is shown if one of its requests is, whatever the ratio.
            batches = self._provide(resource, ALWAYS_ON)
        except Exception as error:  # the SDK has no common class for errors in its variables
            raise StartError(f"otlp_endpoint: OpenTelemetry's settings (OTEL_...): {error}") from None
        self.requests = requests.get_tracer("ganserve", version)
        self._batches = batches.get_tracer("ganserve", version)

    def request(
        self, service: str, rpc: str, model: str, metadata: Metadata, started_at: float
    ) -> "RequestTrace | None":
        """The trace of a request, within its caller's if it names one; None if it is not sampled."""
        if rpc in PROBES:
            return None
        # Not one offset for good: the wall clock is corrected while a server runs for months.
        offset_ns = time.time_ns() - time.monotonic_ns()
        span = self.requests.start_span(
            f"{service}/{rpc}",
            self._callers_context(metadata),
            SpanKind.SERVER,
            start_time=int(started_at * 1e9) + offset_ns,
        )
        if not span.is_recording():
            return None
        span.set_attributes({"rpc.system": "grpc", "rpc.service": service, "rpc.method": rpc})
        return RequestTrace(self, model, span, offset_ns)

    def sample(self, ratio: float) -> None:
        """See `Tracer`."""
        self._sampler.now = TraceIdRatioBased(ratio)

    def batch(self, run: Run, shares: Sequence[Share]) -> None:
        """Shows a run and, in the trace of each request, its wait for the run and the engine's time."""
        self.later(self._show_batch, run, shares)

    async def close(self) -> None:
        """Sends what is left, within FLUSH_S. Spans that come later are dropped."""
        sent = self._loop.run_in_executor(None, self._processor.shutdown)
        try:
            async with asyncio.timeout(FLUSH_S):
                await asyncio.shield(sent)
        except TimeoutError:
            self._exporter.shutdown()  # aborts what it is sending, and so what the processor waits for
            await sent
        self._exporter.forget()

    def later(self, function: Callable[..., None], *arguments: Any) -> None:
        """Calls it after the callbacks that are ready now, so that no answer waits for its spans."""
        self._loop.call_soon(function, *arguments)

    def _show_batch(self, run: Run, shares: Sequence[Share]) -> None:
        parts: dict[RequestTrace, tuple[float | None, int]] = {}
        for share in shares:
            trace = cast(RequestTrace, share.trace)
            queued_at, items = parts.get(trace, (share.queued_at, 0))
            if queued_at is not None and share.queued_at is not None:
                queued_at = min(queued_at, share.queued_at)
            parts[trace] = (queued_at, items + share.items)
        first = next(iter(parts))
        size = {"ganserve.batch.rows": run.items, "ganserve.batch.requests": run.requests}
        span = self._batches.start_span(
            "batch",
            Context(),
            attributes={"ganserve.model": first.model, "ganserve.device": run.device, **size},
            links=[Link(trace.context) for trace in parts],
            start_time=first.wall_ns(run.started_at),
        )
        _set_error(span, run.error)
        span.end(first.wall_ns(run.ended_at))
        link = Link(span.get_span_context())
        for trace, (queued_at, items) in parts.items():
            if queued_at is not None:
                trace.show("queue", queued_at, run.started_at)
            trace.show("compute", run.input_at, run.output_at, {"ganserve.rows": items, **size}, [link], run.error)

    def _callers_context(self, metadata: Metadata) -> Context:
        if valid_traceparent(metadata) is None:
            return Context()
        carrier: dict[str, list[str]] = {}
        for key, value in metadata:
            if isinstance(value, str):
                carrier.setdefault(key, []).append(value)
        return self._propagator.extract(carrier, Context())

    def _provide(self, resource: Resource, sampler: Sampler) -> TracerProvider:
        provider = TracerProvider(sampler, resource, shutdown_on_exit=False)
        provider.add_span_processor(self._processor)
        return provider


class RequestTrace:
    """The server span of one request, and its children."""

    def __init__(self, tracer: OtlpTracer, model: str, span: api.Span, offset_ns: int) -> None:
        self.tracer = tracer
        self.context = span.get_span_context()
        self.trace_id = api.format_trace_id(self.context.trace_id)
        self.span_id = api.format_span_id(self.context.span_id)
        self.model = model
        self._span = span
        self._parent = api.set_span_in_context(span, Context())
        self._offset_ns = offset_ns
        self._items = 0
        self._children = 0

    def wall_ns(self, moment: float) -> int:
        """A moment of the monotonic clock as spans have it."""
        return int(moment * 1e9) + self._offset_ns

    def admitted(self, items: int) -> None:
        self._items += items

    def phase(self, name: str, started_at: float, ended_at: float) -> None:
        self.tracer.later(self.show, name, started_at, ended_at)

    def end(self, code: str, number: int, text: str, request_id: str, message_id: str) -> None:
        self.tracer.later(self._end, time.monotonic(), code, number, text, request_id, message_id)

    def show(
        self,
        name: str,
        started_at: float,
        ended_at: float,
        attributes: Mapping[str, str | int] = NO_ATTRIBUTES,
        links: Sequence[Link] = (),
        error: str = "",
    ) -> None:
        """Makes a child, unless there are many already."""
        self._children += 1
        if self._children > MAX_CHILDREN:
            return
        span = self.tracer.requests.start_span(
            name, self._parent, attributes=attributes, links=links, start_time=self.wall_ns(started_at)
        )
        _set_error(span, error)
        span.end(self.wall_ns(ended_at))

    def _end(self, ended_at: float, code: str, number: int, text: str, request_id: str, message_id: str) -> None:
        span = self._span
        span.set_attributes({"rpc.grpc.status_code": number, "ganserve.request_id": request_id})
        optional: dict[str, str | int] = {
            "ganserve.model": self.model,
            "ganserve.message_id": message_id,
            "ganserve.rows": self._items,
            "ganserve.spans_left_out": max(0, self._children - MAX_CHILDREN),
        }
        span.set_attributes({name: value for name, value in optional.items() if value})
        if code in FAULTS:
            _set_error(span, text or code)
        span.end(self.wall_ns(ended_at))


class _Exporter(SpanExporter):
    """The SDK's, with one line in the log when it begins to fail and one when it works again.

    The SDK's own lines, one for each attempt, become the reason in ours.
    """

    def __init__(self, endpoint: str) -> None:
        self._otlp = OTLPSpanExporter(endpoint)
        self._endpoint = endpoint
        self._failing = False
        self._complaints = _Complaints()
        self._logger = logging.getLogger("opentelemetry.exporter")
        self._logger.addHandler(self._complaints)
        self._logger.propagate = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._otlp.export(spans)
        failing = result is not SpanExportResult.SUCCESS
        if failing and not self._failing:
            reason = self._complaints.first
            log.warning("traces not sent", extra={"fields": {"endpoint": self._endpoint, "reason": reason}})
        elif self._failing and not failing:
            log.warning("traces sent again", extra={"fields": {"endpoint": self._endpoint}})
        if not failing:
            self._complaints.first = ""
        self._failing = failing
        return result

    def shutdown(self) -> None:
        self._otlp.shutdown()

    def forget(self) -> None:
        """Restores the SDK's logger."""
        self._logger.removeHandler(self._complaints)
        self._logger.propagate = True

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._otlp.force_flush(timeout_millis)


class _Complaints(logging.Handler):
    """Keeps the first line since it was last cleared."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.first = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.first = self.first or record.getMessage()


def _set_error(span: api.Span, text: str) -> None:
    if text:
        span.set_status(Status(StatusCode.ERROR, text))
