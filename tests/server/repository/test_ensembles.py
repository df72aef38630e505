"""Ensembles in the repository: what is refused and why, and how they follow their models."""

import asyncio
import shutil
import threading
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf import json_format, text_format
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.grpc.model_config_pb2 import ModelConfig

from tests.server.conftest import Running, Start, read_page, write_tiny
from tests.server.ensembles import DRAW, ENLARGE, LARGE, LATENT, ensemble_text, write_ensemble
from tests.server.graphs import write_upscaler
from tests.server.repository.test_model_control import HeldFactory, load, unload

Code = grpc.StatusCode
SMALL = ("small", "TYPE_UINT8", "2, 2, 3")


@pytest.fixture
def frontend() -> str:
    return "native"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = tmp_path / "repository"
    write_tiny(root, "tiny")
    (root / "tiny" / "config.pbtxt").write_text("max_batch_size: 8")
    write_upscaler(root, "up")
    write_ensemble(root, "both", ensemble_text())
    return root


@pytest.fixture
async def stub(running: Running) -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(running.target) as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


async def index(stub: Any) -> dict[str, tuple[str, str]]:
    """State and reason of each model."""
    answer = await stub.RepositoryIndex(service_pb2.RepositoryIndexRequest())
    return {model.name: (model.state, model.reason) for model in answer.models}


async def infer(stub: Any, model: str = "both") -> Any:
    request = service_pb2.ModelInferRequest(model_name=model)
    request.inputs.add(name="LATENT", datatype="FP32", shape=[1, 4])
    request.raw_input_contents.append(np.ones(4, np.float32).tobytes())
    return await stub.ModelInfer(request)


async def refusal(call: Any, code: grpc.StatusCode) -> str:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert caught.value.code() is code, caught.value.details()
    return str(caught.value.details())


def steps(*given: Any, **more: Any) -> str:
    return ensemble_text(list(given), **more)


BACK = ("up", {"image": "LARGE"}, {"upscaled": "small"})
CIRCLE = ("up", {"image": "x"}, {"upscaled": "x"})
BAD: Mapping[str, tuple[str, str]] = {
    "unknown model": (
        steps(("nobody", {"latent": "LATENT"}, {"image": "small"}), ENLARGE),
        "its model 'nobody' is not in the repository, or not loaded",
    ),
    "missing input": (
        steps(("tiny", {"z": "LATENT"}, {"image": "small"}), ENLARGE),
        "ensemble tensor 'LATENT' is mapping to non-existing input 'z' in model 'tiny', which has latent",
    ),
    "missing output": (
        steps(("tiny", {"latent": "LATENT"}, {"picture": "small"}), ENLARGE),
        "ensemble tensor 'small' is mapped from non-existing output 'picture' in model 'tiny', which has image",
    ),
    "data type of an input": (
        ensemble_text(inputs=[("LATENT", "TYPE_FP64", "4")]),
        "ensemble tensor 'LATENT': inconsistent data type: TYPE_FP64 is inferred from model 'bad' while TYPE_FP32 is "
        "inferred from model 'tiny'",
    ),
    "data type between steps": (
        steps(("up", {"image": "IMAGE"}, {"upscaled": "z"}), ("tiny", {"latent": "z"}, {"image": "LARGE"}),
              inputs=[("IMAGE", "TYPE_UINT8", "-1,-1,3")]),
        "ensemble tensor 'z': inconsistent data type: TYPE_UINT8 is inferred from model 'up' while TYPE_FP32 is "
        "inferred from model 'tiny'",
    ),
    "shape": (
        ensemble_text(outputs=[("LARGE", "TYPE_UINT8", "-1, -1, 4")]),
        "ensemble tensor 'LARGE': inconsistent shape: [-1,-1,-1,4] is inferred from model 'bad' while [-1,-1,-1,3] is "
        "inferred from model 'up'",
    ),
    "batch axis": (
        ensemble_text(inputs=[("LATENT", "TYPE_FP32", "3, 5")], max_batch_size=0),
        "ensemble tensor 'LATENT': inconsistent shape: [3,5] is inferred from model 'bad' while",
    ),
    "batch size": (
        ensemble_text(max_batch_size=9),
        "ensemble 'bad' allows maximum batch size 9, but it contains model 'tiny' which only allows maximum batch size "
        "to be 8",
    ),
    "circle of steps": (
        steps(BACK, ENLARGE, inputs=[LATENT]),
        "config.pbtxt: ensemble input 'LATENT' is not used",
    ),
    "circle of steps beside others": (
        steps(DRAW, *(("up", {"image": one}, {"upscaled": other}) for one, other in ("ab", "ba")), outputs=[SMALL]),
        "ensemble_scheduling is circular: the steps 2 (model 'up'), 3 (model 'up') wait for each other",
    ),
    "a step that waits for itself": (
        steps(DRAW, CIRCLE, outputs=[SMALL]),
        "ensemble_scheduling is circular: the steps 2 (model 'up') wait for each other",
    ),
    "itself": (
        steps(("bad", {"LATENT": "LATENT"}, {"LARGE": "LARGE"})),
        "circular dependency between ensembles: bad -> bad",
    ),
    "a tensor from nowhere": (
        steps(DRAW, ("up", {"image": "smal"}, {"upscaled": "LARGE"})),
        "ensemble tensor 'smal' for input 'image' of step 2 (model 'up') is neither an input nor an output of a step",
    ),
    "a tensor from two steps": (
        steps(DRAW, DRAW, ENLARGE), "ensemble tensor 'small' comes from 2 places; it can from one only",
    ),
    "an output that nobody makes": (steps(DRAW), "ensemble output 'LARGE' is not made by any step"),
    "an input as the output": (
        ensemble_text(outputs=[LARGE, LATENT]), "ensemble output 'LATENT' is not made by any step",
    ),
    "no steps": ('platform: "ensemble"', "an ensemble has platform 'ensemble' and ensemble_scheduling with steps"),
    "another platform": (
        ensemble_text().replace('"ensemble"', '"onnxruntime_onnx"'), "an ensemble has platform 'ensemble' and",
    ),
    "no inputs": (steps(DRAW, ENLARGE, inputs=[]), "an ensemble has an input at least"),
    "no dims": (
        ensemble_text(outputs=[("LARGE", "TYPE_UINT8", "")]), "output 'LARGE' of an ensemble needs name, data_type and",
    ),
    "no input_map": (steps(("tiny", {}, {"image": "small"}), ENLARGE), "must specify 'input_map' in step 1"),
    "no version": (ensemble_text(version=0), "step 1: model_version 0: must be a version, or -1 for the newest"),
    "a version that is not there": (ensemble_text(version=7), "its model 'tiny' has no version 7; served are 1"),
    "instance_group": (
        ensemble_text(more="instance_group { count: 2 }"), "instance_group.count is not supported for an ensemble",
    ),
    "a namespace": (
        ensemble_text().replace("model_version", 'model_namespace: "x" model_version'),
        "ensemble_scheduling.step.model_namespace is not supported",
    ),
    "too many steps": (
        steps(*(("both", {"LATENT": "LATENT"}, {"LARGE": f"t{number}"}) for number in range(33)),
              outputs=[("t0", "TYPE_UINT8", "-1,-1,3")]),
        "ensemble 'bad' has more than 64 steps",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
async def test_what_does_not_fit_is_reported_and_harms_nobody(stub: Any, repository: Path, what: str) -> None:
    text, reason = BAD[what]
    write_ensemble(repository, "bad", text)
    assert reason in await refusal(stub.RepositoryModelLoad(load("bad")), Code.UNAVAILABLE)
    state, said = (await index(stub))["bad"]
    assert (state, reason in said) == ("UNAVAILABLE", True)
    await refusal(infer(stub, "bad"), Code.UNAVAILABLE)
    await infer(stub)


async def test_ensembles_that_need_each_other_are_both_reported(start: Start, repository: Path) -> None:
    for name, other in (("one", "two"), ("two", "one")):
        write_ensemble(repository, name, steps((other, {"LATENT": "LATENT"}, {"LARGE": "LARGE"})))
    running = await start()
    async with grpc.aio.insecure_channel(running.target) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        found = await index(stub)
        for name in ("one", "two"):
            assert found[name][0] == "UNAVAILABLE"
            assert "circular dependency between ensembles: " in found[name][1]
        await infer(stub)
        assert (await running.readyz())[0] == 503


async def test_an_ensemble_leaves_and_comes_back_with_its_model(stub: Any, running: Running) -> None:
    await stub.RepositoryModelUnload(unload("up"))
    assert (await index(stub))["both"] == ("UNAVAILABLE", "its model 'up' is not available: unloaded")
    assert not (await stub.ModelReady(service_pb2.ModelReadyRequest(name="both"))).ready
    await refusal(infer(stub), Code.NOT_FOUND)
    assert (await running.readyz())[0] == 200, "a client wanted that"
    await stub.RepositoryModelLoad(load("up"))
    assert (await index(stub))["both"] == ("READY", "")
    await infer(stub)
    assert (await running.readyz())[0] == 200


async def test_a_model_that_comes_back_with_other_tensors_does_not_fit(
    stub: Any, running: Running, repository: Path
) -> None:
    shutil.rmtree(repository / "up")
    write_tiny(repository, "up")
    (repository / "up" / "config.pbtxt").write_text("max_batch_size: 8")
    await stub.RepositoryModelLoad(load("up"))
    state, reason = (await index(stub))["both"]
    assert (state, "is mapping to non-existing input 'image' in model 'up'" in reason) == ("UNAVAILABLE", True)
    assert (await running.readyz())[0] == 503
    await refusal(infer(stub), Code.UNAVAILABLE)


async def test_loading_an_ensemble_loads_its_models(start: Start) -> None:
    running = await start(load_model="both")
    async with grpc.aio.insecure_channel(running.target) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        assert {name: state for name, (state, _) in (await index(stub)).items()} == {
            "both": "READY", "tiny": "READY", "up": "READY"
        }  # fmt: skip
        request = unload("both")
        request.parameters["unload_dependents"].bool_param = True
        await stub.RepositoryModelUnload(request)
        assert {state for state, _ in (await index(stub)).values()} == {"UNAVAILABLE"}
        assert (await running.readyz())[0] == 200
        await stub.RepositoryModelLoad(load("both"))
        await infer(stub)


async def test_loading_an_ensemble_waits_for_a_model_that_is_being_loaded(
    stub: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    factory = HeldFactory(monkeypatch)
    for name in ("both", "up"):
        await stub.RepositoryModelUnload(unload(name))
    factory.gate.clear()
    loads = [asyncio.ensure_future(stub.RepositoryModelLoad(load("up")))]
    await factory.busy()
    loads.append(asyncio.ensure_future(stub.RepositoryModelLoad(load("both"))))
    async with asyncio.timeout(30):
        while (await index(stub))["both"][0] != "LOADING":
            pass
    factory.gate.set()
    await loads[1]
    assert (await index(stub))["both"] == ("READY", "")
    await loads[0]


async def test_unloading_an_ensemble_leaves_its_models(stub: Any) -> None:
    await stub.RepositoryModelUnload(unload("both"))
    assert {name: state for name, (state, _) in (await index(stub)).items()} == {
        "both": "UNAVAILABLE", "tiny": "READY", "up": "READY"
    }  # fmt: skip
    await refusal(infer(stub), Code.NOT_FOUND)
    await stub.RepositoryModelUnload(unload("up"))
    await stub.RepositoryModelLoad(load("up"))
    assert (await index(stub))["both"] == ("UNAVAILABLE", "unloaded"), "nobody asked for it"


async def test_the_series_of_an_ensemble_leave_with_it_if_its_model_left_before(stub: Any, running: Running) -> None:
    await infer(stub)
    for name in ("tiny", "both"):
        await stub.RepositoryModelUnload(service_pb2.RepositoryModelUnloadRequest(model_name=name))
    _, page = await asyncio.to_thread(read_page, f"{running.url}/metrics")
    assert 'model="both"' not in page


async def test_a_bad_reload_leaves_what_serves(stub: Any, repository: Path) -> None:
    for text in ("platform: ", ensemble_text(max_batch_size=9)):
        write_ensemble(repository, "both", text)
        await refusal(stub.RepositoryModelLoad(load("both")), Code.UNAVAILABLE)
        state, reason = (await index(stub))["both"]
        assert (state, reason.startswith("reload failed: ")) == ("READY", True)
        await infer(stub)
    write_ensemble(repository, "both", ensemble_text(max_batch_size=4))
    await stub.RepositoryModelLoad(load("both"))
    assert (await index(stub))["both"] == ("READY", "")
    config = await stub.ModelConfig(service_pb2.ModelConfigRequest(name="both"))
    assert config.config.max_batch_size == 4


async def test_a_config_that_a_client_hands_over_counts_until_the_next_load(stub: Any) -> None:
    for size in (3, 9):
        request = load("both")
        config = text_format.Parse(ensemble_text(max_batch_size=size), ModelConfig())
        request.parameters["config"].string_param = json_format.MessageToJson(config)
        if size > 8:
            await refusal(stub.RepositoryModelLoad(request), Code.UNAVAILABLE)
        else:
            await stub.RepositoryModelLoad(request)
        found = await stub.ModelConfig(service_pb2.ModelConfigRequest(name="both"))
        assert found.config.max_batch_size == 3
        await infer(stub)
    await stub.RepositoryModelLoad(load("both"))
    found = await stub.ModelConfig(service_pb2.ModelConfigRequest(name="both"))
    assert found.config.max_batch_size == 8


async def test_a_folder_may_turn_into_an_ensemble_and_back(stub: Any, repository: Path) -> None:
    write_tiny(repository, "two")
    await stub.RepositoryModelLoad(load("two"))
    shutil.rmtree(repository / "two")
    write_ensemble(repository, "two", ensemble_text(max_batch_size=9))
    await refusal(stub.RepositoryModelLoad(load("two")), Code.UNAVAILABLE)
    assert (await stub.ModelReady(service_pb2.ModelReadyRequest(name="two"))).ready, "the old one serves"
    write_ensemble(repository, "two", ensemble_text())
    await stub.RepositoryModelLoad(load("two"))
    await infer(stub, "two")
    shutil.rmtree(repository / "two")
    write_tiny(repository, "two")
    await stub.RepositoryModelLoad(load("two"))
    metadata = await stub.ModelMetadata(service_pb2.ModelMetadataRequest(name="two"))
    assert metadata.platform == "onnxruntime_onnx"
    assert [tensor.name for tensor in metadata.inputs] == ["latent"]


async def test_versions_follow_the_policy_and_none_is_version_1(start: Start, repository: Path) -> None:
    shutil.rmtree(repository / "both" / "1")
    write_ensemble(repository, "many", ensemble_text(more="version_policy { all {} }"))
    (repository / "many" / "3").mkdir()
    running = await start()
    async with grpc.aio.insecure_channel(running.target) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        for name, versions in (("both", ["1"]), ("many", ["1", "3"])):
            metadata = await stub.ModelMetadata(service_pb2.ModelMetadataRequest(name=name))
            assert list(metadata.versions) == versions
        assert (await infer(stub, "many")).model_version == "3"


async def test_the_version_that_a_step_names_serves_it(start: Start, repository: Path) -> None:
    shutil.copytree(repository / "up" / "1", repository / "up" / "2")
    config = repository / "up" / "config.pbtxt"
    config.write_text(config.read_text() + "\nversion_policy { all {} }")
    write_ensemble(repository, "both", ensemble_text(version=1))
    running = await start()
    async with grpc.aio.insecure_channel(running.target) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        await infer(stub)
        found = await stub.ModelStatistics(service_pb2.ModelStatisticsRequest(name="up"))
        counts = {each.version: each.inference_count for each in found.model_stats}
        assert counts == {"1": 1, "2": 0}


async def test_polling_finds_ensembles_and_what_becomes_of_their_models(start: Start, repository: Path) -> None:
    shutil.rmtree(repository / "up")
    running = await start(model_control="poll", repository_poll_s=0.1, strict_readiness=False)
    async with grpc.aio.insecure_channel(running.target) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        assert "'up' is not in the repository" in (await index(stub))["both"][1]

        async def until(state: str) -> None:
            async with asyncio.timeout(60):
                while (await index(stub)).get("both", ("gone", ""))[0] != state:
                    await asyncio.to_thread(threading.Event().wait, 0.05)

        write_upscaler(repository, "up")
        await until("READY")
        await infer(stub)
        shutil.rmtree(repository / "tiny")
        await until("UNAVAILABLE")
        shutil.rmtree(repository / "both")
        await until("gone")


async def test_fields_that_an_ensemble_has_no_use_for_are_logged(
    stub: Any, repository: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_ensemble(repository, "both", ensemble_text(more="optimization { priority: PRIORITY_MAX }"))
    await stub.RepositoryModelLoad(load("both"))
    assert "optimization.priority" in " ".join(str(record.__dict__.get("fields")) for record in caplog.records)
