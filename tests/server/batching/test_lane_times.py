"""What the lanes of a device did, and what the page of a running server says of it and of its readiness."""

import asyncio
import re
import threading
import time
import urllib.request
from typing import Any

import grpc
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from server.batching.device import Device
from server.engines.base import CPU, DeviceId
from server.observability.saturation import LaneTime
from server.repository.devices import Devices
from server.repository.placement import Placement
from tests.server.batching.test_batcher import ask, measured, reached, row
from tests.server.conftest import HeldEngine, MakeBatcher, Running, Start, write_tiny

LONG_S = 0.05  # of work, so that what lies between two readings of a clock does not count


def device_of(batcher: Any) -> Device:
    found: Device = next(iter(batcher.engines))
    return found


async def rate(device: Device) -> tuple[float, float]:
    """The least and the most that `busy_s` may have grown a second, over LONG_S from now on."""
    outer, before, inner = time.monotonic(), device.busy_s, time.monotonic()
    await reached(time.monotonic() + LONG_S)
    inner_end, after, outer_end = time.monotonic(), device.busy_s, time.monotonic()
    return (after - before) / (outer_end - outer), (after - before) / (inner_end - inner)


async def test_an_idle_device_did_nothing(make_batcher: MakeBatcher) -> None:
    assert await rate(device_of(make_batcher())) == (0.0, 0.0)


@pytest.mark.parametrize(("callers", "busy"), [(1, 2), (2, 2), (5, 2)])
async def test_a_caller_alone_or_several_keep_all_lanes_busy(
    make_batcher: MakeBatcher, engine: HeldEngine, callers: int, busy: int
) -> None:
    batcher = make_batcher(lanes=2, max_batch_size=1)
    engine.gate.clear()
    tasks = [asyncio.create_task(ask(batcher, row(value))) for value in range(callers)]
    for _ in range(min(callers, 2)):
        await engine.busy()
    least, most = await rate(device_of(batcher))
    assert least <= busy + 1e-6
    assert most >= busy - 1e-6
    engine.gate.set()
    await asyncio.gather(*tasks)
    assert await rate(device_of(batcher)) == (0.0, 0.0)


async def test_one_of_two_lanes_busy_is_half_of_the_device(
    make_batcher: MakeBatcher, engine: HeldEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    batcher = make_batcher(lanes=2)
    run = engine.run
    monkeypatch.setattr(
        engine, "run", lambda arrays, whole: run(arrays, whole) if arrays["x"][0, 0] == 1 else {"y": arrays["x"]}
    )
    engine.gate.clear()
    long = asyncio.create_task(ask(batcher, row(1)))
    await asyncio.gather(ask(batcher, row(2)), engine.busy())  # they met, so nobody gets the device for itself
    least, most = await rate(device_of(batcher))
    assert least <= 1 + 1e-6
    assert most >= 1 - 1e-6
    engine.gate.set()
    await long


async def test_a_batch_formed_ahead_is_not_at_work_yet(make_batcher: MakeBatcher, engine: HeldEngine) -> None:
    batcher = make_batcher(lanes=2, max_batch_size=1)
    measured(batcher, item_s=0.0001)
    engine.gate.clear()
    began = time.monotonic()
    tasks = [asyncio.create_task(ask(batcher, row(value))) for value in range(4)]
    for _ in range(2):
        await engine.busy()
    assert batcher.waiting_items == 1, "two run and one is formed"
    least, most = await rate(device_of(batcher))
    assert least <= 2 + 1e-6
    assert most >= 2 - 1e-6
    engine.gate.set()
    await asyncio.gather(*tasks)
    assert device_of(batcher).busy_s <= 2 * (time.monotonic() - began)


async def test_a_run_on_the_loops_own_thread_counts_too(make_batcher: MakeBatcher, engine: HeldEngine) -> None:
    batcher = make_batcher(lanes=2)
    measured(batcher, item_s=0.001)
    threading.Timer(LONG_S, engine.gate.set).start()
    engine.gate.clear()
    began = time.monotonic()
    await ask(batcher, row(1))
    assert engine.threads == [threading.main_thread()]
    assert LONG_S <= device_of(batcher).busy_s <= 2 * (time.monotonic() - began)
    assert device_of(batcher).busy_s >= 2 * LONG_S * 0.8, "it had both lanes"
    assert await rate(device_of(batcher)) == (0.0, 0.0)


async def test_a_run_that_fails_gives_its_lane_back(make_batcher: MakeBatcher) -> None:
    batcher = make_batcher()
    with pytest.raises(Exception, match="inference failed"):
        await ask(batcher, row(float("nan")))
    assert device_of(batcher).busy_s > 0
    assert await rate(device_of(batcher)) == (0.0, 0.0)


async def test_each_device_that_a_model_uses_is_listed() -> None:
    devices = Devices((0,), 3)
    assert devices.lane_times() == []
    devices.at(Placement(CPU))
    devices.at(Placement(DeviceId("cuda"), 1))
    assert devices.lane_times() == [LaneTime("cpu", 0, 3, 0.0), LaneTime("cuda:0", 1, 1, 0.0)]
    devices.close()


async def page(running: Running) -> dict[str, float]:
    """Every line of /metrics: what stands before its value, and the value."""

    def read() -> str:
        with urllib.request.urlopen(f"{running.url}/metrics") as answer:
            return str(answer.read().decode())

    lines = re.findall(r"^([^#]\S*) (\S+)$", await asyncio.to_thread(read), re.MULTILINE)
    return {series: float(value) for series, value in lines}


async def ready(running: Running) -> dict[str, float]:
    """The gauges of readiness on the page; the server's own, which /readyz agrees with, is called "server"."""
    shown = await page(running)
    code, _ = await running.readyz()
    assert shown["ganserve_ready"] == (code == 200)
    models = {series: value for series, value in shown.items() if series.startswith("ganserve_model_ready")}
    return {"server": shown["ganserve_ready"], **{series.split('"')[1]: value for series, value in models.items()}}


async def test_readiness_is_on_the_page_through_loading_failing_and_unloading(start: Start, tmp_path: Any) -> None:
    write_tiny(tmp_path / "own", "tiny")
    write_tiny(tmp_path / "own", "other")
    running = await start(repository=tmp_path / "own")
    assert await ready(running) == {"server": 1, "tiny": 1, "other": 1}
    graph = tmp_path / "own" / "tiny" / "1" / "model.onnx"
    async with grpc.aio.insecure_channel(running.target) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        load = service_pb2.RepositoryModelLoadRequest(model_name="tiny")
        unload = service_pb2.RepositoryModelUnloadRequest(model_name="tiny")
        whole = graph.read_bytes()
        graph.write_bytes(b"broken")
        with pytest.raises(grpc.aio.AioRpcError):
            await stub.RepositoryModelLoad(load)
        assert await ready(running) == {"server": 1, "tiny": 1, "other": 1}, "what served before still does"
        await stub.RepositoryModelUnload(unload)
        assert await ready(running) == {"server": 1, "other": 1}, "unloaded on purpose"
        with pytest.raises(grpc.aio.AioRpcError):
            await stub.RepositoryModelLoad(load)
        assert await ready(running) == {"server": 0, "tiny": 0, "other": 1}
        await stub.RepositoryModelUnload(unload)
        assert await ready(running) == {"server": 1, "other": 1}, "given up on purpose"
        graph.write_bytes(whole)
        await stub.RepositoryModelLoad(load)
        assert await ready(running) == {"server": 1, "tiny": 1, "other": 1}


async def test_a_running_servers_page_has_the_lanes_of_its_device(start: Start) -> None:
    running = await start(threads=2)
    shown = await page(running)
    assert shown['ganserve_device_lanes{device="cpu",slot="0"}'] == 2
    assert shown['ganserve_device_busy_seconds_total{device="cpu",slot="0"}'] >= 0
    assert 0 <= shown["ganserve_saturation"] <= 1
