"""What the server's tests share: an engine that can be held, and the parts around it."""

import asyncio
import threading
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from tritonclient.grpc import aio as triton

from artifact.spec import TensorSpec
from server.app import Server, Serving
from server.batching.batcher import Batcher
from server.batching.device import Device
from server.batching.policy import Policy
from server.engines.base import Arrays
from server.environment import read_settings
from server.errors import InvalidRequest
from server.observability.metrics import Metrics


class HeldEngine:
    """Doubles its input once `gate` is open; fails on a batch with a NaN, and rejects items longer than 20 values;
    remembers what it ran and the threads of its runs and of its end."""

    inputs = (TensorSpec("x", "FP32", (-1,)),)
    outputs = (TensorSpec("y", "FP32", (-1,)),)

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Semaphore(0)
        self.runs: list[tuple[int, bool]] = []
        self.batches: list[NDArray[Any]] = []
        self.threads: list[threading.Thread] = []
        self.closed_on: list[threading.Thread] = []

    def check(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        if shapes["x"][1] > 20:
            raise InvalidRequest(f"input 'x' has {shapes['x'][1]} values per row; at most 20")

    def run(self, arrays: Arrays, whole_device: bool) -> dict[str, NDArray[Any]]:
        self.runs.append((len(arrays["x"]), whole_device))
        self.batches.append(arrays["x"])
        self.threads.append(threading.current_thread())
        self.entered.release()
        assert self.gate.wait(30)
        if np.isnan(arrays["x"]).any():
            raise ArithmeticError("poison")
        return {"y": arrays["x"] * 2}

    def close(self) -> None:
        self.closed_on.append(threading.current_thread())

    async def busy(self) -> None:
        """Returns once one more run has begun."""
        assert await asyncio.to_thread(self.entered.acquire, timeout=30)


@pytest.fixture
def engine() -> HeldEngine:
    return HeldEngine()


MakeBatcher = Callable[..., Batcher]


@pytest.fixture
async def make_batcher(engine: HeldEngine) -> AsyncIterator[MakeBatcher]:
    """A batcher over the held engine: `make_batcher(lanes=1, max_batch_size=8, ...policy fields)`."""
    devices: dict[tuple[int, bool], Device] = {}

    def make(lanes: int = 1, max_batch_size: int = 8, name: str = "m", is_cpu: bool = False, **policy: Any) -> Batcher:
        device = devices.get((lanes, is_cpu)) or Device("cpu", lanes, None, is_cpu)
        devices[lanes, is_cpu] = device
        limits = {"max_queue_rows": 1000, "max_queue_bytes": 1 << 20, **policy}
        return Batcher({device: engine}, Policy(max_batch_size, **limits), Metrics().model(name, 1))

    yield make
    engine.gate.set()
    for device in devices.values():
        device.close()


def write_tiny(folder: Path, name: str, batched: bool = True) -> None:
    """A graph of one matrix: latent (N, 4) float32 -> image (N, 2, 2, 3) uint8, as `folder/name/1/model.onnx`."""
    batch: list[Any] = ["batch"] if batched else []
    weight = np.arange(48, dtype=np.float32).reshape(4, 12)
    shape = np.array([-1, 2, 2, 3] if batched else [2, 2, 3], dtype=np.int64)
    nodes = [
        helper.make_node("MatMul", ["latent", "weight"], ["flat"]),
        helper.make_node("Clip", ["flat", "low", "high"], ["levels"]),
        helper.make_node("Reshape", ["levels", "shape"], ["pixels"]),
        helper.make_node("Cast", ["pixels"], ["image"], to=TensorProto.UINT8),
    ]
    constants = {"weight": weight, "low": np.float32(0), "high": np.float32(255), "shape": shape}
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info("latent", TensorProto.FLOAT, [*batch, 4])],
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [*batch, 2, 2, 3])],
        [numpy_helper.from_array(np.asarray(value), key) for key, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    version = folder / name / "1"
    version.mkdir(parents=True)
    onnx.save(model, version / "model.onnx")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """`tiny` with a config, `auto` without one, `single` without a batch axis, `engine` with nothing but a plan."""
    root = tmp_path / "repository"
    write_tiny(root, "tiny")
    write_tiny(root, "auto")
    write_tiny(root, "single", batched=False)
    (root / "tiny" / "config.pbtxt").write_text('backend: "onnxruntime" max_batch_size: 8 dynamic_batching {}')
    (root / "single" / "config.pbtxt").write_text('backend: "onnxruntime"')
    (root / "engine" / "1").mkdir(parents=True)
    (root / "engine" / "1" / "model.plan").write_bytes(b"plan")
    return root


def read_page(url: str) -> tuple[int, str]:
    """The code and text of a page."""
    try:
        with urllib.request.urlopen(url) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


@dataclass
class Running:
    """A server in this process."""

    serving: Serving
    server: Server
    stop: asyncio.Event
    done: asyncio.Task[None]

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.serving.grpc_port}"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.serving.http_port}"

    async def readyz(self) -> tuple[int, list[str]]:
        """The code of /readyz and its lines."""
        code, text = await asyncio.to_thread(read_page, f"{self.url}/readyz")
        return code, text.splitlines()

    async def end(self) -> None:
        """Stops it and waits until it has."""
        self.stop.set()
        await self.done


Start = Callable[..., Awaitable[Running]]


@pytest.fixture(params=["native", "grpcio"])
def frontend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def start(repository: Path, frontend: str) -> AsyncIterator[Start]:
    """`await start(setting=value, ...)`: the real server on free ports, on both front ends in turn."""
    runs: list[Running] = []

    async def run(**settings: Any) -> Running:
        given = {"repository": repository, "host": "127.0.0.1", "grpc_port": 0, "http_port": 0, "frontend": frontend}
        given |= {"model_control": "explicit", "device": "cpu", "shutdown_delay_s": 0.0}
        server = Server(read_settings(**{**given, **settings}))
        ready: asyncio.Future[Serving] = asyncio.get_running_loop().create_future()
        stop = asyncio.Event()
        done = asyncio.create_task(server.run(ready.set_result, stop))
        first: list[asyncio.Future[Any]] = [ready, done]
        await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
        if not ready.done():
            await done
        runs.append(Running(ready.result(), server, stop, done))
        return runs[-1]

    yield run
    for running in runs:
        await running.end()


@pytest.fixture
async def running(start: Start) -> Running:
    """A server with the settings of `start` alone."""
    return await start()


@pytest.fixture
async def client(running: Running) -> AsyncIterator[triton.InferenceServerClient]:
    """A client of it."""
    async with triton.InferenceServerClient(running.target) as client:
        yield client
