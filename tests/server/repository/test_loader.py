"""Versions opened where their configs say: warmed there, freed there, with a word where something is off."""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import text_format
from numpy.typing import NDArray
from tritonclient.grpc.model_config_pb2 import ModelConfig

from artifact.spec import FINITE, TensorSpec
from server.engines.base import Arrays, DeviceId, Engine
from server.engines.float32_fallback import FallbackEngine
from server.environment import read_settings
from server.errors import NotServing, StartError
from server.observability.metrics import Metrics
from server.repository.devices import Devices
from server.repository.engine_choice import EngineFactory, Opened
from server.repository.index import State
from server.repository.loader import FilesNotWhole, Loader, _said
from server.repository.model_config import AUTO_SIZE, read_config
from server.repository.model_version import ModelVersion
from server.repository.repository import Repository
from tests.server.batching.test_batcher import ask, row
from tests.server.conftest import HeldEngine

TWO_GPUS_AND_CPU = """
    max_batch_size: 3
    instance_group { kind: KIND_GPU gpus: 1 }
    instance_group { kind: KIND_GPU gpus: 0 }
    instance_group { kind: KIND_CPU }
"""


class FreeAxes(HeldEngine):
    """Without a batch axis of its own: every axis is part of the tensor. `breaks_at`: rows that it cannot run."""

    def __init__(self, batched: bool, breaks_at: int = 0) -> None:
        super().__init__()
        self.inputs = (TensorSpec("x", "FP32", (4,) if batched else (-1, 4)),)
        self.outputs = (TensorSpec("y", "FP32", (4,) if batched else (-1, 4)),)
        self._breaks_at = breaks_at

    def run(self, arrays: Arrays, whole_device: bool) -> dict[str, NDArray[Any]]:
        if len(arrays["x"]) == self._breaks_at:
            raise RuntimeError("out of memory\nwith a long story below")
        return super().run(arrays, whole_device)


class Flagging:
    """`engine`, which also says of each item whether its first value is below `limit`."""

    def __init__(self, engine: Engine, limit: float) -> None:
        self.inputs = engine.inputs
        self.outputs = (*engine.outputs, TensorSpec(FINITE, "BOOL", ()))
        self.check, self.close = engine.check, engine.close
        self._engine = engine
        self._limit = limit

    def run(self, arrays: Arrays, whole_device: bool) -> dict[str, NDArray[Any]]:
        return {**self._engine.run(arrays, whole_device), FINITE: arrays["x"][:, 0] < self._limit}


class Engines(EngineFactory):
    """Opens held engines and remembers them. `broken`: what is raised on a device; `notes`: what is said of one."""

    def __init__(self) -> None:
        self.broken: dict[str, Exception] = {}
        self.breaks_at: dict[str, int] = {}
        self.notes: dict[str, str] = {}
        self.platform = "onnxruntime_onnx"
        self.wrap: Callable[[Engine], Engine] = lambda engine: engine
        self.opened: list[tuple[str, bool, FreeAxes]] = []

    def open(self, version: ModelVersion, device: DeviceId, batched: bool) -> Opened:
        assert threading.current_thread() is not threading.main_thread()
        name = str(device)
        if name in self.broken:
            raise self.broken[name]
        engine = FreeAxes(batched, self.breaks_at.get(name, 0))
        self.opened.append((name, batched, engine))
        return Opened(self.wrap(engine), self.notes.get(name, ""), self.platform)

    def closed(self) -> list[str]:
        """The device of the thread that closed each engine, in the order in which they were opened."""
        return [lane_of(thread) for _, _, engine in self.opened for thread in engine.closed_on]


def lane_of(thread: threading.Thread) -> str:
    """The device whose lane that is."""
    return thread.name.removeprefix("lane-").rpartition("_")[0]


@dataclass
class Bench:
    """A loader over held engines, on a server with two GPUs."""

    engines: Engines
    devices: Devices
    metrics: Metrics
    loader: Loader
    root: Path

    async def load(self, text: str | None) -> Any:
        """The model of that config.pbtxt, None for none."""
        config = None if text is None else text_format.Parse(text, ModelConfig())
        return await self.loader.load("m", 1, self.root, config)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    engines, devices, metrics = Engines(), Devices((0, 1), 2), Metrics()
    yield Bench(
        engines, devices, metrics, Loader(read_settings(repository=tmp_path), devices, engines, metrics), tmp_path
    )
    devices.close()


async def test_a_model_is_opened_and_warmed_in_every_place(bench: Bench) -> None:
    model = await bench.load(TWO_GPUS_AND_CPU)
    assert [(device, batched) for device, batched, _ in bench.engines.opened] == [
        ("cuda:1", True),
        ("cuda:0", True),
        ("cpu", True),
    ]
    assert model.engine is bench.engines.opened[0][2]
    for device, _, engine in bench.engines.opened:
        compared = [(1, False)] * 3 + [(2, False)]  # two items, alone and together
        assert sorted(engine.runs) == sorted([(1, False), (2, False), (3, False), (1, True), *compared])
        assert {lane_of(thread) for thread in engine.threads} == {device}
    assert bench.devices.names == "cuda:0,cuda:1,cpu"
    done = await ask(model.batcher, row(1, 2, 3, 4))
    np.testing.assert_array_equal(done.outputs["y"], [[2, 4, 6, 8]])


async def test_an_unload_closes_each_engine_on_its_own_lane(bench: Bench) -> None:
    model = await bench.load(TWO_GPUS_AND_CPU)
    assert bench.engines.closed() == []
    await bench.loader.close(model, replaced=False)
    assert bench.engines.closed() == ["cuda:1", "cuda:0", "cpu"]


async def test_one_engine_that_cannot_be_closed_does_not_keep_the_others(bench: Bench) -> None:
    def broken() -> None:
        raise RuntimeError("the driver is gone")

    model = await bench.load(TWO_GPUS_AND_CPU)
    bench.engines.opened[0][2].close = broken  # type: ignore[method-assign]
    await bench.loader.close(model, replaced=False)
    assert bench.engines.closed() == ["cuda:0", "cpu"]


@pytest.mark.parametrize("error", [NotServing("no room on this GPU"), StartError("no room on this GPU")])
async def test_what_was_opened_before_a_failure_is_freed(bench: Bench, error: Exception) -> None:
    bench.engines.broken["cuda:0"] = error
    with pytest.raises((FilesNotWhole, NotServing), match="no room on this GPU"):
        await bench.load(TWO_GPUS_AND_CPU)
    assert bench.engines.closed() == ["cuda:1"]


async def test_a_warm_up_that_fails_in_one_place_frees_all(bench: Bench) -> None:
    bench.engines.breaks_at["cuda:0"] = 2
    with pytest.raises(NotServing, match=r"^warm-up at batch 2: out of memory with a long story below; it ran"):
        await bench.load(TWO_GPUS_AND_CPU)
    assert bench.engines.closed() == ["cuda:1", "cuda:0", "cpu"]
    assert b'model="m"' not in bench.metrics.render(), "a model that never served has no series"


@pytest.mark.parametrize("platform", ["onnxruntime_onnx", "tensorrt_plan"])
@pytest.mark.parametrize("text", [None, f"max_batch_size: {AUTO_SIZE}"])
async def test_a_first_axis_that_is_free_everywhere_is_the_batch_if_no_config_says(
    bench: Bench, platform: str, text: str | None
) -> None:
    bench.engines.platform = platform
    model = await bench.load(text)
    assert [(device, batched) for device, batched, _ in bench.engines.opened] == [("cuda:0", False), ("cuda:0", True)]
    assert bench.engines.closed() == ["cuda:0"], "the one that was only looked at"
    assert (model.max_batch_size, model.config.platform) == (4, platform)


async def test_what_runs_is_what_the_config_says_of_it(bench: Bench) -> None:
    bench.engines.platform = "tensorrt_plan"
    model = await bench.load('backend: "onnxruntime" max_batch_size: 1')
    assert (model.config.platform, model.config.backend) == ("tensorrt_plan", "tensorrt")


async def test_a_group_that_asks_for_what_is_not_there_opens_nothing(bench: Bench) -> None:
    with pytest.raises(NotServing, match=r"gpus 7 requested; this server has cuda:0, cuda:1"):
        await bench.load("max_batch_size: 1 instance_group { gpus: 0 } instance_group { gpus: 7 }")
    assert bench.engines.opened == []


async def test_what_of_a_group_has_no_effect_is_logged(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    await bench.load("max_batch_size: 1 instance_group { kind: KIND_CPU count: 3 }")
    (record,) = [record for record in caplog.records if record.message == "config.pbtxt: no effect"]
    assert record.levelname == "WARNING"
    assert record.fields["model"] == "m"  # type: ignore[attr-defined]
    assert "count 3 on the CPU" in record.fields["what"]  # type: ignore[attr-defined]


async def test_items_that_fall_back_are_counted_by_the_model(bench: Bench) -> None:
    bench.engines.wrap = lambda engine: FallbackEngine(Flagging(engine, 10), Flagging(FreeAxes(True), 1000))
    model = await bench.load("max_batch_size: 3")
    for value in (1, 20, 30):
        await ask(model.batcher, row(value, 0, 0, 0))
    await asyncio.sleep(0)
    assert b'ganserve_precision_fallback_total{model="m"} 2' in bench.metrics.render()


async def test_a_model_that_is_ready_with_a_note_says_so_everywhere(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    folder = bench.root / "m"
    (folder / "1").mkdir(parents=True)
    (folder / "config.pbtxt").write_text(TWO_GPUS_AND_CPU)
    note = "serves model.onnx: model.plan was built for 8.9, this GPU is 9.0"
    bench.engines.notes = {"cuda:0": note, "cuda:1": note}
    repository = Repository(read_settings(repository=bench.root), bench.loader, lambda: None)
    await repository.load("m")
    (entry,) = repository.index()
    assert (entry.state, entry.reason, entry.failed) == (State.READY, note, False), "once, though two GPUs said it"
    (record,) = [record for record in caplog.records if record.levelname == "WARNING"]
    assert record.fields == {"model": "m", "version": 1, "reason": note}  # type: ignore[attr-defined]


async def test_what_nobody_foresaw_in_a_model_is_its_reason_and_the_next_one_serves(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(config: Any, gpus: Any) -> list[str]:
        if config.max_batch_size == 3:
            raise KeyError("x")
        return []

    monkeypatch.setattr("server.repository.loader.remarks", broken)
    for name, size in (("a", 3), ("m", 2)):
        (bench.root / name / "1").mkdir(parents=True)
        (bench.root / name / "config.pbtxt").write_text(f"max_batch_size: {size}")
    repository = Repository(read_settings(repository=bench.root), bench.loader, lambda: None)
    await repository.load_all()
    first, second = repository.index()
    assert (first.state, second.state) == (State.UNAVAILABLE, State.READY)
    assert first.reason == "unexpected KeyError while loading; the server's log has more"


@pytest.mark.parametrize(
    "text",
    ['platform: "tensorrt_plan"', 'backend: "tensorrt"', 'platform: "onnxruntime_onnx"', 'backend: "onnxruntime"'],
)
def test_both_of_tritons_words_are_taken(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.pbtxt").write_text(text)
    assert read_config(tmp_path) is not None


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ('backend: "onnxruntime"', AUTO_SIZE),
        ("# max_batch_size: 0\ninstance_group { count: 1 }", AUTO_SIZE),
        ("max_batch_size: 0 # one", 0),
        ("  max_batch_size :0", 0),
        ('output { name: "y" data_type: TYPE_FP32 dims: 4 }', 0),
    ],
)
def test_a_size_that_nothing_states_is_the_graphs(tmp_path: Path, text: str, size: int) -> None:
    (tmp_path / "config.pbtxt").write_text(text)
    config = read_config(tmp_path)
    assert config is not None
    assert config.max_batch_size == size


@pytest.mark.parametrize("text", ['platform: "pytorch_libtorch"', 'backend: "python"'])
def test_a_backend_that_is_not_served_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.pbtxt").write_text(text)
    with pytest.raises(NotServing, match=r"backend '(python|pytorch_libtorch)' is not supported"):
        read_config(tmp_path)


def test_a_file_that_cannot_be_read_is_named_without_its_folder() -> None:
    error = PermissionError(13, "Permission denied", "/srv/secret/m/1/model.onnx")
    assert _said(error) == "model.onnx cannot be read: Permission denied"
    assert _said(OSError("of another kind")) == "of another kind"
