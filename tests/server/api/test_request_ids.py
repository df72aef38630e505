"""Which request a line, an answer or an error belongs to."""

import asyncio
import re
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from ganserve.v1 import images_pb2, images_pb2_grpc
from server.observability.context import MAX_ID_CHARS
from tests.server.graphs import write_styled
from tests.server.observability.log_lines import Lines, keeping_lines

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"
OWN_ID = re.compile(r"[0-9a-f]{12}-[0-9a-f]+")
ROW = np.ones(4, np.float32).tobytes()


def infer_request(model: str = "tiny", **fields: Any) -> Any:
    tensor = {"name": "latent", "datatype": "FP32", "shape": [1, 4]}
    return service_pb2.ModelInferRequest(model_name=model, inputs=[tensor], raw_input_contents=[ROW], **fields)


@pytest.fixture
def lines() -> Iterator[Lines]:
    with keeping_lines() as kept:
        yield kept


def echoed(metadata: Any) -> list[str]:
    return [value for key, value in metadata if key == "x-request-id"]


async def refused(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


async def test_who_sends_an_id_gets_it_back_and_finds_it_in_the_log(start: Any, lines: Lines) -> None:
    running = await start()
    async with grpc.aio.insecure_channel(running.target) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        call = stub.ModelInfer(infer_request(id="k-7"), metadata=(("x-request-id", "mine 1"), ("traceparent", PARENT)))
        await call
        assert echoed(await call.trailing_metadata()) == ["mine 1"]
    (line,) = lines.read("call")
    assert line.pop("time").endswith("Z")
    assert 0 < line.pop("seconds") < 30
    assert line == {
        "level": "DEBUG",
        "logger": "server.api.calls",
        "message": "call",
        "request_id": "mine 1",
        "trace_id": TRACE,
        "rpc": "ModelInfer",
        "model": "tiny",
        "code": "OK",
        "message_id": "k-7",
    }
    assert any(' DEBUG call request_id="mine 1" trace_id=' in line for line in lines.text)


async def test_who_sends_none_gets_none_unless_the_call_fails(start: Any, lines: Lines) -> None:
    running = await start()
    async with grpc.aio.insecure_channel(running.target) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        call = stub.ModelInfer(infer_request())
        await call
        assert echoed(await call.trailing_metadata()) == []
        (told,) = echoed((await refused(stub.ModelInfer(infer_request("none")))).trailing_metadata())
    good, bad = lines.read("call")
    assert OWN_ID.fullmatch(told)
    assert (bad["code"], bad["request_id"]) == ("NOT_FOUND", told)
    assert "error" in bad
    assert OWN_ID.fullmatch(good["request_id"])
    assert good["request_id"] != told
    assert "trace_id" not in good


async def test_streams_answer_with_the_id_as_well(start: Any, repository: Path, lines: Lines) -> None:
    write_styled(repository, "styled")
    running = await start()
    sent = (("x-request-id", "stream-1"),)
    async with grpc.aio.insecure_channel(running.target) as channel:
        images = images_pb2_grpc.ImageServiceStub(channel)
        order = images_pb2.GenerateRequest(model="styled", count=3, labels=["one"])
        drawing = images.GenerateStream(order, metadata=sent)
        assert len([reply async for reply in drawing]) == 3
        assert echoed(await drawing.trailing_metadata()) == ["stream-1"]
        kserve = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        inferring = kserve.ModelStreamInfer(iter([infer_request(), infer_request()]), metadata=sent)
        assert len([reply async for reply in inferring]) == 2
        assert echoed(await inferring.trailing_metadata()) == ["stream-1"]
    assert [(line["rpc"], line["request_id"]) for line in lines.read("call")] == [
        ("GenerateStream", "stream-1"),
        ("ModelStreamInfer", "stream-1"),
    ]


async def test_every_line_of_a_rejected_or_failed_request_has_its_id(
    start: Any, monkeypatch: pytest.MonkeyPatch, lines: Lines
) -> None:
    running = await start(max_queue_bytes=1)

    def broken(arrays: Any, whole_device: bool) -> Any:
        raise RuntimeError("secret of the engine")

    async with grpc.aio.insecure_channel(running.target) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        over = stub.ModelInfer(infer_request(), metadata=(("x-request-id", "over"),))
        assert (await refused(over)).code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        wrong = infer_request()
        wrong.inputs[0].shape[1] = 5
        invalid = await refused(stub.ModelInfer(wrong, metadata=(("x-request-id", "wrong"),)))
        assert invalid.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert echoed(invalid.trailing_metadata()) == ["wrong"]
    await running.end()
    running = await start()
    model = running.server.repository.get("tiny")
    monkeypatch.setattr(model.engine, "run", broken)  # the Engine is the one border where fakes are allowed
    async with grpc.aio.insecure_channel(running.target) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        # Two, who may share a batch: what failed there is still the one's or the other's.
        names = ("broken-1", "broken-2")
        for call in [stub.ModelInfer(infer_request(), metadata=(("x-request-id", name),)) for name in names]:
            assert (await refused(call)).code() is grpc.StatusCode.INTERNAL
    calls = lines.read("call")
    assert {line["request_id"]: line["code"] for line in calls} == {
        "over": "RESOURCE_EXHAUSTED",
        "wrong": "INVALID_ARGUMENT",
        "broken-1": "INTERNAL",
        "broken-2": "INTERNAL",
    }
    assert len(calls) == 4
    failures = {line["request_id"]: line for line in lines.read("inference failed")}
    assert set(failures) == {"broken-1", "broken-2"}
    for name, failure in failures.items():
        assert "secret of the engine" in failure["traceback"]
        assert any(failure["error_id"] in line.get("error", "") for line in calls if line["request_id"] == name)


async def test_an_error_that_nobody_foresaw_is_logged_with_the_id(
    start: Any, monkeypatch: pytest.MonkeyPatch, lines: Lines
) -> None:
    running = await start()
    model = running.server.repository.get("tiny")
    monkeypatch.setattr(model.engine, "outputs", None)  # as a broken engine could have it
    async with grpc.aio.insecure_channel(running.target) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        error = await refused(stub.ModelInfer(infer_request(), metadata=(("x-request-id", "odd"),)))
    assert error.code() is grpc.StatusCode.INTERNAL
    (failed,) = lines.read("call failed")
    assert (failed["request_id"], failed["level"], failed["rpc"]) == ("odd", "ERROR", "ModelInfer")
    assert failed["error_id"] in str(error.details())


def literal(name: bytes, value: bytes) -> bytes:
    """A header field as HPACK writes it without any table."""
    return b"\x00" + b"".join(length(len(text)) + text for text in (name, value))


def length(n: int) -> bytes:
    if n < 127:
        return bytes([n])
    more, n = [127], n - 127
    while n >= 128:
        n, low = divmod(n, 128)
        more.append(low + 128)
    return bytes([*more, n])


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def call_with_raw_id(port: int, message: bytes, value: bytes) -> None:
    """One ModelInfer whose x-request-id is these bytes, which no gRPC client would send; until the server is done."""
    fields = {b":method": b"POST", b":scheme": b"http", b":path": b"/inference.GRPCInferenceService/ModelInfer"}
    fields |= {b":authority": b"x", b"te": b"trailers", b"content-type": b"application/grpc", b"x-request-id": value}
    headers = b"".join(literal(name, field) for name, field in fields.items())
    body = b"\x00" + struct.pack(">I", len(message)) + message
    with socket.create_connection(("127.0.0.1", port), timeout=30) as wire:
        wire.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b""))
        wire.sendall(frame(1, 4, 1, headers) + frame(0, 1, 1, body))
        with wire.makefile("rb") as answer:
            while head := answer.read(9):
                answer.read(int.from_bytes(head[:3]))
                kind, flags = head[3], head[4]
                if kind in (3, 7) or (kind == 1 and flags & 1):  # reset, farewell, or the trailers
                    return


@pytest.mark.parametrize(
    "hostile", [b'a\nb\r\n{"level": "forged"}', b"\xff\xfe\x80", b"\x1b[31m", b"x" * 6000, b"x" * 10_000, "é".encode()]
)
async def test_no_bytes_in_the_header_can_break_a_line(start: Any, lines: Lines, hostile: bytes) -> None:
    running = await start()
    message = infer_request(id="first\nsecond" + "z" * 10_000).SerializeToString()
    await asyncio.to_thread(call_with_raw_id, running.serving.grpc_port, message, hostile)
    async with grpc.aio.insecure_channel(running.target) as channel:
        await service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(infer_request())
    # The front end itself may refuse the header; where the call was served, it has one line with an id of ours.
    calls = lines.read("call")
    assert 1 <= len(calls) <= 2
    assert all(
        OWN_ID.fullmatch(call["request_id"]) and len(call.get("message_id", "")) <= MAX_ID_CHARS for call in calls
    )
    assert sum(" DEBUG call " in line for line in lines.text) == len(calls)
    assert not any(line.startswith(("b", "second", "{")) for line in lines.text)
