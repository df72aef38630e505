"""Spans as a collector gets them, from a real server with real callers."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from tritonclient.grpc import service_pb2, service_pb2_grpc

from ganserve.v1 import images_pb2, images_pb2_grpc
from server.images.codecs import DecodedImage, Encoding, encode
from server.images.header import Format
from server.observability.otlp import MAX_CHILDREN
from tests.server.graphs import write_styled, write_translator
from tests.server.observability.collector import Collector, attributes, collecting, until
from tests.server.observability.log_lines import keeping_lines

CALLERS_TRACE = "0af7651916cd43dd8448eb211c80319c"
CALLERS_SPAN = "b7ad6b7169203331"
SAMPLED = ("traceparent", f"00-{CALLERS_TRACE}-{CALLERS_SPAN}-01")
UNSAMPLED = ("traceparent", f"00-{CALLERS_TRACE}-{CALLERS_SPAN}-00")
ROW = np.ones(4, np.float32).tobytes()


def infer_request(model: str = "tiny", rows: int = 1) -> Any:
    tensor = {"name": "latent", "datatype": "FP32", "shape": [rows, 4]}
    return service_pb2.ModelInferRequest(model_name=model, inputs=[tensor], raw_input_contents=[ROW * rows])


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    async with collecting() as listening:
        yield listening


def inferring(channel: grpc.aio.Channel) -> Any:
    return service_pb2_grpc.GRPCInferenceServiceStub(channel)


def hold(running: Any, monkeypatch: pytest.MonkeyPatch, gate: threading.Event) -> Any:
    """The model `tiny`, whose engine waits for `gate`: the Engine is the one border where fakes are allowed."""
    model = running.server.repository.get("tiny")
    real = model.engine.run

    def held(arrays: Any, whole_device: bool) -> Any:
        assert gate.wait(30)
        if np.isnan(arrays["latent"]).any():
            raise ArithmeticError("poison")
        return real(arrays, whole_device)

    monkeypatch.setattr(model.engine, "run", held)
    return model


def nests(inner: Span, outer: Span) -> bool:
    return (
        outer.start_time_unix_nano <= inner.start_time_unix_nano
        and inner.start_time_unix_nano <= inner.end_time_unix_nano <= outer.end_time_unix_nano
    )


def linked(span: Span) -> set[tuple[bytes, bytes]]:
    return {(link.trace_id, link.span_id) for link in span.links}


def own(span: Span) -> tuple[bytes, bytes]:
    return span.trace_id, span.span_id


async def test_requests_of_one_batch_have_their_own_spans_and_the_batch_links_them(
    start: Any, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "k8s.pod.name=pod-1,service.instance.id=one")
    running = await start(threads=1, otlp_endpoint=collector.endpoint)
    gate = threading.Event()
    model = hold(running, monkeypatch, gate)
    began_ns = time.time_ns()
    async with grpc.aio.insecure_channel(running.target) as channel:
        stub = inferring(channel)
        first = stub.ModelInfer(infer_request(), metadata=(UNSAMPLED,))  # takes the lane; the others queue behind it
        await until(lambda: next(iter(model.batcher.engines)).free == 0)
        sampled = (SAMPLED, ("tracestate", "vendor=x"), ("x-request-id", "mine"))
        followers = [
            stub.ModelInfer(infer_request(rows=2), metadata=sampled),
            stub.ModelInfer(infer_request(), metadata=(UNSAMPLED,)),
            stub.ModelInfer(infer_request()),
        ]
        await until(lambda: model.batcher.waiting_items == 4)
        gate.set()
        await asyncio.gather(first, *followers)
    await running.end()
    ended_ns = time.time_ns()

    callers, ours = sorted(collector.named("/ModelInfer"), key=lambda span: not span.parent_span_id)
    assert (callers.trace_id.hex(), callers.parent_span_id.hex()) == (CALLERS_TRACE, CALLERS_SPAN)
    assert callers.trace_state == "vendor=x"
    assert (ours.parent_span_id, ours.trace_id == callers.trace_id) == (b"", False)
    assert attributes(callers.attributes) == {
        "rpc.system": "grpc",
        "rpc.service": "inference.GRPCInferenceService",
        "rpc.method": "ModelInfer",
        "rpc.grpc.status_code": 0,
        "ganserve.request_id": "mine",
        "ganserve.model": "tiny",
        "ganserve.rows": 2,
    }
    (batch,) = collector.named("batch")
    assert linked(batch) == {own(callers), own(ours)}
    assert not batch.parent_span_id
    assert attributes(batch.attributes) == {
        "ganserve.model": "tiny",
        "ganserve.device": "cpu",
        "ganserve.batch.rows": 4,
        "ganserve.batch.requests": 3,
    }
    for server, rows in ((callers, 2), (ours, 1)):
        assert (server.kind, server.status.code) == (Span.SPAN_KIND_SERVER, Status.STATUS_CODE_UNSET)
        assert began_ns <= server.start_time_unix_nano <= server.end_time_unix_nano <= ended_ns
        children = collector.children(server)
        assert set(children) == {"queue", "compute"}
        (queue,), (compute,) = children["queue"], children["compute"]
        assert nests(queue, server)
        assert nests(compute, server)
        assert nests(compute, batch)
        assert queue.end_time_unix_nano <= compute.start_time_unix_nano
        assert linked(compute) == {own(batch)}
        assert attributes(compute.attributes)["ganserve.rows"] == rows
    assert len(collector.spans) == 7  # two requests of three spans, their batch; nothing of those that are not sampled
    words = {"service.name": "ganserve", "k8s.pod.name": "pod-1", "service.instance.id": "one"}
    assert words.items() <= collector.resource.items()
    assert collector.resource["service.version"]


async def test_images_show_when_they_were_decoded_and_encoded(
    start: Any, repository: Path, collector: Collector
) -> None:
    write_translator(repository, "translator")
    write_styled(repository, "styled")
    running = await start(otlp_endpoint=collector.endpoint)
    png = encode(DecodedImage(np.zeros((8, 8, 3), np.uint8)), Encoding(Format.PNG, 1))
    async with grpc.aio.insecure_channel(running.target) as channel:
        stub = images_pb2_grpc.ImageServiceStub(channel)
        await stub.Translate(images_pb2.TranslateRequest(model="translator", image=png))
        await stub.Generate(images_pb2.GenerateRequest(model="styled", count=3, labels=["one"]))
        call = stub.GenerateStream(images_pb2.GenerateRequest(model="styled", count=200, labels=["one"]))
        assert len([reply async for reply in call]) == 200
    await running.end()
    (translate,) = collector.named("ganserve.v1.ImageService/Translate")
    children = collector.children(translate)
    assert {name: len(spans) for name, spans in children.items()} == dict.fromkeys(
        ("queue", "compute", "decode", "encode"), 1
    )
    assert all(nests(spans[0], translate) for spans in children.values())
    moments = [children[name][0].start_time_unix_nano for name in ("decode", "queue", "compute", "encode")]
    assert moments == sorted(moments)
    (generate,) = collector.named("/Generate")
    assert len(collector.children(generate)["encode"]) == 3
    assert attributes(generate.attributes)["ganserve.rows"] == 3
    # One with thousands of images must not push everybody else's spans out of the queue to the collector.
    (stream,) = collector.named("/GenerateStream")
    assert sum(len(spans) for spans in collector.children(stream).values()) == MAX_CHILDREN
    assert attributes(stream.attributes)["ganserve.spans_left_out"] > 200 - MAX_CHILDREN


@pytest.mark.parametrize("frontend", ["native"])
@pytest.mark.parametrize(("ratio", "parents"), [(0.0, [CALLERS_SPAN]), (1.0, ["", CALLERS_SPAN])])
async def test_the_ratio_counts_where_the_caller_did_not_decide(
    start: Any, collector: Collector, ratio: float, parents: list[str]
) -> None:
    running = await start(otlp_endpoint=collector.endpoint, trace_ratio=ratio)
    async with grpc.aio.insecure_channel(running.target) as channel:
        for metadata in ((SAMPLED,), (UNSAMPLED,), (("traceparent", "nonsense"),)):
            await inferring(channel).ModelInfer(infer_request(), metadata=metadata)
        await inferring(channel).ServerReady(service_pb2.ServerReadyRequest())
        await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), metadata=(SAMPLED,))
    await running.end()
    servers = [span for span in collector.spans if span.kind == Span.SPAN_KIND_SERVER]
    assert sorted(span.parent_span_id.hex() for span in servers) == parents
    assert len(collector.named("batch")) == len(parents), "a batch is shown where one of its requests is"


@pytest.mark.parametrize("frontend", ["native"])
async def test_errors_that_are_the_servers_are_errors_of_the_span(
    start: Any, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = await start(threads=1, otlp_endpoint=collector.endpoint)
    gate = threading.Event()
    model = hold(running, monkeypatch, gate)
    poison = infer_request()
    poison.raw_input_contents[0] = np.full(4, np.nan, np.float32).tobytes()
    async with grpc.aio.insecure_channel(running.target) as channel:
        stub = inferring(channel)
        first = stub.ModelInfer(infer_request(), metadata=(UNSAMPLED,))
        await until(lambda: next(iter(model.batcher.engines)).free == 0)
        calls = [stub.ModelInfer(poison), stub.ModelInfer(infer_request()), stub.ModelInfer(infer_request("none"))]
        await until(lambda: model.batcher.waiting_items == 2)
        gate.set()
        await first
        ends = await asyncio.gather(*calls, return_exceptions=True)
    await running.end()
    assert [getattr(end, "code", lambda: grpc.StatusCode.OK)() for end in ends] == [
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.OK,
        grpc.StatusCode.NOT_FOUND,
    ]
    by_code = {attributes(span.attributes)["rpc.grpc.status_code"]: span for span in collector.named("/ModelInfer")}
    assert {code: span.status.code for code, span in by_code.items()} == {
        0: Status.STATUS_CODE_UNSET,
        5: Status.STATUS_CODE_UNSET,
        13: Status.STATUS_CODE_ERROR,
    }
    assert "error_id" in by_code[13].status.message
    assert "poison" not in by_code[13].status.message
    # The batch of two failed, then each ran alone; the waits ended with the first run.
    runs = [(len(batch.links), batch.status.message) for batch in collector.named("batch")]
    assert sorted(runs) == [(1, ""), (1, "ArithmeticError: poison"), (2, "ArithmeticError: poison")]
    for code in (0, 13):
        counts = {name: len(spans) for name, spans in collector.children(by_code[code]).items()}
        assert counts == {"queue": 1, "compute": 2}


@pytest.mark.parametrize("frontend", ["native"])
async def test_a_request_that_only_waited_shows_how_long(
    start: Any, repository: Path, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = "default_queue_policy { default_timeout_microseconds: 30000000 allow_timeout_override: true }"
    (repository / "tiny" / "config.pbtxt").write_text(f"max_batch_size: 8 dynamic_batching {{ {policy} }}")
    running = await start(threads=1, otlp_endpoint=collector.endpoint)
    gate = threading.Event()
    model = hold(running, monkeypatch, gate)
    async with grpc.aio.insecure_channel(running.target) as channel:
        first = inferring(channel).ModelInfer(infer_request(), metadata=(UNSAMPLED,))
        await until(lambda: next(iter(model.batcher.engines)).free == 0)
        impatient = infer_request()
        impatient.parameters["timeout"].int64_param = 1
        late = inferring(channel).ModelInfer(impatient)
        await until(lambda: model.batcher.waiting_items == 1)
        gate.set()
        await first
        assert await late.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await running.end()
    (server,) = collector.named("/ModelInfer")
    assert (attributes(server.attributes)["rpc.grpc.status_code"], server.status.code) == (4, Status.STATUS_CODE_ERROR)
    ((queue,),) = collector.children(server).values()
    assert queue.name == "queue"
    assert nests(queue, server)
    assert not collector.named("batch")


async def test_a_caller_that_leaves_ends_its_span_and_the_run_is_shown_all_the_same(
    start: Any, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = await start(threads=1, otlp_endpoint=collector.endpoint)
    gate = threading.Event()
    model = hold(running, monkeypatch, gate)
    async with grpc.aio.insecure_channel(running.target) as channel:
        call = inferring(channel).ModelInfer(infer_request())
        await until(lambda: next(iter(model.batcher.engines)).free == 0)
        call.cancel()
        await until(lambda: not model.batcher.admitted)
        gate.set()
    await running.end()
    (server,) = collector.named("/ModelInfer")
    assert (attributes(server.attributes)["rpc.grpc.status_code"], server.status.code) == (1, Status.STATUS_CODE_UNSET)
    assert set(collector.children(server)) == {"queue", "compute"}


@pytest.mark.parametrize("frontend", ["native"])
async def test_log_lines_name_the_span(start: Any, collector: Collector) -> None:
    running = await start(otlp_endpoint=collector.endpoint)
    with keeping_lines() as lines:
        async with grpc.aio.insecure_channel(running.target) as channel:
            assert await inferring(channel).ModelInfer(infer_request("none")).code() is grpc.StatusCode.NOT_FOUND
    await running.end()
    (span,) = collector.named("/ModelInfer")
    (line,) = lines.read("call")
    assert (line["trace_id"], line["span_id"]) == (span.trace_id.hex(), span.span_id.hex())
    assert line["request_id"] == line["trace_id"]
