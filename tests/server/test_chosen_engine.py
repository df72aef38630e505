"""What a server shows of the engine that it chose on the CPU, with the real OpenVINO beside ONNX Runtime."""

import asyncio
import logging
import shutil
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from ganserve.v1 import images_pb2, images_pb2_grpc
from server.repository.cpu import speed
from server.repository.cpu.pace import Pace
from tests.server.conftest import read_page
from tests.server.graphs import write_upscaler
from tests.server.repository.cpu.graphs import write_generator

pytestmark = pytest.mark.slow

# For models without a manifest, which are not measured otherwise.
MEASURED = 'parameters { key: "cpu_engine" value { string_value: "auto" } }'


@pytest.fixture(autouse=True)
def short_slots(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """The figures do not matter here."""
    monkeypatch.setattr(speed, "SLOT_S", 0.0)
    caplog.set_level(logging.INFO)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = tmp_path / "R"
    write_generator(root / "conv" / "1", layers=2)
    (root / "conv" / "config.pbtxt").write_text(f'backend: "onnxruntime" max_batch_size: 8 {MEASURED}')
    return root


@pytest.fixture
def frontend() -> str:
    return "grpcio"


async def listed(target: str) -> dict[str, images_pb2.Model]:
    async with grpc.aio.insecure_channel(target) as channel:
        reply = await images_pb2_grpc.ImageServiceStub(channel).ListModels(images_pb2.ListModelsRequest())
    return {model.name: model for model in reply.models}


async def infer(target: str, latents: np.ndarray) -> bytes:
    request = service_pb2.ModelInferRequest(model_name="conv", raw_input_contents=[latents.tobytes()])
    request.inputs.add(name="latent", datatype="FP32", shape=latents.shape)
    async with grpc.aio.insecure_channel(target) as channel:
        reply = await service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(request)
    return bytes(reply.raw_output_contents[0])


async def test_the_choice_is_in_every_place_where_operators_look_and_is_made_once(
    start: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shown = []
    for _ in range(2):
        running = await start(engine="auto", engine_cache=tmp_path / "cache")
        model = (await listed(running.target))["conv"]
        said = f"{model.engine} {model.precision}: {model.engine_choice}"
        async with grpc.aio.insecure_channel(running.target) as channel:
            index = await service_pb2_grpc.GRPCInferenceServiceStub(channel).RepositoryIndex(
                service_pb2.RepositoryIndexRequest()
            )
        assert index.models[0].reason == said
        assert f"conv 1 READY: {said}" in (await running.readyz())[1]
        _, page = await asyncio.to_thread(read_page, f"{running.url}/metrics")
        labels = f'model="conv",version="1",engine="{model.engine}",precision="{model.precision}"'
        assert f"ganserve_model_info{{{labels}}} 1\n" in page
        shown.append(said)
    assert "openvino fp32" in shown[0]
    assert shown[1] == shown[0], "the second start read it"
    assert [message for message in caplog.messages if message == "engine chosen"] == ["engine chosen"]


async def test_the_engine_that_is_requested_runs_the_model_and_gives_the_same_images(
    start: Any, repository: Path, tmp_path: Path
) -> None:
    latents = np.random.RandomState(0).randn(3, 8).astype(np.float32)
    images = {}
    (repository / "conv" / "config.pbtxt").write_text("max_batch_size: 8")
    for engine, precision in (("onnx", "fp32"), ("openvino", "fp32")):
        running = await start(engine=engine, cpu_precision=precision, engine_cache=tmp_path / "cache")
        model = (await listed(running.target))["conv"]
        assert (model.state, model.engine, model.precision) == ("READY", engine, precision)
        images[engine] = np.frombuffer(await infer(running.target, latents), np.uint8).astype(int)
    assert np.abs(images["onnx"] - images["openvino"]).max() <= 1
    (repository / "conv" / "config.pbtxt").write_text(
        'max_batch_size: 8 parameters { key: "cpu_engine" value { string_value: "openvino" } }'
        ' parameters { key: "cpu_precision" value { string_value: "fp32" } }'
    )
    running = await start(engine="onnx", engine_cache=tmp_path / "cache")
    assert (await listed(running.target))["conv"].engine == "openvino"


async def test_a_model_without_a_config_is_measured_once_with_its_batch_axis(
    start: Any, repository: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.rmtree(repository / "conv")
    write_upscaler(repository, "up")
    (repository / "up" / "config.pbtxt").unlink(missing_ok=True)
    running = await start(engine="auto", engine_cache=tmp_path / "cache")
    assert (await listed(running.target))["up"].max_batch_size == 4
    assert [message for message in caplog.messages if message == "engine chosen"] == ["engine chosen"]


@pytest.mark.parametrize("config", [None, 'max_batch_size: 8 backend: "onnxruntime"'])
async def test_a_model_without_a_manifest_runs_in_onnx_runtime_and_says_why(
    config: str | None, start: Any, repository: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = repository / "conv" / "config.pbtxt"
    path.unlink()
    if config is not None:
        path.write_text(config)
    running = await start(engine="auto", engine_cache=tmp_path / "cache")
    model = (await listed(running.target))["conv"]
    assert (model.engine, model.precision) == ("onnx", "fp32")
    assert model.engine_choice.startswith("not measured: without a manifest nobody knows what its inputs are like")
    assert f"conv 1 READY: onnx fp32: {model.engine_choice}" in (await running.readyz())[1]
    assert "engine chosen" not in caplog.messages
    assert not (tmp_path / "cache").exists()


async def test_a_model_that_is_loaded_while_another_one_serves_is_measured_with_rests(
    start: Any, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rests: list[float] = []
    rest = Pace.rest

    def rest_and_tell(pace: Pace) -> float:
        rests.append(rest(pace))
        return rests[-1]

    monkeypatch.setattr(Pace, "rest", rest_and_tell)
    running = await start(engine="auto", engine_cache=tmp_path / "cache", model_control="explicit", load_model="conv")
    assert rests
    assert not any(rests), "nobody called"
    rests.clear()
    write_generator(repository / "later" / "1", layers=3)
    shutil.copy(repository / "conv" / "config.pbtxt", repository / "later")
    latents = np.random.RandomState(0).randn(8, 8).astype(np.float32)
    loaded = asyncio.Event()

    async def call() -> None:
        while not loaded.is_set():
            await infer(running.target, latents)

    calling = asyncio.create_task(call())
    async with grpc.aio.insecure_channel(running.target) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        await stub.RepositoryModelLoad(service_pb2.RepositoryModelLoadRequest(model_name="later"))
    loaded.set()
    await calling
    assert any(rests)
    assert "openvino fp32" in str((await listed(running.target))["later"])


async def test_without_openvino_there_is_nothing_to_choose_and_nothing_said(
    start: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.repository.cpu_options.available", lambda: False)
    running = await start(engine="auto", engine_cache=tmp_path / "cache")
    model = (await listed(running.target))["conv"]
    assert (model.engine, model.precision, model.engine_choice) == ("onnx", "fp32", "")
    assert "conv 1 READY" in (await running.readyz())[1]
    assert not (tmp_path / "cache").exists()


async def test_images_of_free_size_are_measured_at_the_sizes_that_are_served(
    start: Any, repository: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.rmtree(repository / "conv")
    write_upscaler(repository, "up")
    running = await start(engine="auto", engine_cache=tmp_path / "cache")
    model = (await listed(running.target))["up"]
    assert model.state == "READY"
    (line,) = [record.__dict__["fields"] for record in caplog.records if record.message == "engine chosen"]
    figures = line["items_per_s"].get("onnx fp32", {})
    assert not figures or "batch 1 of 64 px" in figures, "a whole tile; none if OpenVINO may not serve"
    assert "openvino" in model.engine_choice
