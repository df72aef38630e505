"""An OpenTelemetry collector as far as traces go: the real service on loopback, which keeps what it is sent."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Takes spans while `answers` is set; refuses as many exports as `refusals` first."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.resource: dict[str, Any] = {}
        self.exports = 0
        self.refusals = 0
        self.answers = asyncio.Event()
        self.answers.set()
        self.endpoint = ""

    async def Export(self, request: Any, context: Any) -> trace_service_pb2.ExportTraceServiceResponse:
        self.exports += 1
        await self.answers.wait()
        if self.exports <= self.refusals:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, "no such tenant")
        for resource in request.resource_spans:
            self.resource = attributes(resource.resource.attributes)
            for scope in resource.scope_spans:
                self.spans += scope.spans
        return trace_service_pb2.ExportTraceServiceResponse()

    def named(self, name: str) -> list[Span]:
        """The spans whose name ends so, in the order of their start."""
        found = [span for span in self.spans if span.name.endswith(name)]
        return sorted(found, key=lambda span: span.start_time_unix_nano)

    def children(self, parent: Span) -> dict[str, list[Span]]:
        """By name; those of the same trace whose parent this span is."""
        found: dict[str, list[Span]] = {}
        for span in self.spans:
            if (span.trace_id, span.parent_span_id) == (parent.trace_id, parent.span_id):
                found.setdefault(span.name, []).append(span)
        return found


@asynccontextmanager
async def collecting() -> AsyncIterator[Collector]:
    """A collector that listens at its `endpoint`."""
    collector = Collector()
    server = grpc.aio.server()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    collector.endpoint = f"http://127.0.0.1:{port}"
    await server.start()
    try:
        yield collector
    finally:
        collector.answers.set()
        await server.stop(None)


async def until(condition: Callable[[], bool]) -> None:
    """Returns once `condition` holds; the loop goes on meanwhile."""
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.to_thread(threading.Event().wait, 0.001)


def attributes(pairs: Any) -> dict[str, Any]:
    """A span's or resource's attributes as they were set."""
    found: list[KeyValue] = list(pairs)
    return {pair.key: _plain(pair.value) for pair in found}


def _plain(value: AnyValue) -> Any:
    return getattr(value, str(value.WhichOneof("value")))
