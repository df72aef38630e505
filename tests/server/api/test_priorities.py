"""`priority_levels` of config.pbtxt: lower numbers overtake, each level queues by its own policy."""

import asyncio
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.http

from tests.server.api.test_overload import Held, asking, connected, until
from tests.server.conftest import Running, Start, write_tiny

Code = grpc.StatusCode
LEVELS = "priority_levels: 3 default_priority_level: 2"
LOW = "priority_queue_policy { key: 3 value { max_queue_size: 2 allow_timeout_override: true } }"
HASTY = "priority_queue_policy { key: 1 value { default_timeout_microseconds: 1 } }"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """`tiny` with three levels, of which each batch has one item, `flat` with none, and two more with three."""
    root = tmp_path / "repository"
    for name, batching in (("tiny", f"{LEVELS} {LOW}"), ("hasty", f"{LEVELS} {HASTY}"), ("kept", LEVELS), ("flat", "")):
        write_tiny(root, name)
        text = f"max_batch_size: 1 dynamic_batching {{ {batching} }}"
        cache = "response_cache { enable: true }" if name == "kept" else ""
        (root / name / "config.pbtxt").write_text(f"{text} {cache}")
    return root


def of_level(value: float, priority: int | None, name: str = "tiny", **parameters: int) -> Any:
    request = asking(value)
    request.model_name = name
    if priority is not None:
        request.parameters["priority"].uint64_param = priority
    for key, number in parameters.items():
        request.parameters[key].int64_param = number
    return request


async def waiting(running: Running, stub: Any, *requests: Any) -> list[Any]:
    """The calls, each in the queue before the next one is made."""
    calls = []
    batcher = running.server.repository.get_model("tiny").batcher
    for request in requests:
        before = batcher.waiting_items
        calls.append(asyncio.ensure_future(stub.ModelInfer(request)))
        await until(lambda before=before: batcher.waiting_items > before)
    return calls


async def code_of(call: Any) -> tuple[Code, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code(), str(caught.value.details())


async def test_what_is_of_a_higher_level_overtakes_whoever_sent_it(start: Start) -> None:
    running = await start(threads=1)
    with Held(running) as held:
        async with connected(running) as one, connected(running) as other:
            calls = [asyncio.ensure_future(one.ModelInfer(of_level(0, None)))]
            await held.busy()
            calls += await waiting(running, one, of_level(30, 3), of_level(31, 3), of_level(20, None), of_level(10, 1))
            calls += await waiting(running, other, of_level(11, 1), of_level(21, 2), of_level(22, 0))
            held.gate.set()
            await asyncio.gather(*calls)
    order = [value for (value,) in held.batches]
    assert [value // 10 for value in order] == [0, 1, 1, 2, 2, 2, 3, 3]
    assert order[-2:] == [30, 31], "in the order of their arrival"


async def test_a_level_that_the_model_does_not_have_is_refused(start: Start) -> None:
    running = await start()
    async with connected(running) as stub:
        found = await code_of(stub.ModelInfer(of_level(0, 4)))
        assert found == (
            Code.INVALID_ARGUMENT,
            "priority 4: the model has levels 1 to 3 (priority_levels), 1 is the highest",
        )
        await stub.ModelInfer(of_level(0, 4, "flat"))  # without levels it has no effect, as in Triton
        await stub.ModelInfer(of_level(0, 3, "kept"))
        assert await code_of(stub.ModelInfer(of_level(0, 4, "kept"))) == found, "though the answer is in the cache"


async def test_each_level_has_its_own_limit_and_timeout(start: Start) -> None:
    running = await start(threads=1, queue_target_s=0)
    with Held(running) as held:
        async with connected(running) as stub:
            calls = [asyncio.ensure_future(stub.ModelInfer(of_level(0, 1)))]
            await held.busy()
            (hasty, *others) = await waiting(
                running, stub, of_level(1, 3, timeout=1), of_level(2, 3), of_level(3, 2, timeout=1), of_level(4, 2)
            )
            code, text = await code_of(stub.ModelInfer(of_level(5, 3)))
            assert (code, text) == (Code.RESOURCE_EXHAUSTED, "2 requests waiting, limit 2 (max_queue_size)")
            held.gate.set()
            await asyncio.gather(*calls, *others)
            assert (await code_of(hasty))[0] is Code.DEADLINE_EXCEEDED, "level 3 lets its callers choose"
    assert held.batches == [[0], [3], [4], [2]]


async def test_the_timeout_of_one_level_is_not_that_of_another(start: Start) -> None:
    running = await start(threads=1, queue_target_s=0)
    with Held(running) as held:  # both models run on one lane
        async with connected(running) as stub:
            first = asyncio.ensure_future(stub.ModelInfer(of_level(0, 1)))
            await held.busy()
            hasty = running.server.repository.get_model("hasty").batcher
            calls = [asyncio.ensure_future(stub.ModelInfer(of_level(1, level, "hasty"))) for level in (1, 2)]
            await until(lambda: hasty.waiting_items == 2)
            held.gate.set()
            await asyncio.gather(first, calls[1])
            assert (await code_of(calls[0]))[0] is Code.DEADLINE_EXCEEDED


async def test_what_waits_behind_a_request_is_no_reason_to_reject_it(start: Start) -> None:
    running = await start(threads=1, queue_target_s=0.12)
    batcher = running.server.repository.get_model("tiny").batcher
    (cost,) = batcher.costs.values()
    for _ in range(20):
        cost.learn(items=1, nbytes=16, device_s=0.02)
    with Held(running) as held:
        async with connected(running) as stub:
            calls = [asyncio.ensure_future(stub.ModelInfer(of_level(0, 2)))]
            await held.busy()
            calls += await waiting(running, stub, of_level(1, 2), of_level(2, 2))
            code, text = await code_of(stub.ModelInfer(of_level(3, 2)))
            assert (code, "2 items wait; the answer would take about 0.080 s" in text) == (
                Code.RESOURCE_EXHAUSTED,
                True,
            )
            calls += await waiting(running, stub, of_level(4, 1))
            held.gate.set()
            await asyncio.gather(*calls)
    assert held.batches == [[0], [4], [1], [2]]


async def test_a_full_queue_has_room_for_higher_levels_and_not_for_ever(start: Start) -> None:
    running = await start(threads=1, queue_target_s=0, max_queue_rows=2)
    with Held(running) as held:
        async with connected(running) as stub:
            calls = [asyncio.ensure_future(stub.ModelInfer(of_level(0, 2)))]
            await held.busy()
            calls += await waiting(running, stub, of_level(1, 2), of_level(2, 2))
            full = "1 items requested, {} waiting, limit 2 (max_queue_rows)"
            assert await code_of(stub.ModelInfer(of_level(3, 2))) == (Code.RESOURCE_EXHAUSTED, full.format(2))
            calls += await waiting(running, stub, of_level(4, 1), of_level(5, 1))
            assert await code_of(stub.ModelInfer(of_level(6, 1))) == (Code.RESOURCE_EXHAUSTED, full.format(4))
            held.gate.set()
            await asyncio.gather(*calls)


BAD = {
    "default": ("priority_levels: 2", "default priority level must be in range [1, 2], got 0"),
    "above": ("priority_levels: 2 default_priority_level: 3", "must be in range [1, 2], got 3"),
    "policy": (
        "priority_levels: 2 default_priority_level: 1 priority_queue_policy { key: 3 value {} }",
        "priority queue policy must have priority level in range [1, 2], got 3",
    ),
    "many": ("priority_levels: 257 default_priority_level: 1", "priority_levels 257: must be at most 256"),
}


@pytest.mark.parametrize("frontend", ["native"])  # what is loaded is the same for both
async def test_levels_that_do_not_fit_keep_the_model_from_loading(start: Start, repository: Path) -> None:
    for name, (batching, _) in BAD.items():
        write_tiny(repository, name)
        (repository / name / "config.pbtxt").write_text(f"dynamic_batching {{ {batching} }}")
    running = await start()
    found = {entry.name: entry.reason for entry in running.server.repository.index() if entry.failed}
    assert {name: reason in found[name] for name, (_, reason) in BAD.items()} == dict.fromkeys(BAD, True), found


def infer_over_http(port: int, priority: int) -> Any:
    tensor = tritonclient.http.InferInput("latent", [1, 4], "FP32")
    tensor.set_data_from_numpy(np.ones((1, 4), np.float32))
    return tritonclient.http.InferenceServerClient(f"127.0.0.1:{port}").infer("tiny", [tensor], priority=priority)


@pytest.mark.parametrize("frontend", ["native"])  # of gRPC: it makes no difference here
async def test_http_states_a_priority_likewise(start: Start) -> None:
    running = await start()
    port = running.serving.rest_port
    await asyncio.to_thread(infer_over_http, port, 3)
    with pytest.raises(tritonclient.utils.InferenceServerException, match="priority 4: the model has levels 1 to 3"):
        await asyncio.to_thread(infer_over_http, port, 4)
