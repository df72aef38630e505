"""Ensembles over real sockets: results, batches, statistics, limits, and what happens when something goes wrong in the
middle."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from tritonclient.grpc import InferInput, service_pb2, service_pb2_grpc
from tritonclient.grpc import aio as triton
from tritonclient.utils import InferenceServerException

from server.engines.onnx.cpu import OnnxCpuEngine
from tests.server.api.rest.conftest import client_of
from tests.server.api.test_kserve import picture
from tests.server.conftest import Running, Start, read_page, write_tiny
from tests.server.ensembles import DRAW, ENLARGE, LARGE, LATENT, ensemble_text, write_ensemble
from tests.server.graphs import write_styled, write_upscaler

Code = grpc.StatusCode
TWICE = ("up", {"image": "LARGE"}, {"upscaled": "HUGE"})
HUGE = ("HUGE", "TYPE_UINT8", "-1, -1, 3")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = tmp_path / "repository"
    write_tiny(root, "tiny")
    (root / "tiny" / "config.pbtxt").write_text("max_batch_size: 8 dynamic_batching {}")
    write_upscaler(root, "up")
    write_styled(root, "styled")
    write_ensemble(root, "large", ensemble_text())
    write_ensemble(root, "all", ensemble_text([TWICE, ENLARGE, DRAW], outputs=[LARGE, HUGE]))
    return root


@pytest.fixture
async def stub(running: Running) -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(running.target) as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


def latent(seed: int = 0, items: int = 1) -> Any:
    return np.random.RandomState(seed).randn(items, 4).astype(np.float32)


def given(array: Any) -> Any:
    tensor = InferInput("LATENT", list(array.shape), "FP32")
    tensor.set_data_from_numpy(array)
    return tensor


def enlarged(array: Any, scale: int = 2) -> Any:
    return picture(array).repeat(scale, 1).repeat(scale, 2)


def request(array: Any, model: str = "large") -> Any:
    message = service_pb2.ModelInferRequest(model_name=model, id="7")
    message.inputs.add(name="LATENT", datatype="FP32", shape=array.shape)
    message.raw_input_contents.append(array.tobytes())
    return message


async def refusal(call: Any, code: grpc.StatusCode = Code.INVALID_ARGUMENT) -> str:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert caught.value.code() is code, caught.value.details()
    return str(caught.value.details())


class Gate:
    """Holds the runs of one model, by the name of its input, while it is closed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Semaphore(0)
        self.batches: list[int] = []
        self.name = "image"
        real = OnnxCpuEngine.run

        def held(engine: Any, arrays: Any, whole_device: bool) -> Any:
            if self.name in arrays:
                self.entered.release()
                assert self.gate.wait(30)
                self.batches.append(len(arrays[self.name]))
            return real(engine, arrays, whole_device)

        monkeypatch.setattr(OnnxCpuEngine, "run", held)

    def close(self) -> None:
        """From now on; runs that came before, as of warming up, do not count as `busy`."""
        self.gate.clear()
        self.entered = threading.Semaphore(0)

    async def busy(self) -> None:
        assert await asyncio.to_thread(self.entered.acquire, timeout=30)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Gate:
    return Gate(monkeypatch)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.to_thread(threading.Event().wait, 0.001)


async def statistics(stub: Any) -> dict[str, Any]:
    answer = await stub.ModelStatistics(service_pb2.ModelStatisticsRequest())
    return {model.name: model for model in answer.model_stats}


async def index(stub: Any) -> dict[str, tuple[str, str]]:
    """State and reason of each model."""
    answer = await stub.RepositoryIndex(service_pb2.RepositoryIndexRequest())
    return {model.name: (model.state, model.reason) for model in answer.models}


async def test_it_gives_what_its_models_give_one_after_the_other(client: Any) -> None:
    small = latent(1, 3)
    answer = await client.infer("large", [given(small)])
    np.testing.assert_array_equal(answer.as_numpy("LARGE"), enlarged(small))
    answer = await client.infer("all", [given(small)])
    np.testing.assert_array_equal(answer.as_numpy("HUGE"), enlarged(small, 4))
    np.testing.assert_array_equal(answer.as_numpy("LARGE"), enlarged(small))


async def test_it_looks_like_any_other_model(client: Any, stub: Any) -> None:
    assert await client.is_model_ready("large")
    metadata = await client.get_model_metadata("large")
    assert (metadata.platform, list(metadata.versions)) == ("ensemble", ["1"])
    assert [(t.name, t.datatype, list(t.shape)) for t in metadata.inputs] == [("LATENT", "FP32", [-1, 4])]
    assert [(t.name, t.datatype, list(t.shape)) for t in metadata.outputs] == [("LARGE", "UINT8", [-1, -1, -1, 3])]
    config = (await client.get_model_config("large")).config
    assert (config.name, config.max_batch_size) == ("large", 8)
    assert [step.model_name for step in config.ensemble_scheduling.step] == ["tiny", "up"]
    assert (await index(stub))["large"] == ("READY", "")


async def test_its_models_count_the_request_too(client: Any, stub: Any, running: Running) -> None:
    await client.infer("all", [given(latent(1, 3))])
    found = await statistics(stub)
    for name, requests in (("all", 1), ("tiny", 1), ("up", 2)):
        total = found[name].inference_stats
        counts = (found[name].inference_count, found[name].execution_count, total.success.count, total.queue.count)
        assert counts == (3 * requests, requests, requests, requests), name
    whole = found["all"].inference_stats
    assert whole.compute_infer.ns >= found["tiny"].inference_stats.compute_infer.ns > 0
    _, page = await asyncio.to_thread(read_page, f"{running.url}/metrics")
    assert 'nv_inference_count{model="all",version="1"} 3' in page
    assert 'nv_inference_request_success{model="up",version="1"} 2' in page


async def test_a_stream_answers_in_order_and_names_the_step_of_an_error(stub: Any) -> None:
    requests = [request(latent(1)), request(latent(2)[:, :3]), request(latent(3), "all")]
    answers = [answer async for answer in stub.ModelStreamInfer(iter(requests))]
    assert [bool(answer.error_message) for answer in answers] == [False, True, False]
    assert "unexpected shape for input 'LATENT'" in answers[1].error_message
    large = np.frombuffer(answers[0].infer_response.raw_output_contents[0], np.uint8).reshape(1, 4, 4, 3)
    np.testing.assert_array_equal(large, enlarged(latent(1)))


async def test_http_runs_it_and_shows_it(running: Running) -> None:
    async with client_of(running) as http:
        body = {"inputs": [{"name": "LATENT", "shape": [1, 4], "datatype": "FP32", "data": latent(1).ravel().tolist()}]}
        answer = await http.post("/v2/models/large/infer", json=body)
        assert answer.status_code == 200, answer.text
        output = answer.json()["outputs"][0]
        np.testing.assert_array_equal(np.reshape(output["data"], output["shape"]), enlarged(latent(1)))
        config = (await http.get("/v2/models/large/config")).json()
        assert config["ensemble_scheduling"]["step"][0]["input_map"] == {"latent": "LATENT"}
        refused = await http.post("/v1/models/large:generate", json={"seed": 1})
        assert (refused.status_code, "is an ensemble" in refused.text) == (400, True)


async def test_requests_of_many_callers_share_the_batches_of_its_models(
    client: Any, gate: Gate, running: Running
) -> None:
    gate.name = "latent"
    gate.batches.clear()
    gate.close()
    batcher = running.server.repository.get_model("tiny").batcher
    calls = [asyncio.create_task(client.infer("large", [given(latent(seed))])) for seed in range(8)]
    calls += [asyncio.create_task(client.infer("tiny", [small(latent(seed))])) for seed in range(8)]
    await until(lambda: batcher.admitted == 16)
    gate.gate.set()
    answers = [await call for call in calls]
    for seed, answer in enumerate(answers[:8]):
        np.testing.assert_array_equal(answer.as_numpy("LARGE"), enlarged(latent(seed)))
    assert len(gate.batches) < 16
    assert max(gate.batches) > 1


def small(array: Any) -> Any:
    tensor = InferInput("latent", list(array.shape), "FP32")
    tensor.set_data_from_numpy(array)
    return tensor


async def test_values_that_a_model_would_refuse_are_refused_before_any_work(start: Start, repository: Path) -> None:
    steps = [
        ("styled", {"latent": "LATENT", "label": "LABEL"}, {"image": "FACE"}),
        ("tiny", {"latent": "LATENT"}, {"image": "OTHER"}),
    ]
    tensors = (
        [LATENT, ("LABEL", "TYPE_INT64", "1")],
        [("FACE", "TYPE_UINT8", "2,4,1"), ("OTHER", "TYPE_UINT8", "2,2,3")],
    )
    write_ensemble(repository, "faces", ensemble_text(steps, *tensors))
    running = await start()
    async with grpc.aio.insecure_channel(running.target) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        message = request(latent(1), "faces")
        message.inputs.add(name="LABEL", datatype="INT64", shape=[1, 1])
        message.raw_input_contents.append(np.array([2], np.int64).tobytes())
        answer = await stub.ModelInfer(message)
        assert [list(output.shape) for output in answer.outputs] == [[1, 2, 4, 1], [1, 2, 2, 3]]
        message.raw_input_contents[1] = np.array([3], np.int64).tobytes()
        text = await refusal(stub.ModelInfer(message))
        assert text == "step 1 (model 'styled'): input 'label': 3 is no class; must be 0..2"
        message.raw_input_contents[0] = np.full(4, np.nan, np.float32).tobytes()
        assert "contains values that are not finite" in await refusal(stub.ModelInfer(message))
        found = await statistics(stub)
        assert (found["tiny"].inference_count, found["styled"].inference_count) == (1, 1)


async def test_limits_count_the_final_size_before_any_work(start: Start) -> None:
    running = await start(max_whole_px=4 * 4, max_message_bytes=1 << 16)
    async with grpc.aio.insecure_channel(running.target) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        await stub.ModelInfer(request(latent(1)))
        text = await refusal(stub.ModelInfer(request(latent(1), "all")))
        assert text.startswith(
            "step 1 (model 'up'): the output for input 'image', in one piece: 8 x 8 = 64 px, at most"
        )
        assert (await statistics(stub))["tiny"].inference_count == 1


async def test_a_huge_image_is_refused_and_its_neighbours_are_answered(start: Start, repository: Path) -> None:
    image = ("IMAGE", "TYPE_UINT8", "-1, -1, 3")
    steps = [("up", {"image": "IMAGE"}, {"upscaled": "a"}), *_doubling(6)]
    write_ensemble(repository, "bomb", ensemble_text(steps, [image], [("g", "TYPE_UINT8", "-1,-1,3")]))
    running = await start()
    async with grpc.aio.insecure_channel(running.target) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        message = service_pb2.ModelInferRequest(model_name="bomb")
        message.inputs.add(name="IMAGE", datatype="UINT8", shape=[1, 600, 600, 3])
        message.raw_input_contents.append(bytes(600 * 600 * 3))
        text = await refusal(stub.ModelInfer(message))
        assert text.startswith("step ")
        assert "(max_" in text
        assert (await statistics(stub))["up"].inference_count == 0
        await stub.ModelInfer(request(latent(1)))


def _doubling(times: int) -> list[Any]:
    names = "abcdefghijkl"
    return [("up", {"image": names[i]}, {"upscaled": names[i + 1]}) for i in range(times)]


async def test_memory_between_the_steps_is_counted_before_any_work(start: Start, repository: Path, gate: Gate) -> None:
    steps = [DRAW, ("up", {"image": "small"}, {"upscaled": "a"}), *_doubling(8)]
    write_ensemble(repository, "deep", ensemble_text(steps, outputs=[("i", "TYPE_UINT8", "-1,-1,3")]))
    running = await start(max_held_bytes=1)
    async with grpc.aio.insecure_channel(running.target) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        gate.name = "latent"
        gate.close()
        first = asyncio.ensure_future(stub.ModelInfer(request(latent(1), "deep")))
        await gate.busy()
        text = await refusal(stub.ModelInfer(request(latent(1), "deep")), Code.RESOURCE_EXHAUSTED)
        assert "max_held_bytes" in text
        gate.gate.set()
        assert list((await first).outputs[0].shape) == [1, 1024, 1024, 3]
        await stub.ModelInfer(request(latent(1), "deep"))


async def test_a_model_of_two_steps_may_have_room_for_one(start: Start, repository: Path) -> None:
    policy = "default_queue_policy { max_queue_size: 1 }"
    (repository / "up" / "config.pbtxt").write_text(f"max_batch_size: 8 dynamic_batching {{ {policy} }}")
    running = await start(max_queue_rows=3)
    async with grpc.aio.insecure_channel(running.target) as channel:
        answer = await service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(request(latent(1, 2), "all"))
    assert list(answer.outputs[1].shape) == [2, 8, 8, 3]


async def test_a_batch_that_a_model_does_not_take_is_refused(client: Any) -> None:
    with pytest.raises(InferenceServerException, match="batch-size must be <= 8"):
        await client.infer("large", [given(latent(1, 9))])


async def test_a_caller_who_leaves_in_the_middle_stops_what_waits(
    client: Any, stub: Any, gate: Gate, running: Running
) -> None:
    gate.close()
    call = stub.ModelInfer(request(latent(1), "all"))
    await gate.busy()
    call.cancel()
    batcher = running.server.repository.get_model("up").batcher
    await until(lambda: not batcher.admitted)
    gate.gate.set()
    await client.infer("all", [given(latent(1))])
    found = await statistics(stub)
    assert (found["all"].inference_stats.fail.count, found["all"].inference_stats.success.count) == (1, 1)
    # Of its two steps with `up` the first had begun, the second had not.
    assert (found["up"].inference_stats.fail.count, found["tiny"].inference_stats.fail.count) == (1, 0)


async def test_the_deadline_is_one_for_all_steps(stub: Any, gate: Gate) -> None:
    gate.close()
    call = asyncio.ensure_future(stub.ModelInfer(request(latent(1), "all"), timeout=0.5))
    await refusal(call, Code.DEADLINE_EXCEEDED)
    gate.gate.set()
    await stub.ModelInfer(request(latent(1), "all"), timeout=30)


async def test_a_model_that_is_unloaded_in_the_middle_answers_what_was_accepted(
    client: Any, stub: Any, gate: Gate
) -> None:
    gate.name = "latent"
    gate.close()
    call = asyncio.create_task(client.infer("large", [given(latent(1))]))
    await gate.busy()
    unloading = asyncio.create_task(client.unload_model("up"))
    async with asyncio.timeout(30):
        while (await index(stub))["large"][0] != "UNAVAILABLE":
            pass
    await refusal(stub.ModelInfer(request(latent(1))), Code.NOT_FOUND)
    gate.gate.set()
    np.testing.assert_array_equal((await call).as_numpy("LARGE"), enlarged(latent(1)))
    await unloading


async def test_a_model_that_is_loaded_again_in_the_middle_answers_what_was_accepted(client: Any, gate: Gate) -> None:
    gate.name = "latent"
    gate.close()
    call = asyncio.create_task(client.infer("large", [given(latent(1))]))
    await gate.busy()
    loading = asyncio.create_task(client.load_model("up"))
    await asyncio.sleep(0.2)
    gate.gate.set()
    np.testing.assert_array_equal((await call).as_numpy("LARGE"), enlarged(latent(1)))
    await loading
    np.testing.assert_array_equal(
        (await client.infer("large", [given(latent(2))])).as_numpy("LARGE"), enlarged(latent(2))
    )


async def test_a_step_that_fails_is_named(stub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    real = OnnxCpuEngine.run

    def fail(engine: Any, arrays: Any, whole_device: bool) -> Any:
        if "image" in arrays:
            raise ArithmeticError("secret")
        return real(engine, arrays, whole_device)

    with monkeypatch.context() as patched:
        patched.setattr(OnnxCpuEngine, "run", fail)
        text = await refusal(stub.ModelInfer(request(latent(1))), Code.INTERNAL)
    assert text.startswith("step 2 (model 'up'): inference failed")
    assert "secret" not in text
    await stub.ModelInfer(request(latent(1)))
    found = await statistics(stub)
    assert (found["large"].inference_stats.fail.count, found["large"].inference_stats.success.count) == (1, 1)
    assert (found["tiny"].inference_stats.fail.count, found["tiny"].inference_stats.success.count) == (0, 2)


async def test_it_has_labels_and_a_histogram_of_its_own(start: Start, repository: Path) -> None:
    histogram = 'metric_control { metric_identifier { family: "nv_inference_first_response_histogram_ms" } }'
    more = f'metric_tags {{ key: "team" value: "faces" }} model_metrics {{ {histogram} }}'
    write_ensemble(repository, "large", ensemble_text(more=more))
    running = await start()
    async with triton.InferenceServerClient(running.target) as client:
        await client.infer("large", [given(latent(1))])
    _, page = await asyncio.to_thread(read_page, f"{running.url}/metrics")
    assert 'nv_inference_count{model="large",version="1",_team="faces"} 1' in page
    assert 'nv_inference_first_response_histogram_ms_count{model="large",version="1",_team="faces"} 1' in page


async def test_its_answers_can_be_kept(start: Start, repository: Path) -> None:
    write_ensemble(repository, "kept", ensemble_text(more="response_cache { enable: true }"))
    running = await start()
    async with triton.InferenceServerClient(running.target) as client:
        for _ in range(3):
            answer = await client.infer("kept", [given(latent(1))])
            np.testing.assert_array_equal(answer.as_numpy("LARGE"), enlarged(latent(1)))
        found = (await client.get_inference_statistics("kept")).model_stats[0]
        assert (found.execution_count, found.inference_stats.cache_hit.count) == (1, 2)
        await client.load_model("up")  # another model: nothing that was kept is of use
        await client.infer("kept", [given(latent(1))])
        found = (await client.get_inference_statistics("kept")).model_stats[0]
        assert found.execution_count == 2


async def test_models_with_and_without_a_batch_axis_go_together(start: Start, repository: Path) -> None:
    write_tiny(repository, "single", batched=False)
    (repository / "single" / "config.pbtxt").write_text("max_batch_size: 0")
    single = ("single", {"latent": "LATENT"}, {"image": "small"})
    write_ensemble(repository, "plain", ensemble_text(max_batch_size=0))
    write_ensemble(repository, "mixed", ensemble_text([single, ENLARGE], max_batch_size=0))
    running = await start()
    async with triton.InferenceServerClient(running.target) as client:
        for name in ("plain", "mixed"):
            answer = (await client.infer(name, [given(latent(1)[0])])).as_numpy("LARGE")
            np.testing.assert_array_equal(answer, enlarged(latent(1))[0])


async def test_a_shape_that_only_the_run_tells_is_checked_then(start: Start, repository: Path) -> None:
    write_ensemble(repository, "fixed", ensemble_text(outputs=[("LARGE", "TYPE_UINT8", "8, 8, 3")]))
    running = await start()
    async with grpc.aio.insecure_channel(running.target) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        text = await refusal(stub.ModelInfer(request(latent(1), "fixed")))
        assert text == "output 'LARGE' has shape [4, 4, 3], the config has [8, 8, 3]"


async def test_an_ensemble_may_be_a_step_of_another(start: Start, repository: Path) -> None:
    steps = [("large", {"LATENT": "LATENT"}, {"LARGE": "small"}), ("up", {"image": "small"}, {"upscaled": "LARGE"})]
    write_ensemble(repository, "outer", ensemble_text(steps))
    running = await start()
    async with grpc.aio.insecure_channel(running.target) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        answer = await stub.ModelInfer(request(latent(1), "outer"))
        found = np.frombuffer(answer.raw_output_contents[0], np.uint8).reshape(1, 8, 8, 3)
        np.testing.assert_array_equal(found, enlarged(latent(1), 4))
        counts = {name: found.inference_count for name, found in (await statistics(stub)).items()}
        assert (counts["outer"], counts["large"], counts["tiny"], counts["up"]) == (1, 1, 1, 2)
