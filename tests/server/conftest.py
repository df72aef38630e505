"""What the server's tests share: an engine that can be held, and the parts around it."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from models.spec import TensorSpec
from server.batcher import Batcher, Policy
from server.device import Device
from server.engines import Arrays
from server.metrics import Metrics


class HeldEngine:
    """Doubles its input once `gate` is open; refuses a batch with a NaN in it; remembers what it ran."""

    inputs = (TensorSpec("x", "FP32", (-1,)),)
    outputs = (TensorSpec("y", "FP32", (-1,)),)

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Semaphore(0)
        self.runs: list[tuple[int, bool]] = []
        self.batches: list[NDArray[Any]] = []

    def run(self, arrays: Arrays, alone: bool) -> dict[str, NDArray[Any]]:
        self.runs.append((len(arrays["x"]), alone))
        self.batches.append(arrays["x"])
        self.entered.release()
        assert self.gate.wait(30)
        if np.isnan(arrays["x"]).any():
            raise ArithmeticError("poison")
        return {"y": arrays["x"] * 2}

    def close(self) -> None:
        pass

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
    devices: dict[int, Device] = {}

    def make(lanes: int = 1, max_batch_size: int = 8, name: str = "m", **policy: Any) -> Batcher:
        device = devices.setdefault(lanes, Device("cpu", lanes))
        limits = {"max_queue_rows": 1000, "max_queue_bytes": 1 << 20, **policy}
        return Batcher(engine, device, Policy(max_batch_size, **limits), Metrics().model(name, 1))

    yield make
    engine.gate.set()
    for device in devices.values():
        device.close()
