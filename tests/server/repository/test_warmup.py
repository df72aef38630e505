"""What is run before a model takes requests."""

import math
import shutil
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tritonclient.grpc import aio as triton

from artifact.spec import ShapeRange, Spec, TensorRTPlan, TensorSpec, Tile
from server.batching.device import Device
from server.batching.policy import Policy
from server.engines.base import Arrays
from server.engines.onnx.cpu import OnnxCpuEngine
from server.errors import InvalidRequest, NotServing
from server.repository.warmup import require_own_items, shapes_to_warm, sizes_to_warm, warm
from tests.server.conftest import HeldEngine, Start
from tests.server.graphs import write_translator

NEVER = math.inf
IMAGE = (TensorSpec("image", "UINT8", (-1, -1, 3)),)


@pytest.fixture
def spec(tmp_path: Path) -> Spec:
    """A translator of pictures whose sides are multiples of 4."""
    return write_translator(tmp_path, "t")


def planned(spec: Spec, *sides: tuple[int, int, int]) -> Spec:
    profiles = tuple(
        {"image": ShapeRange(*((rows, side, side, 3) for rows, side in zip((1, 2, 2), profile, strict=True)))}
        for profile in sides
    )
    return replace(spec, plan=TensorRTPlan("rtx", "1.7.1.116", (), "fp32", "0" * 64, profiles))


class Narrow(HeldEngine):
    """Takes pictures of 64 px alone, as a plan may."""

    inputs = IMAGE

    def check(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        if shapes["image"][1:] != (64, 64, 3):
            raise InvalidRequest(f"image {list(shapes['image'])}: the engine takes image [1..2, 64, 64, 3]")

    def run(self, arrays: Arrays, whole_device: bool) -> dict[str, NDArray[Any]]:
        self.runs.append((len(arrays["image"]), whole_device))
        return {"y": arrays["image"]}


@pytest.fixture
async def gpu() -> AsyncIterator[Device]:
    device = Device("cuda:0", 1)
    yield device
    device.close()


def test_a_plan_is_warmed_at_what_each_profile_is_tuned_for(spec: Spec) -> None:
    shapes = shapes_to_warm(IMAGE, planned(spec, (8, 256, 512), (64, 64, 64)), on_gpu=True, is_plan=True)
    assert list(shapes) == [{"image": (256, 256, 3)}, {"image": (64, 64, 3)}]


def test_a_graph_is_warmed_small_on_the_cpu_and_at_whole_tiles_on_a_gpu(spec: Spec) -> None:
    tiled = replace(planned(spec, (8, 256, 512)), tile=Tile(96, 8, 4, 8, 0.0))
    for on_gpu, side in ((False, 32), (True, 96)):
        assert list(shapes_to_warm(IMAGE, tiled, on_gpu, is_plan=False)) == [{"image": (side, side, 3)}]
    for least, side in ((1, 32), (33, 36), (64, 64)):
        shapes = shapes_to_warm(IMAGE, replace(spec, least_px=least), on_gpu=True, is_plan=False)
        assert list(shapes) == [{"image": (side, side, 3)}]


def test_powers_of_two_and_the_largest_batch_are_run_and_on_a_gpu_then_the_others() -> None:
    policy = Policy(12, max_queue_rows=1000, max_queue_bytes=1 << 20)
    assert sizes_to_warm(12, 4, policy, on_gpu=False) == [1, 2, 4, 8, 12]
    assert sizes_to_warm(12, 4, policy, on_gpu=True) == [1, 2, 4, 8, 12, 3, 5, 6, 7, 9, 10, 11]
    assert sizes_to_warm(0, 4, policy, on_gpu=True) == [0], "a graph without a batch axis"


def test_no_batch_is_run_that_the_queue_could_never_hold() -> None:
    assert sizes_to_warm(1 << 20, 4, Policy(1 << 20, max_queue_rows=5, max_queue_bytes=1 << 20), False) == [1, 2, 4, 5]
    assert sizes_to_warm(1 << 20, 4, Policy(1 << 20, max_queue_rows=1000, max_queue_bytes=9), False) == [1, 2]
    assert sizes_to_warm(1 << 20, 99, Policy(1 << 20, max_queue_rows=1000, max_queue_bytes=9), False) == [1]


async def test_the_sizes_of_a_narrow_plan_are_run(gpu: Device, spec: Spec) -> None:
    engine = Narrow()
    (shapes,) = shapes_to_warm(IMAGE, planned(spec, (64, 64, 64)), True, True)
    assert await warm(gpu, engine, shapes, [1, 2], guessed=False, until=NEVER) == ""
    assert engine.runs == [(1, False), (2, False), (1, True)]


async def test_only_the_smallest_batch_is_run_once_the_time_is_over(gpu: Device) -> None:
    engine = Narrow()
    remark = await warm(gpu, engine, {"image": (64, 64, 3)}, [1, 2], guessed=False, until=0.0)
    assert remark == "no batch above 1 was run before requests: the time for it (warmup_s) was over"
    assert engine.runs == [(1, False)]


async def test_a_plan_that_refuses_its_own_profile_is_not_served(gpu: Device, spec: Spec) -> None:
    (shapes,) = shapes_to_warm(IMAGE, planned(spec, (32, 32, 32)), True, True)
    with pytest.raises(NotServing, match=r"^warm-up at batch 1: image \[1, 32, 32, 3\]: the engine takes"):
        await warm(gpu, Narrow(), shapes, [1, 2], guessed=False, until=NEVER)


async def test_a_plan_without_a_manifest_is_served_cold_where_its_sizes_cannot_be_guessed(gpu: Device) -> None:
    engine = Narrow()
    (shapes,) = shapes_to_warm(IMAGE, None, True, True)
    remark = await warm(gpu, engine, shapes, [1, 2], guessed=True, until=NEVER)
    assert engine.runs == []
    assert remark.startswith("not run before requests, since its inputs had to be guessed: image [1, 32, 32, 3]: the")


class Noisy(HeldEngine):
    """Adds noise of its own to every item, as graphs with a random node do."""

    inputs = (TensorSpec("x", "FP32", (4,)),)

    def __init__(self) -> None:
        super().__init__()
        self._rng = np.random.RandomState(0)

    def run(self, arrays: Arrays, whole_device: bool) -> dict[str, NDArray[Any]]:
        return {"y": arrays["x"] + self._rng.standard_normal(arrays["x"].shape)}


async def test_a_graph_that_draws_noise_does_not_count_as_one_that_mixes_items(gpu: Device) -> None:
    await require_own_items(gpu, Noisy(), {"x": (4,)})


@pytest.mark.parametrize("frontend", ["native"])
async def test_a_large_batch_size_costs_a_few_runs(
    start: Start, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    real = OnnxCpuEngine.run

    def counted(engine: OnnxCpuEngine, arrays: Arrays, whole_device: bool) -> dict[str, NDArray[Any]]:
        sizes.append(len(arrays["latent"]))
        return real(engine, arrays, whole_device)

    monkeypatch.setattr(OnnxCpuEngine, "run", counted)
    shutil.rmtree(repository / "engine")
    (repository / "tiny" / "config.pbtxt").write_text("max_batch_size: 1024")
    for name in ("auto", "single"):
        shutil.rmtree(repository / name)
    running = await start()
    assert running.server.repository.get("tiny").max_batch_size == 1024
    assert sorted(set(sizes)) == [1 << power for power in range(11)]
    assert len(sizes) <= 16, "two to the power of 0 to 10, one over the whole device, four to compare two items"


@pytest.mark.parametrize("frontend", ["native"])
async def test_a_guessed_shape_that_the_graph_cannot_run_is_a_note_and_not_a_refusal(
    start: Start, repository: Path
) -> None:
    write_translator(repository, "t", multiple_px=24)  # 32 px, which warm-up guesses without a manifest, is no multiple
    (repository / "t" / "1" / "manifest.json").unlink()
    shutil.rmtree(repository / "engine")
    running = await start()
    code, lines = await running.readyz()
    assert code == 200
    (line,) = [line for line in lines if line.startswith("t 1 ")]
    assert line.startswith("t 1 READY: not run before requests, since its inputs had to be guessed: [ONNXRuntimeError]")
    tensor = triton.InferInput("image", [1, 48, 24, 3], "UINT8")
    tensor.set_data_from_numpy(np.zeros((1, 48, 24, 3), np.uint8))
    async with triton.InferenceServerClient(running.target) as client:
        assert (await client.infer("t", [tensor])).as_numpy("translated").shape == (1, 48, 24, 3)
