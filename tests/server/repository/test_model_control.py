"""Loads and unloads run to their end, whether or not the client that asked for them waits."""

import asyncio
import gc
import threading
import weakref
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from server.repository.engine_choice import EngineFactory
from server.repository.operations import Operations
from tests.server.conftest import Running, Start, write_tiny

Code = grpc.StatusCode


def load(name: str = "tiny") -> service_pb2.RepositoryModelLoadRequest:
    return service_pb2.RepositoryModelLoadRequest(model_name=name)


def unload(name: str = "tiny") -> service_pb2.RepositoryModelUnloadRequest:
    return service_pb2.RepositoryModelUnloadRequest(model_name=name)


class HeldFactory:
    """Opens engines once `gate` is open, and knows those that live."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Semaphore(0)
        self.opened = 0
        self.engines: weakref.WeakSet[Any] = weakref.WeakSet()
        real = EngineFactory.open

        def held(factory: EngineFactory, *given: Any) -> Any:
            self.entered.release()
            assert self.gate.wait(30)
            found = real(factory, *given)
            self.opened += 1
            self.engines.add(found.engine)
            return found

        monkeypatch.setattr(EngineFactory, "open", held)

    async def busy(self) -> None:
        """Returns once one more engine is being opened."""
        assert await asyncio.to_thread(self.entered.acquire, timeout=30)


@pytest.fixture
def factory(monkeypatch: pytest.MonkeyPatch) -> HeldFactory:
    return HeldFactory(monkeypatch)


class Asked:
    """Counts the loads and unloads that have reached the repository."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._count = asyncio.Semaphore(0)
        real = Operations.run

        def counted(operations: Operations, *given: Any) -> Any:
            self._count.release()
            return real(operations, *given)

        monkeypatch.setattr(Operations, "run", counted)

    async def reach(self, more: int) -> None:
        """Returns once so many more have come."""
        for _ in range(more):
            async with asyncio.timeout(30):
                await self._count.acquire()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """`tiny`, with a config, so that each load opens one engine."""
    write_tiny(tmp_path / "repository", "tiny")
    (tmp_path / "repository" / "tiny" / "config.pbtxt").write_text("max_batch_size: 2")
    return tmp_path / "repository"


@pytest.fixture
async def running(start: Start, factory: HeldFactory) -> Running:
    running = await start()
    await factory.busy()
    return running


@pytest.fixture
async def stub(running: Running, factory: HeldFactory) -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(running.target) as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)
        factory.gate.set()


async def index(stub: Any) -> dict[str, str]:
    answer = await stub.RepositoryIndex(service_pb2.RepositoryIndexRequest())
    return {model.name: model.state for model in answer.models}


async def settled(stub: Any, state: str) -> None:
    """Returns once `tiny` is in that state."""
    async with asyncio.timeout(30):
        while (await index(stub))["tiny"] != state:
            pass


async def leave(call: Any) -> None:
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call


async def test_a_load_whose_caller_leaves_ends_and_leaves_nothing_behind(stub: Any, factory: HeldFactory) -> None:
    for _ in range(3):
        factory.gate.clear()
        call = stub.RepositoryModelLoad(load())
        await factory.busy()
        assert await index(stub) == {"tiny": "LOADING"}
        await leave(call)
        factory.gate.set()
        await settled(stub, "READY")
    await stub.RepositoryModelLoad(load())
    async with asyncio.timeout(30):
        while len(factory.engines) > 1:  # the one that serves is left
            await index(stub)
            gc.collect()


async def test_a_first_load_whose_caller_leaves_serves(stub: Any, factory: HeldFactory, repository: Path) -> None:
    write_tiny(repository, "late")
    factory.gate.clear()
    call = stub.RepositoryModelLoad(load("late"))
    await factory.busy()
    await leave(call)
    factory.gate.set()
    async with asyncio.timeout(30):
        while (await index(stub))["late"] != "READY":
            pass
    assert (await stub.ModelReady(service_pb2.ModelReadyRequest(name="late"))).ready


async def test_an_unload_whose_caller_leaves_ends(
    stub: Any, running: Running, engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = running.server.repository.get_model("tiny")
    real = model.engine.run

    def held(arrays: Any, whole_device: bool) -> Any:
        engine.entered.release()
        assert engine.gate.wait(30)
        return real(arrays, whole_device)

    monkeypatch.setattr(model.engine, "run", held)
    engine.gate.clear()
    tensor = {"name": "latent", "datatype": "FP32", "shape": [1, 4]}
    infer = stub.ModelInfer(
        service_pb2.ModelInferRequest(
            model_name="tiny", inputs=[tensor], raw_input_contents=[np.ones(4, np.float32).tobytes()]
        )
    )
    await engine.busy()
    call = stub.RepositoryModelUnload(unload())
    await settled(stub, "UNLOADING")
    await leave(call)
    engine.gate.set()
    assert len((await infer).raw_output_contents) == 1, "accepted before the unload"
    await settled(stub, "UNAVAILABLE")
    await stub.RepositoryModelLoad(load())
    assert await index(stub) == {"tiny": "READY"}


async def test_loads_that_come_while_one_runs_share_the_next_one(
    stub: Any, factory: HeldFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Asked(monkeypatch)
    before = factory.opened
    factory.gate.clear()
    first = stub.RepositoryModelLoad(load())
    await factory.busy()
    calls = [stub.RepositoryModelLoad(load()) for _ in range(8)]
    await asked.reach(9)
    factory.gate.set()
    await asyncio.gather(first, *calls)
    assert factory.opened == before + 2, "one that ran, and one for all that came meanwhile"
    assert await index(stub) == {"tiny": "READY"}


async def test_the_last_of_loads_and_unloads_wins_and_too_many_are_refused(
    stub: Any, factory: HeldFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Asked(monkeypatch)
    factory.gate.clear()
    first = stub.RepositoryModelLoad(load())
    await asked.reach(1)
    await factory.busy()
    waiting = []
    for number in range(16):
        call = stub.RepositoryModelLoad(load()) if number % 2 else stub.RepositoryModelUnload(unload())
        waiting.append(call)
        await asked.reach(1)
    with pytest.raises(grpc.aio.AioRpcError, match="16 loads and unloads of model 'tiny' wait already") as caught:
        await stub.RepositoryModelUnload(unload())
    assert caught.value.code() is Code.RESOURCE_EXHAUSTED
    for call in waiting[:8]:
        await leave(call)
    factory.gate.set()
    await asyncio.gather(first, *waiting[8:])
    assert await index(stub) == {"tiny": "READY"}


async def test_a_server_that_stops_gives_up_a_load(running: Running, stub: Any, factory: HeldFactory) -> None:
    factory.gate.clear()
    call = stub.RepositoryModelLoad(load())
    await factory.busy()
    await leave(call)
    running.stop.set()
    asyncio.get_running_loop().call_later(0.2, factory.gate.set)  # a thread cannot be stopped
    async with asyncio.timeout(20):
        await running.done


async def test_callers_come_again_while_a_model_loads_and_not_once_it_is_unloaded(
    running: Running, factory: HeldFactory, stub: Any
) -> None:
    tensor = {"name": "latent", "datatype": "FP32", "shape": [1, 4]}
    values = [np.ones(4, np.float32).tobytes()]

    async def code(version: str = "") -> tuple[grpc.StatusCode, str]:
        request = service_pb2.ModelInferRequest(
            model_name="tiny", model_version=version, inputs=[tensor], raw_input_contents=values
        )
        try:
            await stub.ModelInfer(request)
        except grpc.aio.AioRpcError as error:
            return error.code(), str(error.details())
        return Code.OK, ""

    await stub.RepositoryModelUnload(unload())
    assert (await code())[0] is Code.NOT_FOUND
    factory.gate.clear()
    loading = asyncio.ensure_future(stub.RepositoryModelLoad(load()))
    await factory.busy()
    assert await code() == (
        Code.UNAVAILABLE,
        "Request for unknown model: 'tiny' has no available versions: it is LOADING",
    )
    assert (await code("1"))[0] is Code.UNAVAILABLE
    assert (await code("2"))[0] is Code.NOT_FOUND, "no version that is on its way"
    factory.gate.set()
    await loading
    assert (await code())[0] is Code.OK
