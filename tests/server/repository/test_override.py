"""A load request may hand over a config, and files in place of the model's folder, until the next plain load."""

import asyncio
import json
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnx
import pytest
import tritonclient.http
from onnx import numpy_helper
from tritonclient.grpc import aio as triton
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException

from server.repository.override import Override
from tests.server.api.test_kserve import latent_input, picture
from tests.server.conftest import Running, Start

Code = grpc.StatusCode
LATENT = np.random.RandomState(0).rand(2, 4).astype(np.float32)
CONFIG = json.dumps({"max_batch_size": 2})


def doubled(repository: Path) -> bytes:
    """The graph of `tiny` with weights of twice the size."""
    model = onnx.load(repository / "tiny" / "1" / "model.onnx")
    (weight,) = (each for each in model.graph.initializer if each.name == "weight")
    weight.CopyFrom(numpy_helper.from_array(2 * numpy_helper.to_array(weight), "weight"))
    return model.SerializeToString()


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def left_in(temporary: Path) -> list[Path]:
    return list(temporary.glob("ganserve-model-*"))


@pytest.fixture(autouse=True)
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the server writes what is handed over. A short path: sockets lie there, too."""
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield Path(folder)
        monkeypatch.undo()


async def image(client: Any, name: str = "tiny", latent: Any = LATENT) -> Any:
    return (await client.infer(name, [latent_input(latent)])).as_numpy("image")


async def refused(call: Any) -> tuple[str, str]:
    with pytest.raises(InferenceServerException) as caught:
        await call
    return caught.value.status(), caught.value.message()


async def test_a_config_replaces_the_models_until_the_next_plain_load(client: Any) -> None:
    await client.load_model("tiny", config=CONFIG)
    assert (await client.get_model_config("tiny")).config.max_batch_size == 2
    await image(client)
    assert "max_batch_size" in (await refused(image(client, latent=np.ones((3, 4), np.float32))))[1]
    await client.load_model("tiny")
    assert (await client.get_model_config("tiny")).config.max_batch_size == 8
    await image(client, latent=np.ones((3, 4), np.float32))


async def test_files_replace_the_models_folder_and_nothing_of_it_changes(
    client: Any, repository: Path, temporary: Path
) -> None:
    before = contents(repository)
    await client.load_model("tiny", config=CONFIG, files={"file:7/model.onnx": doubled(repository)})
    assert list((await client.get_model_metadata("tiny")).versions) == ["7"]
    np.testing.assert_array_equal(await image(client), picture(2 * LATENT))
    assert left_in(temporary) == []
    await client.load_model("tiny")
    assert list((await client.get_model_metadata("tiny")).versions) == ["1"]
    np.testing.assert_array_equal(await image(client), picture(LATENT))
    assert contents(repository) == before


async def test_a_model_that_the_repository_does_not_have_serves_until_it_is_unloaded(
    client: Any, repository: Path
) -> None:
    graph = doubled(repository)
    await client.load_model(
        "new", config='{"name": "new", "max_batch_size": 2, "output": [{"name": "image", "data_type": "TYPE_UINT8", '
        '"dims": [2, 2, 3], "label_filename": "labels.txt"}]}',
        files={"file:1/model.onnx": graph, "file:labels.txt": b"a\nb"},
    )  # fmt: skip
    np.testing.assert_array_equal(await image(client, "new"), picture(2 * LATENT))
    assert not (repository / "new").exists()
    status, text = await refused(client.load_model("new"))
    assert (status, "failed to poll from model repository" in text) == ("StatusCode.NOT_FOUND", True)
    np.testing.assert_array_equal(await image(client, "new"), picture(2 * LATENT))
    await client.unload_model("new")
    assert (await refused(image(client, "new")))[0] == "StatusCode.NOT_FOUND"


FAILING = {
    "a field that is refused": ({"sequence_batching": {}}, {}, "sequence_batching is not supported"),
    "a checksum that its files do not have": (
        {"model_repository_agents": {"agents": [{"name": "checksum", "parameters": {"MD5:1/model.onnx": "0" * 32}}]}},
        {"file:1/model.onnx": b"graph"},
        "checksum: 1/model.onnx has MD5",
    ),
    "another name": ({"name": "other"}, {}, "name 'other' differs from its folder 'tiny'"),
    "a tensor that the graph has not": (
        {"input": [{"name": "z", "data_type": "TYPE_FP32", "dims": [4]}]},
        {},
        "tensor 'z' is not in the graph",
    ),
    "a file that is no graph": ({}, {"file:1/model.onnx": b"graph"}, "model.onnx"),
    "no version": ({}, {"file:model.onnx": b"graph"}, "no version of 'tiny' to serve"),
}


@pytest.mark.parametrize("case", FAILING)
async def test_what_cannot_be_loaded_has_a_reason_and_the_old_one_serves(
    client: Any, temporary: Path, case: str
) -> None:
    config, files, reason = FAILING[case]
    status, text = await refused(client.load_model("tiny", config=json.dumps(config), files=files))
    assert (status, reason in text) == ("StatusCode.UNAVAILABLE", True), text
    assert str(temporary) not in text
    (entry,) = (each for each in (await client.get_model_repository_index()).models if each.name == "tiny")
    assert (entry.state, reason in entry.reason) == ("READY", True)
    np.testing.assert_array_equal(await image(client), picture(LATENT))
    assert left_in(temporary) == []


def parameter(**value: Any) -> dict[str, Any]:
    return value


ONE = {"file:1/model.onnx": parameter(bytes_param=b"x")}
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "files without a config": (ONE, "failed to load 'tiny', failed to poll from model repository: files need"),
    "a config that is no JSON": ({"config": parameter(string_param="max_batch_size: 2")}, "Invalid config override: "),
    "an unknown field": ({"config": parameter(string_param='{"batch": 2}')}, 'no field named "batch"'),
    "a config that is no object": ({"config": parameter(string_param="[]")}, "it is not an object"),
    "a config too deep": ({"config": parameter(string_param="[" * 100_000)}, "Invalid config override: "),
    "a config too long": ({"config": parameter(string_param=" " * (1 << 20) + "{}")}, "at most 1048576"),
    "a config of another type": (
        {"config": parameter(bytes_param=b"{}")},
        "invalid value type for load parameter 'config', expected string_param.",
    ),
    "a file of another type": (
        {"file:1/model.onnx": parameter(string_param="")},
        "invalid value type for load parameter 'file:1/model.onnx', expected bytes_param.",
    ),
    "an unknown parameter": ({"colour": parameter(string_param="red")}, "unrecognized load parameter 'colour'."),
    "too many files": ({f"file:1/{i}": parameter(bytes_param=b"") for i in range(1001)}, "1001 files; at most 1000"),
    "a file below another": ({**ONE, "file:1": parameter(bytes_param=b"")}, "lies below another file"),
    "an engine": ({"file:1/model.plan": parameter(bytes_param=b"")}, "a TensorRT engine is native code"),
    **{
        f"the path {path!r}": ({f"file:{path}": parameter(bytes_param=b"")}, "must be a path in the model's folder")
        for path in ("", "/etc/passwd", "../tiny/1/model.onnx", "1/../../x", "1//x", "./1", "1/\n", ".x", "a/b/c/d/e")
    },
}  # fmt: skip


@pytest.mark.parametrize(("config", "size"), [("{}", 4), ('{"max_batch_size": 0}', 0), ('{"maxBatchSize": 2}', 2)])
async def test_a_config_that_states_no_size_leaves_it_to_the_graph(client: Any, config: str, size: int) -> None:
    await client.load_model("tiny", config=config)
    assert (await client.get_model_config("tiny")).config.max_batch_size == size


@pytest.mark.parametrize("case", REFUSED)
async def test_what_cannot_be_read_is_refused(running: Running, repository: Path, case: str) -> None:
    parameters, reason = REFUSED[case]
    if any(key.startswith("file:") for key in parameters) and case != "files without a config":
        parameters = {"config": parameter(string_param="{}"), **parameters}
    async with grpc.aio.insecure_channel(running.target) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.RepositoryModelLoad(
                service_pb2.RepositoryModelLoadRequest(model_name="tiny", parameters=parameters)
            )
    details = caught.value.details() or ""
    assert (caught.value.code(), reason in details) == (Code.INVALID_ARGUMENT, True), details


@pytest.mark.parametrize("name", ["../up", ".hidden", "", "a\nb"])
async def test_files_are_refused_for_what_is_no_models_name(client: Any, repository: Path, name: str) -> None:
    files = {"file:1/model.onnx": doubled(repository)}
    status, text = await refused(client.load_model(name, config=CONFIG, files=files))
    assert (status, "cannot be the name of a model" in text) == ("StatusCode.INVALID_ARGUMENT", True), text


async def test_what_is_handed_over_is_limited_for_all_models_together(start: Start, repository: Path) -> None:
    running = await start(max_override_bytes=2 << 20)
    files = {"file:1/model.onnx": doubled(repository)}
    async with triton.InferenceServerClient(running.target) as client:
        for name in ("a", "b"):
            await client.load_model(name, config=CONFIG, files=files)
        status, text = await refused(client.load_model("c", config=CONFIG, files=files))
        assert (status, "limit 2097152 (max_override_bytes)" in text) == ("StatusCode.RESOURCE_EXHAUSTED", True), text
        await client.load_model("tiny", config=CONFIG)  # its files are the repository's
        await client.unload_model("a")
        failed = await refused(client.load_model("c", config=CONFIG, files={"file:1/model.onnx": b"x"}))
        assert failed[0] == "StatusCode.UNAVAILABLE"
        await client.load_model("c", config=CONFIG, files=files)
        np.testing.assert_array_equal(await image(client, "c"), picture(2 * LATENT))


async def test_a_load_that_fails_in_part_counts_for_what_it_left_serving(start: Start, repository: Path) -> None:
    running = await start(max_override_bytes=2 << 20)
    config = json.dumps({"max_batch_size": 2, "version_policy": {"all": {}}})
    files = {"file:1/model.onnx": doubled(repository), "file:2/model.onnx": b"no graph"}
    async with triton.InferenceServerClient(running.target) as client:
        for name, code in (("a", "UNAVAILABLE"), ("b", "UNAVAILABLE"), ("c", "RESOURCE_EXHAUSTED")):
            assert (await refused(client.load_model(name, config=config, files=files)))[0] == f"StatusCode.{code}"
        await image(client, "a")
        await client.unload_model("a")
        assert (await refused(client.load_model("c", config=config, files=files)))[0] == "StatusCode.UNAVAILABLE"


async def test_a_server_that_stops_while_files_are_written_leaves_none(
    running: Running, client: Any, repository: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, may_write, real = threading.Event(), threading.Event(), Override.store

    def held(override: Override, name: str) -> Path:
        entered.set()
        assert may_write.wait(30)
        return real(override, name)

    monkeypatch.setattr(Override, "store", held)
    files = {"file:7/model.onnx": doubled(repository)}
    loading = asyncio.create_task(client.load_model("tiny", config=CONFIG, files=files))
    await asyncio.to_thread(entered.wait, 30)
    closing = asyncio.create_task(running.server.repository.close())
    await asyncio.wait({closing}, timeout=0.1)
    may_write.set()
    await closing
    assert (await refused(loading))[0] == "StatusCode.UNAVAILABLE"
    assert left_in(temporary) == []


def load_over_http(port: int, graph: bytes) -> tuple[Any, Any]:
    client = tritonclient.http.InferenceServerClient(f"127.0.0.1:{port}")
    client.load_model("tiny", config=CONFIG, files={"file:2/model.onnx": graph})
    handed = client.get_model_metadata("tiny")["versions"]
    with pytest.raises(InferenceServerException, match="files need the parameter 'config'") as caught:
        client.load_model("tiny", files={"file:2/model.onnx": graph})
    assert caught.value.status() == "400"
    client.load_model("tiny")
    return handed, client.get_model_metadata("tiny")["versions"]


@pytest.mark.parametrize("frontend", ["native"])  # of gRPC: it makes no difference here
async def test_http_hands_over_likewise(running: Running, repository: Path) -> None:
    found = await asyncio.to_thread(load_over_http, running.serving.rest_port, doubled(repository))
    assert found == (["2"], ["1"])


async def test_other_machines_hand_over_no_files_without_a_key(start: Start, repository: Path) -> None:
    running = await start(host="0.0.0.0")
    async with triton.InferenceServerClient(running.target) as client:
        files = {"file:1/model.onnx": doubled(repository)}
        status, text = await refused(client.load_model("tiny", config=CONFIG, files=files))
        assert (status, "only with API keys" in text) == ("StatusCode.PERMISSION_DENIED", True)
        await client.load_model("tiny", config=CONFIG)


@pytest.mark.parametrize("frontend", ["native"])
async def test_only_explicit_control_takes_a_model(start: Start) -> None:
    running = await start(model_control="none")
    async with triton.InferenceServerClient(running.target) as client:
        status, text = await refused(client.load_model("tiny", config=CONFIG))
    assert (status, "explicit turns it on" in text) == ("StatusCode.UNAVAILABLE", True)
