"""The load generator against a real gRPC server in this process."""

import asyncio
import io
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from artifact.spec import TensorSpec
from bench.caller.hpack import read_trailers
from bench.caller.loops import Flood, call_once, closed_loop, open_loop
from bench.caller.payloads import Facts
from bench.caller.server import (
    INFER,
    PNG_SIGNATURE,
    Target,
    TargetError,
    announced,
    check_reply,
    generate_requests,
    infer_requests,
    model_inputs,
)
from bench.caller.wire import CANCELLED, DEADLINE_EXCEEDED, OK, RESOURCE_EXHAUSTED, Connection, WireError
from bench.cpu.load import Workload, measure, prepare
from ganserve.v1 import images_pb2, images_pb2_grpc

LATENT = [TensorSpec("latent", "FP32", (100,))]
IMAGE_BYTES = 64 * 64 * 3


@dataclass
class Servicer(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """Answers every call with grey images, or as it is told to."""

    seen: list[Any] = field(default_factory=list)
    rejects: bool = False
    pushback_ms: int | None = None
    timeouts_s: list[float | None] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    in_flight: int = 0
    most_in_flight: int = 0

    async def ModelReady(self, request: Any, context: Any) -> Any:
        return service_pb2.ModelReadyResponse(ready=True)

    async def ModelMetadata(self, request: Any, context: Any) -> Any:
        reply = service_pb2.ModelMetadataResponse(name=request.name)
        reply.inputs.add(name="latent", datatype="FP32", shape=[-1, 100])
        return reply

    async def ModelInfer(self, request: Any, context: Any) -> Any:
        self.seen.append(request)
        self.timeouts_s.append(context.time_remaining())
        if self.rejects:
            trailers = () if self.pushback_ms is None else (("grpc-retry-pushback-ms", str(self.pushback_ms)),)
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "the queue holds 0 images, its limit", trailers)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await self.gate.wait()
        finally:
            self.in_flight -= 1
        reply = service_pb2.ModelInferResponse(model_name=request.model_name)
        images = request.inputs[0].shape[0] if request.inputs else 1
        reply.outputs.add(name="image", datatype="UINT8", shape=[images, 64, 64, 3])
        reply.raw_output_contents.append(b"\x80" * IMAGE_BYTES * images)
        return reply


class Generator(images_pb2_grpc.ImageServiceServicer):
    """Makes one image for each seed and remembers the seeds."""

    def __init__(self) -> None:
        self.seeds: list[int] = []

    async def Generate(self, request: Any, context: Any) -> Any:
        self.seeds += request.seeds.values
        images = [images_pb2.Image(data=PNG_SIGNATURE + bytes(100 + seed)) for seed in request.seeds.values]
        return images_pb2.GenerateReply(images=images)


@pytest.fixture
async def generator() -> Generator:
    return Generator()  # type: ignore[abstract]  # only Generate is called


@pytest.fixture
async def servicer() -> Servicer:
    made = Servicer()
    made.gate.set()
    return made


@pytest.fixture
async def target(servicer: Servicer, generator: Generator) -> AsyncIterator[Target]:
    server = grpc.aio.server()
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(servicer, server)
    images_pb2_grpc.add_ImageServiceServicer_to_server(generator, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield Target("127.0.0.1", port, "127.0.0.1:1")
    await server.stop(None)


async def test_a_closed_loop_keeps_its_callers_busy_and_counts_whole_replies(
    target: Target, servicer: Servicer
) -> None:
    specs = await asyncio.to_thread(model_inputs, target, "faces")
    workload = await asyncio.to_thread(prepare, target, "faces", "infer", specs, Facts(), connections=2)
    rows = await asyncio.to_thread(measure, workload, [1, 5], 0.3, 1, None, 0.0)
    assert [row.errors for row in rows] == [0, 0]
    assert all(row.images_per_s.median > 0 for row in rows)
    assert all(answer.reply_bytes > IMAGE_BYTES for answer in rows[0].phases[0].answers)
    assert 0 < rows[0].latency_s(50) <= rows[0].latency_s(99) < 1
    assert len({request.raw_input_contents[0] for request in servicer.seen}) > 1


async def test_one_reply_is_read_in_full(target: Target) -> None:
    answer = await asyncio.to_thread(call_once, target.address, INFER, infer_requests("faces", LATENT, Facts())[0])
    assert answer.status == OK
    assert answer.body is not None
    check_reply(INFER, answer.body)


async def test_images_of_different_sizes_come_through_the_image_api(target: Target, generator: Generator) -> None:
    workload = await asyncio.to_thread(prepare, target, "faces", "generate", LATENT, Facts())
    phase = await asyncio.to_thread(workload.closed_loop, 4, 0.2)
    assert phase.in_time == phase.answers
    assert len({answer.reply_bytes for answer in phase.answers}) > 1
    assert generator.seeds[:3] == [0, 0, 1]


def test_a_reply_of_the_wrong_size_is_rejected() -> None:
    reply = service_pb2.ModelInferResponse(raw_output_contents=[b"short"])
    reply.outputs.add(name="image", datatype="UINT8", shape=[1, 64, 64, 3])
    with pytest.raises(TargetError, match="5 bytes, not 12288"):
        check_reply(INFER, reply.SerializeToString())


async def test_rejections_are_counted_with_their_status(target: Target, servicer: Servicer) -> None:
    servicer.rejects = True
    phase = await asyncio.to_thread(closed_loop, target.address, INFER, [b""], callers=2, seconds=0.1)
    assert phase.answers
    assert {answer.status for answer in phase.answers} == {RESOURCE_EXHAUSTED}
    assert phase.in_time == []


async def test_a_first_call_that_fails_ends_the_benchmark(target: Target, servicer: Servicer) -> None:
    servicer.rejects = True
    with pytest.raises(TargetError, match="gRPC status 8: the queue holds 0 images"):
        await asyncio.to_thread(prepare, target, "faces", "infer", LATENT, Facts())


async def test_an_unknown_method_is_an_answer_with_a_status(target: Target) -> None:
    answer = await asyncio.to_thread(call_once, target.address, "/no.Such/Method", b"")
    assert answer.status == 12


async def flood(target: Target, arrivals_s: list[float], **arguments: Any) -> Flood:
    """An open loop of these arrivals."""
    messages = infer_requests("faces", LATENT, Facts())
    return await asyncio.to_thread(
        lambda: open_loop(target.address, INFER, messages, arrivals_s, connections=2, **arguments)
    )


async def test_calls_that_nobody_answers_expire_at_their_deadline(target: Target, servicer: Servicer) -> None:
    servicer.gate.clear()
    found = await flood(target, [0.0, 0.01, 0.02], seconds=0.03, limit_s=0.05)
    ended = [answer for answer in found.answers if answer.status in (CANCELLED, DEADLINE_EXCEEDED)]
    assert found.in_time == []
    assert found.expired + len(ended) == 3


async def test_an_open_loop_sends_what_was_planned_whether_or_not_answers_come(
    target: Target, servicer: Servicer
) -> None:
    found = await flood(target, [n / 200 for n in range(20)], seconds=0.1, limit_s=5.0)
    assert len(servicer.seen) == len(found.in_time) == found.planned == 20
    assert len(found.lags_s) == 20
    assert found.late == 0


async def test_calls_without_a_deadline_tell_the_server_none_and_are_late_beyond_the_limit(
    target: Target, servicer: Servicer
) -> None:
    servicer.gate.clear()
    asyncio.get_running_loop().call_later(0.1, servicer.gate.set)
    found = await flood(target, [0.0, 0.2], seconds=0.3, limit_s=0.05, has_deadline=False)
    assert servicer.timeouts_s == [None, None]
    assert (len(found.in_time), found.late, found.expired) == (1, 1, 0)


async def test_at_a_high_rate_calls_are_sent_in_groups_and_all_are_counted(target: Target, servicer: Servicer) -> None:
    found = await flood(target, [n / 10_000 for n in range(200)], seconds=0.02, limit_s=5.0)
    assert len(servicer.seen) == len(found.in_time) == 200


async def test_callers_with_a_deadline_give_up_and_call_again(target: Target, servicer: Servicer) -> None:
    servicer.gate.clear()
    phase = await asyncio.to_thread(
        closed_loop, target.address, INFER, [b""], callers=2, seconds=0.3, deadline_s=0.05
    )  # fmt: skip
    assert phase.in_time == []
    assert phase.late >= 6
    assert all(0 < timeout_s <= 0.05 for timeout_s in servicer.timeouts_s if timeout_s is not None)
    assert None not in servicer.timeouts_s


@pytest.mark.parametrize(("pushback_ms", "pause_s"), [(100, 0.0), (None, 0.1)])
async def test_a_rejected_caller_pauses_as_the_server_says_or_else_as_told(
    target: Target, servicer: Servicer, pushback_ms: int | None, pause_s: float
) -> None:
    servicer.rejects, servicer.pushback_ms = True, pushback_ms
    phase = await asyncio.to_thread(
        closed_loop, target.address, INFER, [b""], callers=2, seconds=0.25, pause_s=pause_s
    )  # fmt: skip
    assert 2 <= len(servicer.seen) <= 6
    assert {answer.pushback_s for answer in phase.rejected} == {pushback_ms and pushback_ms / 1e3}


async def test_a_call_may_be_for_several_images(target: Target, servicer: Servicer, generator: Generator) -> None:
    for rpc in ("infer", "generate"):
        await asyncio.to_thread(prepare, target, "faces", rpc, LATENT, Facts(), images=3)
    assert list(servicer.seen[0].inputs[0].shape) == [3, 100]
    assert generator.seeds == [0, 1, 2]
    second = images_pb2.GenerateRequest.FromString(generate_requests("faces", LATENT, Facts(), 3)[1])
    assert second.seeds.values == [3, 4, 5]


async def test_a_request_larger_than_the_servers_windows_goes_out_in_pieces(target: Target, servicer: Servicer) -> None:
    request = service_pb2.ModelInferRequest(model_name="faces", raw_input_contents=[bytes(3_000_000)])
    answer = await asyncio.to_thread(call_once, target.address, INFER, request.SerializeToString())
    assert answer.status == OK
    assert servicer.seen[0] == request


async def test_a_server_that_goes_away_is_said_so(target: Target, servicer: Servicer) -> None:
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    connection = await asyncio.to_thread(Connection, ("127.0.0.1", port), INFER)
    with pytest.raises(WireError, match="closed"):
        await asyncio.to_thread(connection.receive)
    connection.close()
    server.close()
    await server.wait_closed()


def test_a_started_server_says_where_it_listens_in_its_first_line() -> None:
    output = io.StringIO('{"grpc_port": 5, "http_port": 6, "frontend": "native"}\nmore\n')
    assert announced(output, io.StringIO()) == Target("127.0.0.1", 5, "127.0.0.1:6", "native")


@pytest.mark.parametrize("line", ["", "null\n", "{}\n", "Listening on 8001\n"])
def test_a_server_that_does_not_start_is_shown_with_the_end_of_its_log(line: str) -> None:
    with pytest.raises(TargetError, match=r"model\.onnx: no such file"):
        announced(io.StringIO(line), io.StringIO("faces/1/model.onnx: no such file\n"))


def test_a_rejection_that_begins_like_another_is_read_to_its_end_if_it_names_a_pause() -> None:
    def literal(name: bytes, value: bytes) -> bytes:
        return b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value

    start = literal(b"grpc-status", b"8") + literal(b"grpc-message", b"full")
    assert read_trailers(start) == read_trailers(start + literal(b"x-request-id", b"1")) == (8, None)
    assert read_trailers(start + literal(b"grpc-retry-pushback-ms", b"250")) == (8, 0.25)
    assert read_trailers(literal(b"grpc-status", b"14")) == (14, None)


def test_every_request_has_a_seed_of_its_own() -> None:
    workload = Workload(Target("h", 1, "h:2"), "faces", INFER, infer_requests("faces", LATENT, Facts()))
    assert len(set(workload.messages)) == len(workload.messages)
