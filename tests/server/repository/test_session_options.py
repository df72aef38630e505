"""What config.pbtxt says of ONNX Runtime's sessions on the CPU is what they have, or is refused, or is said."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from tritonclient.grpc import aio as triton

from server.engines.onnx.cpu import cores
from server.engines.openvino import available
from tests.server.api.test_kserve import latent_input, picture
from tests.server.conftest import Running, Start

FRONTENDS = pytest.mark.parametrize("frontend", ["native"])  # what is loaded is the same for both
LATENT = np.random.RandomState(0).rand(3, 4).astype(np.float32)


def parameters(**values: str) -> str:
    rows = (f'parameters {{ key: "{key}" value {{ string_value: "{value}" }} }}' for key, value in values.items())
    return " ".join(rows)


def write(repository: Path, *texts: str) -> None:
    (repository / "tiny" / "config.pbtxt").write_text(" ".join(("max_batch_size: 8", *texts)))


def sessions(running: Running) -> tuple[Any, Any]:
    engine: Any = running.server.repository.get_model("tiny").engine
    return engine._shared, engine._whole


async def image(running: Running) -> Any:
    async with triton.InferenceServerClient(running.target) as client:
        return (await client.infer("tiny", [latent_input(LATENT)])).as_numpy("image")


@FRONTENDS
async def test_the_sessions_have_what_the_parameters_say(start: Start, repository: Path) -> None:
    named = {
        "intra_op_thread_count": "3",
        "inter_op_thread_count": "2",
        "execution_mode": "1",
        "enable_mem_arena": "0",
        "enable_mem_pattern": "0",
        "session.use_device_allocator_for_initializers": "1",
    }
    write(repository, parameters(**named), "optimization { graph { level: -1 } }")
    running = await start(threads=4)
    shared, whole = sessions(running)
    assert shared is whole, "with threads of its own a run needs no other session"
    found = shared.get_session_options()
    assert (found.intra_op_num_threads, found.inter_op_num_threads) == (3, 2)
    assert found.execution_mode == ort.ExecutionMode.ORT_PARALLEL
    assert (found.enable_cpu_mem_arena, found.enable_mem_pattern) == (False, False)
    assert found.graph_optimization_level == ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    assert found.get_session_config_entry("session.use_device_allocator_for_initializers") == "1"
    np.testing.assert_array_equal(await image(running), picture(LATENT))
    running.server.repository.get_model("tiny").engine.trim()  # type: ignore[attr-defined]
    np.testing.assert_array_equal(await image(running), picture(LATENT))


@FRONTENDS
async def test_threads_beyond_those_of_the_machine_are_not_made(
    start: Start, repository: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(repository, parameters(intra_op_thread_count="1000", inter_op_thread_count="1000", execution_mode="1"))
    most = max(4, cores())
    running = await start(threads=4)
    found = sessions(running)[0].get_session_options()
    assert (found.intra_op_num_threads, found.inter_op_num_threads) == (most, most)
    said = [record.fields["what"] for record in caplog.records if record.message == "config.pbtxt: no effect"]  # type: ignore[attr-defined]
    why = f"1000: a run gets {most} threads, as many as there are cores (or --threads)"
    assert said == [f"intra_op_thread_count {why}", f"inter_op_thread_count {why}"]


@FRONTENDS
async def test_zero_is_the_servers_choice_and_memory_is_given_back_after_each_run(
    start: Start, repository: Path
) -> None:
    key = "memory.enable_memory_arena_shrinkage"
    write(repository, parameters(intra_op_thread_count="0", execution_mode="0", **{key: "cpu:0;gpu:0"}))
    running = await start(threads=4)
    shared, whole = sessions(running)
    assert [each.get_session_options().intra_op_num_threads for each in (shared, whole)] == [1, 4]
    engine: Any = running.server.repository.get_model("tiny").engine
    assert engine._options.get_run_config_entry(key) == "cpu:0"
    engine.interrupt()
    assert engine._options.get_run_config_entry(key) == "cpu:0"
    np.testing.assert_array_equal(await image(running), picture(LATENT))


@FRONTENDS
@pytest.mark.parametrize(("level", "name"), [(1, "ORT_ENABLE_EXTENDED"), (2, "ORT_DISABLE_ALL"), (0, "ORT_ENABLE_ALL")])
async def test_the_graph_is_optimised_as_far_as_the_level_says(
    start: Start, repository: Path, level: int, name: str
) -> None:
    write(repository, f"optimization {{ graph {{ level: {level} }} }}")
    running = await start()
    found = {each.get_session_options().graph_optimization_level for each in sessions(running)}
    assert found == {getattr(ort.GraphOptimizationLevel, name)}


@FRONTENDS
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (parameters(intra_op_thread_count="-1"), "intra_op_thread_count '-1': must be a number from 0 to 1024"),
        (parameters(inter_op_thread_count="1025"), "inter_op_thread_count '1025': must be a number from 0 to 1024"),
        (parameters(execution_mode="2"), "execution_mode '2': must be a number from 0 to 1"),
        (parameters(enable_mem_arena="yes"), "enable_mem_arena 'yes': must be a number from 0 to 1"),
        (parameters(**{"memory.enable_memory_arena_shrinkage": "1"}), "_shrinkage '1' is not supported; cpu:0 is"),
        ("optimization { graph { level: 3 } }", "optimization.graph.level 3 is not supported; -1, 0, 1 and 2 are"),
        (
            'optimization { execution_accelerators { cpu_execution_accelerator { name: "tvm" } } }',
            "cpu_execution_accelerator 'tvm' is not supported; 'openvino' is",
        ),
    ],
)
async def test_what_triton_does_not_document_is_refused(start: Start, repository: Path, text: str, reason: str) -> None:
    write(repository, text)
    running = await start()
    (found,) = (entry.reason for entry in running.server.repository.index() if entry.name == "tiny")
    assert reason in found


@FRONTENDS
@pytest.mark.skipif(not available(), reason="OpenVINO is not installed")
async def test_another_engine_says_that_they_have_no_effect_on_it(
    start: Start, repository: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    accelerator = 'cpu_execution_accelerator { name: "openvino" parameters { key: "device" value: "CPU" } }'
    write(
        repository,
        parameters(intra_op_thread_count="2"),
        f"optimization {{ graph {{ level: 1 }} execution_accelerators {{ {accelerator} }} }}",
    )
    running = await start()
    assert running.server.repository.get_model("tiny").choice.engine == "openvino"
    said = [record.fields["what"] for record in caplog.records if record.message == "config.pbtxt: no effect"]  # type: ignore[attr-defined]
    assert said == [
        "cpu_execution_accelerator: device: the server chooses how OpenVINO runs",
        "intra_op_thread_count, optimization.graph: for ONNX Runtime on the CPU; openvino runs the model on cpu",
    ]
    np.testing.assert_allclose((await image(running)).astype(int), picture(LATENT).astype(int), atol=1)
