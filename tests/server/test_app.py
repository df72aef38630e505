import asyncio
import logging
import shutil
import socket
import subprocess
import threading
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from server import errors
from server.api.transport import choose_frontend
from server.environment import read_settings
from server.errors import InferenceFailed
from tests import serving

Status = health_pb2.HealthCheckResponse
ONES = np.ones(4, np.float32).tobytes()


def infer_request(model: str = "tiny") -> service_pb2.ModelInferRequest:
    tensor = {"name": "latent", "datatype": "FP32", "shape": [1, 4]}
    return service_pb2.ModelInferRequest(model_name=model, inputs=[tensor], raw_input_contents=[ONES])


async def test_health_follows_the_models(start: Any) -> None:
    running = await start()
    async with grpc.aio.insecure_channel(running.target) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        kserve = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        assert (await health.Check(health_pb2.HealthCheckRequest(service="tiny"))).status == Status.SERVING
        assert (await health.Check(health_pb2.HealthCheckRequest(service="engine"))).status == Status.NOT_SERVING
        watch = health.Watch(health_pb2.HealthCheckRequest(service="tiny"))
        assert (await watch.read()).status == Status.SERVING
        await kserve.RepositoryModelUnload(service_pb2.RepositoryModelUnloadRequest(model_name="tiny"))
        assert (await watch.read()).status == Status.NOT_SERVING
        await kserve.RepositoryModelLoad(service_pb2.RepositoryModelLoadRequest(model_name="tiny"))
        assert (await watch.read()).status == Status.SERVING
        watch.cancel()


async def index_of(stub: Any) -> dict[str, tuple[str, str]]:
    """State and reason of every model."""
    answer = await stub.RepositoryIndex(service_pb2.RepositoryIndexRequest())
    return {model.name: (model.state, model.reason) for model in answer.models}


def logged(caplog: pytest.LogCaptureFixture, message: str) -> list[Any]:
    """The fields of each line of that message."""
    return [record.fields for record in caplog.records if record.message == message]  # type: ignore[attr-defined]


@pytest.fixture
def onnx_runtime_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """`--engine auto` has nothing to choose from on the CPU."""
    monkeypatch.setattr("server.repository.cpu_options.available", lambda: False)


@pytest.mark.usefixtures("onnx_runtime_alone")
async def test_a_plan_alone_is_unavailable_without_a_gpu_and_the_others_are_served(
    start: Any, repository: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (repository / "engine" / "config.pbtxt").write_text('platform: "tensorrt_plan" max_batch_size: 8')
    running = await start(engine="auto")
    assert (running.serving.device, running.serving.models, running.serving.unavailable) == ("cpu", 3, 1)
    reason = "model.plan: TensorRT needs an NVIDIA GPU; this server runs the model on the CPU"
    async with grpc.aio.insecure_channel(running.target) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        assert (await index_of(stub))["engine"] == ("UNAVAILABLE", reason)
        assert len((await stub.ModelInfer(infer_request())).raw_output_contents) == 1
    code, lines = await running.readyz()
    assert (code, lines[0]) == (503, "not ready")
    assert f"engine 1 UNAVAILABLE: {reason}" in lines
    assert "tiny 1 READY" in lines
    assert logged(caplog, "model unavailable") == [{"model": "engine", "reason": reason}]


@pytest.mark.usefixtures("onnx_runtime_alone")
async def test_a_model_that_asks_for_a_plan_and_has_a_graph_beside_it_is_ready_with_the_reason(
    start: Any, repository: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.rmtree(repository / "engine")
    (repository / "tiny" / "1" / "model.plan").write_bytes(b"plan")
    (repository / "tiny" / "config.pbtxt").write_text('platform: "tensorrt_plan" max_batch_size: 8')
    running = await start(engine="auto")
    async with grpc.aio.insecure_channel(running.target) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        state, reason = (await index_of(stub))["tiny"]
        assert len((await stub.ModelInfer(infer_request())).raw_output_contents) == 1
        served = (await stub.ModelConfig(service_pb2.ModelConfigRequest(name="tiny"))).config
    assert state == "READY"
    assert reason.startswith("serves model.onnx: model.plan: TensorRT needs an NVIDIA GPU")
    assert (served.platform, served.backend) == ("onnxruntime_onnx", "onnxruntime")
    code, lines = await running.readyz()
    assert (code, lines[0]) == (200, "ready")
    assert f"tiny 1 READY: {reason}" in lines
    assert logged(caplog, "model not served at its best") == [{"model": "tiny", "version": 1, "reason": reason}]


async def test_a_group_of_gpus_on_a_server_without_one_is_unavailable_with_what_it_asked(
    start: Any, repository: Path
) -> None:
    (repository / "tiny" / "config.pbtxt").write_text("max_batch_size: 8 instance_group { kind: KIND_GPU gpus: 3 }")
    (repository / "auto" / "config.pbtxt").write_text("max_batch_size: 8 instance_group { kind: KIND_CPU count: 2 }")
    running = await start()
    _, lines = await running.readyz()
    reason = "config.pbtxt: instance_group: gpus 3 requested; this server has no GPU (--device)"
    assert f"tiny 1 UNAVAILABLE: {reason}" in lines
    assert "auto 1 READY" in lines


async def test_reflection_lists_the_services_and_takes_no_place_of_other_streams(
    start: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.api.calls.MAX_REFLECTIONS", 1)
    running = await start(max_streams=1)
    async with grpc.aio.insecure_channel(running.target) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        call = stub.ServerReflectionInfo()
        await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
        answer = await call.read()
        with pytest.raises(grpc.aio.AioRpcError, match="1 reflection streams are open, limit 1"):
            await stub.ServerReflectionInfo().read()
        tensors = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelStreamInfer()
        await tensors.write(service_pb2.ModelInferRequest(model_name="none"))
        assert "none" in (await tensors.read()).error_message
        await call.done_writing()
        names = {service.name for service in answer.list_services_response.service}
    assert {"inference.GRPCInferenceService", "ganserve.v1.ImageService", "grpc.health.v1.Health"} <= names


async def test_an_engine_that_fails_is_internal_and_opaque(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    running = await start()
    model = running.server.repository.get("tiny")

    def broken(arrays: Any, whole_device: bool) -> Any:
        raise RuntimeError("secret of the engine")

    monkeypatch.setattr(model.engine, "run", broken)  # the Engine is the one border where fakes are allowed
    async with grpc.aio.insecure_channel(running.target) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.ModelInfer(infer_request())
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert "error_id" in (caught.value.details() or "")
    assert "secret" not in (caught.value.details() or "")


async def test_a_deadline_that_passes_is_deadline_exceeded_and_the_server_lives_on(
    start: Any, monkeypatch: pytest.MonkeyPatch, engine: Any
) -> None:
    running = await start()
    model = running.server.repository.get("tiny")
    real = model.engine.run

    def held(arrays: Any, whole_device: bool) -> Any:
        engine.gate.wait(30)
        return real(arrays, whole_device)

    monkeypatch.setattr(model.engine, "run", held)
    engine.gate.clear()
    async with grpc.aio.insecure_channel(running.target) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.ModelInfer(infer_request(), timeout=0.1)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        engine.gate.set()
        assert len((await stub.ModelInfer(infer_request())).raw_output_contents) == 1


async def test_a_taken_port_is_a_start_error(start: Any) -> None:
    running = await start()
    with pytest.raises(errors.StartError, match="gRPC cannot listen on"):
        await start(grpc_port=running.serving.grpc_port)
    with pytest.raises(errors.StartError, match="HTTP cannot listen on"):
        await start(http_port=running.serving.http_port)


def test_settings_that_do_not_exist_or_fit_are_start_errors(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(errors.StartError, match=r"grpc_port.*70000"):
        read_settings(repository=tmp_path, grpc_port=70000)
    with pytest.raises(errors.StartError, match=r"device: .*must be auto, cpu, cuda or cuda:N"):
        read_settings(repository=tmp_path, device="tpu")
    monkeypatch.setenv("GANSERVE_GRPC_PROT", "1")
    with pytest.raises(errors.StartError, match="unknown setting in the environment: GANSERVE_GRPC_PROT"):
        read_settings(repository=tmp_path)


def test_the_environment_counts_where_nothing_is_given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GANSERVE_MAX_QUEUE_ROWS", "7")
    assert read_settings(repository=tmp_path).max_queue_rows == 7
    assert read_settings(repository=tmp_path, max_queue_rows=8).max_queue_rows == 8


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "localhost", "::1", "[::1]"])
def test_auto_takes_native_on_loopback(tmp_path: Path, host: str) -> None:
    assert choose_frontend(read_settings(repository=tmp_path, host=host)) == "native"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "[::]", "10.0.0.1", "example.com"])
def test_auto_takes_grpcio_where_other_machines_reach_it_and_native_warns(
    tmp_path: Path, host: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "server")
    assert choose_frontend(read_settings(repository=tmp_path, host=host)) == "grpcio"
    assert caplog.messages == [
        "front end grpcio: native limits neither the size that compressed messages inflate to nor messages that do not "
        f"arrive, and other machines reach {host}"
    ]
    caplog.clear()
    assert choose_frontend(read_settings(repository=tmp_path, host=host, frontend="native")) == "native"
    assert [(record.levelname, record.message) for record in caplog.records] == [
        (
            "WARNING",
            f"front end native on {host}: it limits neither the size that compressed messages inflate to nor messages "
            "that do not arrive",
        )
    ]


def test_auto_takes_native_unless_something_is_asked_that_it_cannot_do(tmp_path: Path) -> None:
    assert choose_frontend(read_settings(repository=tmp_path)) == "native"
    assert choose_frontend(read_settings(repository=tmp_path, max_connection_age_s=0, frontend="native")) == "native"
    assert choose_frontend(read_settings(repository=tmp_path, max_connection_age_s=60)) == "grpcio"
    with pytest.raises(errors.StartError, match="native does not support max_connection_age_s"):
        choose_frontend(read_settings(repository=tmp_path, max_connection_age_s=60, frontend="native"))


async def test_an_idle_stream_is_ended_when_the_server_stops_and_one_at_work_gets_its_answer(
    start: Any, monkeypatch: pytest.MonkeyPatch, engine: Any
) -> None:
    running = await start(drain_s=60.0)
    model = running.server.repository.get("tiny")
    real = model.engine.run

    def held(arrays: Any, whole_device: bool) -> Any:
        engine.entered.release()
        engine.gate.wait(30)
        return real(arrays, whole_device)

    async with grpc.aio.insecure_channel(running.target) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        idle, busy = stub.ModelStreamInfer(), stub.ModelStreamInfer()
        await idle.write(infer_request("auto"))
        assert (await idle.read()).infer_response.model_name == "auto"
        monkeypatch.setattr(model.engine, "run", held)  # the Engine is the one border where fakes are allowed
        engine.gate.clear()
        await busy.write(infer_request())
        await engine.busy()
        running.stop.set()
        async with asyncio.timeout(30):  # of the 60 s that it may drain
            assert await idle.code() is grpc.StatusCode.UNAVAILABLE
            engine.gate.set()
            assert (await busy.read()).infer_response.model_name == "tiny"
            assert await busy.code() is grpc.StatusCode.UNAVAILABLE
            await running.done


@pytest.mark.parametrize("frontend", ["native"])
async def test_a_repository_or_a_device_that_is_not_there_is_a_start_error(start: Any) -> None:
    with pytest.raises(errors.StartError, match="repository /none: no such folder"):
        await start(repository=Path("/none"))
    with pytest.raises(errors.StartError, match="device cuda: "):
        await start(device="cuda")


def test_a_start_that_cannot_work_is_one_line_and_exit_2(repository: Path) -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        command = serving.serve_command(repository, "--grpc-port", str(listening.getsockname()[1]))
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1), ended.stderr
    assert "gRPC cannot listen on" in ended.stderr


async def test_a_server_whose_decoders_hang_is_to_be_restarted(start: Any, repository: Path) -> None:
    shutil.rmtree(repository / "engine")
    running = await start(codec_threads=1, codec_timeout_s=0.01)
    assert (await running.readyz())[0] == 200
    gate = threading.Event()
    with pytest.raises(InferenceFailed):
        await running.server._workers.run(gate.wait)
    code, lines = await running.readyz()
    assert (code, lines[-1]) == (503, "the threads that decode and encode images hang")
    gate.set()


async def test_a_server_whose_gpu_is_lost_closes_its_engines(start: Any, caplog: pytest.LogCaptureFixture) -> None:
    running = await start()
    running.server.hangs.lose("cuda:0", "CUDA_ERROR_ILLEGAL_ADDRESS")
    await running.end()
    assert not logged(caplog, "engines not closed")


@pytest.mark.slow
async def test_sigterm_under_load_loses_no_accepted_request(repository: Path, frontend: str) -> None:
    with serving.running(repository, "--frontend", frontend, "--shutdown-delay-s", "0.5") as process:
        ends, answered_after = await _call_until_it_ends(process)
        assert process.wait() == 0, process.log
        assert "Traceback" not in process.log
    # Not accepted, so the caller may try another replica. grpcio may end what it has not handed out yet as CANCELLED.
    allowed = {grpc.StatusCode.UNAVAILABLE} | ({grpc.StatusCode.CANCELLED} if frontend == "grpcio" else set())
    assert len(ends) == 32
    assert set(ends) <= allowed
    assert answered_after > 0, "it went on serving while endpoints took notice"


async def _call_until_it_ends(process: serving.ServerProcess) -> tuple[list[grpc.StatusCode], int]:
    """32 callers, and SIGTERM after 200 answers: how each caller's last call ended, and the answers after readiness."""
    counts = {"answered": 0}
    ends: list[grpc.StatusCode] = []
    async with grpc.aio.insecure_channel(process.address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        health = health_pb2_grpc.HealthStub(channel)
        watch = health.Watch(health_pb2.HealthCheckRequest(service="tiny"))
        assert (await watch.read()).status == Status.SERVING

        async def caller() -> None:
            while True:
                try:
                    answer = await stub.ModelInfer(infer_request())
                except grpc.aio.AioRpcError as error:
                    ends.append(error.code())
                    return
                assert len(answer.raw_output_contents) == 1
                counts["answered"] += 1
                if counts["answered"] == 200:
                    process.terminate()

        callers = [asyncio.create_task(caller()) for _ in range(32)]
        assert (await watch.read()).status == Status.NOT_SERVING, "told before the port closes"
        answered_before_the_stop = counts["answered"]
        await asyncio.gather(*callers)
    return ends, counts["answered"] - answered_before_the_stop
