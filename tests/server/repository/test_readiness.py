"""When the server counts as ready, with and without --strict-readiness, and what /readyz says of it."""

import asyncio
import contextlib
import shutil
import socket
import threading
import urllib.error
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tritonclient.grpc import aio as triton
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException

from server.app import Server
from server.environment import read_settings
from server.repository.engine_choice import EngineFactory
from server.repository.model_version import ModelVersion
from tests.server.conftest import Running, Start, read_page, write_tiny

Status = health_pb2.HealthCheckResponse


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """`tiny`, which is good."""
    write_tiny(tmp_path / "repository", "tiny")
    return tmp_path / "repository"


def latent(value: float = 1.0) -> list[triton.InferInput]:
    tensor = triton.InferInput("latent", [1, 4], "FP32")
    tensor.set_data_from_numpy(np.full((1, 4), value, np.float32))
    return [tensor]


async def is_ready(running: Running) -> bool:
    """Whether the server is, by every way that tells of it, which must agree."""
    code, lines = await running.readyz()
    async with grpc.aio.insecure_channel(running.target) as channel:
        health = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        kserve = await service_pb2_grpc.GRPCInferenceServiceStub(channel).ServerReady(service_pb2.ServerReadyRequest())
    assert len({code == 200, lines[0] == "ready", health.status == Status.SERVING, kserve.ready}) == 1
    return code == 200


async def test_by_default_every_model_must_serve_and_without_strictness_one_is_enough(
    start: Start, repository: Path
) -> None:
    (repository / "bad" / "1").mkdir(parents=True)
    for strict, ready in ((True, False), (False, True)):
        running = await start(strict_readiness=strict)
        assert await is_ready(running) is ready
        _, lines = await running.readyz()
        assert lines[1:] == ["bad 1 UNAVAILABLE: model.onnx is missing in version 1", "tiny 1 READY"]
        await running.end()
    shutil.rmtree(repository / "tiny")
    assert not await is_ready(await start(strict_readiness=False)), "none serves"


async def test_without_strictness_the_server_is_ready_while_a_model_takes_long_to_load(
    repository: Path, frontend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tiny(repository, "slow")  # comes before `tiny`
    monkeypatch.setattr("server.repository.repository.PATIENCE_S", 0.1)
    release = threading.Event()
    real = EngineFactory.open

    def slow(factory: EngineFactory, version: ModelVersion, *rest: Any) -> Any:
        assert version.name != "slow" or release.wait(30)
        return real(factory, version, *rest)

    monkeypatch.setattr(EngineFactory, "open", slow)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {"host": "127.0.0.1", "grpc_port": 0, "http_port": port, "device": "cpu", "shutdown_delay_s": 0.0}
    server = Server(read_settings(repository=repository, frontend=frontend, strict_readiness=False, **settings))
    stop = asyncio.Event()
    running = asyncio.create_task(server.run(lambda serving: stop.set(), stop))
    async with asyncio.timeout(30):
        page: tuple[int, str] = (0, "")
        while page[0] != 200:
            await asyncio.sleep(0)
            with contextlib.suppress(urllib.error.URLError):  # not listening yet
                page = await asyncio.to_thread(read_page, f"http://127.0.0.1:{port}/readyz")
    assert page[1].splitlines() == ["ready", "slow 1 LOADING", "tiny 1 READY"]
    release.set()
    await running


async def test_a_server_whose_models_were_all_unloaded_is_ready(start: Start) -> None:
    for strict in (True, False):
        running = await start(strict_readiness=strict)
        async with triton.InferenceServerClient(running.target) as client:
            await client.unload_model("tiny")
        assert await is_ready(running)


def one_level_too_deep(root: Path) -> Path:
    return root / "tiny"


def one_level_too_high(root: Path) -> Path:
    return root.parent


def the_version(root: Path) -> Path:
    return root / "tiny" / "1"


def empty(root: Path) -> Path:
    (root.parent / "empty").mkdir()
    return root.parent / "empty"


@pytest.mark.parametrize(
    ("place", "hint"),
    [
        (one_level_too_deep, "it is itself a model's folder: serve its parent"),
        (one_level_too_high, "its folder repository holds models; is that the repository?"),
        (the_version, "it has the file model.onnx; a model is a folder <model>/<version>/model.onnx"),
        (empty, "a model is a folder <model>/<version>/model.onnx, its version a number"),
    ],
)
async def test_a_repository_without_a_model_is_not_ready_and_says_where_models_may_be(
    start: Start, repository: Path, caplog: pytest.LogCaptureFixture, place: Callable[[Path], Path], hint: str
) -> None:
    root = place(repository)
    running = await start(repository=root)
    assert not await is_ready(running)
    _, lines = await running.readyz()
    assert lines[1].startswith("the repository holds no models: ")
    assert hint in lines[1]
    (record,) = [record for record in caplog.records if record.message == "no models"]
    assert record.fields["repository"] == str(root)  # type: ignore[attr-defined]


async def test_an_empty_repository_is_ready_once_a_client_loaded_a_model(start: Start, repository: Path) -> None:
    (repository / "tiny").rename(repository.parent / "tiny")
    running = await start()
    assert not await is_ready(running)
    (repository.parent / "tiny").rename(repository / "tiny")
    async with triton.InferenceServerClient(running.target) as client:
        await client.load_model("tiny")
    assert await is_ready(running)


@pytest.fixture
async def client(start: Start) -> AsyncIterator[tuple[Running, triton.InferenceServerClient]]:
    running = await start()
    async with triton.InferenceServerClient(running.target) as client:
        yield running, client


async def test_a_typo_in_a_config_and_a_reload_keep_the_old_version_ready_and_show_the_reason(
    client: tuple[Running, Any], repository: Path, caplog: pytest.LogCaptureFixture
) -> None:
    running, triton_client = client
    path = repository / "tiny" / "config.pbtxt"
    for text in ("max_batch_size: }", 'backend: "python"', 'input { name: "z" }', "\0", 'default_model_filename: "/x"'):
        path.write_text(text)
        with pytest.raises(InferenceServerException):
            await triton_client.load_model("tiny")
        assert await is_ready(running)
        _, (_, line) = await running.readyz()
        assert line.startswith("tiny 1 READY: reload failed: ")
        assert (await triton_client.infer("tiny", latent())).as_numpy("image").shape == (1, 2, 2, 3)
    path.unlink()
    await triton_client.load_model("tiny")
    assert (await running.readyz())[1] == ["ready", "tiny 1 READY"]


def copy_of(repository: Path, version: str, size: int | None = None) -> None:
    """Version 1 of `tiny` as another, cut to so many bytes."""
    target = repository / "tiny" / version
    target.mkdir()
    (target / "model.onnx").write_bytes((repository / "tiny" / "1" / "model.onnx").read_bytes()[:size])


async def test_the_newest_whole_version_is_served_while_a_newer_one_is_being_copied(
    start: Start, repository: Path
) -> None:
    copy_of(repository, "2")
    copy_of(repository, "3", 0)
    copy_of(repository, "4", 100)
    (repository / "tiny" / "5").mkdir()
    for other in ("6.tmp", ".6", "06", "six", "٦", "1" + "0" * 30):
        copy_of(repository, other)
    running = await start()
    assert await is_ready(running)
    _, (_, line) = await running.readyz()
    assert line.startswith(
        "tiny 2 READY: version 5 is not served: model.onnx is missing in version 5; version 4 is not"
    )
    assert "version 3 is not served: model.onnx is empty" in line
    async with triton.InferenceServerClient(running.target) as client:
        shutil.rmtree(repository / "tiny" / "5")
        (repository / "tiny" / "4" / "model.onnx").write_bytes((repository / "tiny/1/model.onnx").read_bytes())
        await client.load_model("tiny")
        assert (await client.infer("tiny", latent())).get_response().model_version == "4"
        assert (await running.readyz())[1][1:] == ["tiny 2 UNAVAILABLE: unloaded", "tiny 4 READY"]


async def test_versions_that_the_config_names_are_each_missed(start: Start, repository: Path) -> None:
    copy_of(repository, "2", 100)
    (repository / "tiny" / "config.pbtxt").write_text("max_batch_size: 4 version_policy { all { } }")
    running = await start()
    assert not await is_ready(running)
    _, lines = await running.readyz()
    assert lines[1] == "tiny 1 READY"
    assert lines[2].startswith("tiny 2 UNAVAILABLE: model.onnx is cut off: it has 100 bytes of 503 or more")
