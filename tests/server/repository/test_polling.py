"""`--model-control poll`: what changes on disk is served without anybody's call; and which models explicit loads."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from server.repository.polling import Changes
from tests.server.conftest import Running, write_tiny

Code = grpc.StatusCode
Index = dict[tuple[str, str], tuple[str, str]]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    write_tiny(tmp_path / "repository", "tiny")
    (tmp_path / "repository" / "tiny" / "config.pbtxt").write_text("max_batch_size: 2")
    write_tiny(tmp_path / "elsewhere", "later")
    return tmp_path / "repository"


@pytest.fixture
async def running(start: Any) -> Running:
    running: Running = await start(model_control="poll", repository_poll_s=0.02)
    return running


@pytest.fixture
async def stub(running: Running) -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(running.target) as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


async def index_of(stub: Any) -> Index:
    answer = await stub.RepositoryIndex(service_pb2.RepositoryIndexRequest())
    return {(model.name, model.version): (model.state, model.reason) for model in answer.models}


async def until(stub: Any, is_so: Callable[[Index], bool]) -> Index:
    """The index once it is as it should be."""
    async with asyncio.timeout(30):
        while not is_so(found := await index_of(stub)):
            pass
    return found


async def code(stub: Any, name: str, version: str = "", items: int = 1) -> grpc.StatusCode:
    tensor = {"name": "latent", "datatype": "FP32", "shape": [items, 4]}
    values = [np.ones(4 * items, np.float32).tobytes()]
    request = service_pb2.ModelInferRequest(
        model_name=name, model_version=version, inputs=[tensor], raw_input_contents=values
    )
    try:
        await stub.ModelInfer(request)
    except grpc.aio.AioRpcError as error:
        return error.code()
    return Code.OK


def ready(*entries: tuple[str, str]) -> Callable[[Index], bool]:
    """Whether these are ready, and nothing else is in the index but what was unloaded."""
    return lambda found: {key for key, (state, _) in found.items() if state == "READY"} == set(entries)


async def test_a_folder_that_is_added_is_served_and_one_that_is_removed_is_gone(
    stub: Any, repository: Path, tmp_path: Path
) -> None:
    assert await code(stub, "later") is Code.NOT_FOUND
    shutil.copytree(tmp_path / "elsewhere" / "later", repository / "later")
    await until(stub, ready(("tiny", "1"), ("later", "1")))
    assert await code(stub, "later") is Code.OK
    shutil.rmtree(repository / "later")
    await until(stub, lambda found: set(found) == {("tiny", "1")})
    assert await code(stub, "later") is Code.NOT_FOUND
    assert await code(stub, "tiny") is Code.OK


async def test_a_new_version_replaces_the_old_one_and_removing_it_brings_that_back(stub: Any, repository: Path) -> None:
    shutil.copytree(repository / "tiny" / "1", repository / "tiny" / "2")
    await until(stub, ready(("tiny", "2")))
    assert (await code(stub, "tiny", "2"), await code(stub, "tiny", "1")) == (Code.OK, Code.NOT_FOUND)
    shutil.rmtree(repository / "tiny" / "2")
    await until(stub, ready(("tiny", "1")))
    assert (await code(stub, "tiny"), await code(stub, "tiny", "2")) == (Code.OK, Code.NOT_FOUND)


async def test_a_changed_config_and_a_changed_graph_are_taken_over(stub: Any, repository: Path, tmp_path: Path) -> None:
    assert await code(stub, "tiny", items=4) is Code.INVALID_ARGUMENT
    (repository / "tiny" / "config.pbtxt").write_text("max_batch_size: 4")
    async with asyncio.timeout(30):
        while await code(stub, "tiny", items=4) is not Code.OK:
            pass
    (repository / "tiny" / "1" / "model.onnx").write_bytes(b"not a graph")
    found = await until(stub, lambda found: "reload failed" in found["tiny", "1"][1])
    assert found["tiny", "1"][0] == "READY", "the old one serves on"
    assert await code(stub, "tiny") is Code.OK


async def test_a_version_that_is_half_copied_does_not_keep_the_whole_one_from_serving(
    stub: Any, repository: Path
) -> None:
    whole = (repository / "tiny" / "1" / "model.onnx").read_bytes()
    (repository / "tiny" / "2").mkdir()
    (repository / "tiny" / "2" / "model.onnx").write_bytes(whole[: len(whole) // 2])
    await until(stub, lambda found: "version 2 is not served" in found["tiny", "1"][1])
    assert await code(stub, "tiny") is Code.OK
    (repository / "tiny" / "2" / "model.onnx").write_bytes(whole)
    await until(stub, ready(("tiny", "2")))


async def test_clients_may_not_load_while_the_repository_is_polled(stub: Any) -> None:
    for call in (
        stub.RepositoryModelLoad(service_pb2.RepositoryModelLoadRequest(model_name="tiny")),
        stub.RepositoryModelUnload(service_pb2.RepositoryModelUnloadRequest(model_name="tiny")),
    ):
        text = "explicit model load / unload is not allowed if polling is enabled"
        with pytest.raises(grpc.aio.AioRpcError, match=text) as caught:
            await call
        assert caught.value.code() is Code.UNAVAILABLE


async def test_a_repository_that_cannot_be_read_for_a_while_loses_no_model(
    stub: Any, repository: Path, tmp_path: Path
) -> None:
    shutil.move(repository, tmp_path / "away")
    await asyncio.sleep(0.2)
    assert await code(stub, "tiny") is Code.OK
    shutil.move(tmp_path / "away", repository)
    shutil.copytree(tmp_path / "elsewhere" / "later", repository / "later")
    await until(stub, ready(("tiny", "1"), ("later", "1")))


def test_what_changes_counts_once_it_stays_as_it_is(repository: Path, tmp_path: Path) -> None:
    changes = Changes(repository)
    changes.start()
    assert changes.find() == ([], [], {})
    shutil.copytree(tmp_path / "elsewhere" / "later", repository / "later")
    assert changes.find() == ([], [], {})
    (repository / "later" / "1" / "more.bin").write_bytes(b"x")
    assert changes.find() == ([], [], {}), "it still changes"
    assert changes.find() == (["later"], [], {})
    assert changes.find() == ([], [], {}), "only once"
    shutil.rmtree(repository / "later")
    assert [changes.find() for _ in range(3)] == [([], [], {}), ([], ["later"], {}), ([], [], {})]


async def test_explicit_loads_at_the_start_what_it_is_told_and_lists_the_rest(
    start: Any, repository: Path, tmp_path: Path
) -> None:
    shutil.copytree(tmp_path / "elsewhere" / "later", repository / "later")
    for given, expected in (
        ("*", {("tiny", "1"), ("later", "1")}),
        ("", set()),
        ("later", {("later", "1")}),
        (" tiny, later ", {("tiny", "1"), ("later", "1")}),
    ):
        running = await start(model_control="explicit", load_model=given)
        async with grpc.aio.insecure_channel(running.target) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            found = await index_of(stub)
            assert {key for key, (state, _) in found.items() if state == "READY"} == expected
            assert {name for name, _ in found} == {"tiny", "later"}, "as in Triton also what nobody has loaded"
            await stub.RepositoryModelLoad(service_pb2.RepositoryModelLoadRequest(model_name="tiny"))
            assert await code(stub, "tiny") is Code.OK


async def test_a_model_to_load_at_the_start_that_is_not_there_is_reported(start: Any, repository: Path) -> None:
    running = await start(model_control="explicit", load_model="tiny,nobody")
    code, lines = await running.readyz()
    assert code == 503
    assert "nobody - UNAVAILABLE: the repository has no such model (load_model)" in lines
