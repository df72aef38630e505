"""What is run before a model takes requests."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from numpy.typing import NDArray

from artifact.spec import ShapeRange, Spec, TensorRTPlan, TensorSpec, Tile
from server.batching.device import Device
from server.engines.base import Arrays
from server.errors import InvalidRequest, NotServing
from server.repository.warmup import shapes_to_warm, warm
from tests.server.conftest import HeldEngine
from tests.server.graphs import write_translator

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


async def test_every_batch_size_of_a_narrow_plan_is_run(gpu: Device, spec: Spec) -> None:
    engine = Narrow()
    await warm(gpu, engine, shapes_to_warm(IMAGE, planned(spec, (64, 64, 64)), True, True), 2, may_refuse=False)
    assert engine.runs == [(1, False), (2, False), (1, True)]


async def test_a_plan_that_refuses_its_own_profile_is_not_served(gpu: Device, spec: Spec) -> None:
    with pytest.raises(NotServing, match=r"^warm-up at batch 1: image \[1, 32, 32, 3\]: the engine takes"):
        await warm(gpu, Narrow(), shapes_to_warm(IMAGE, planned(spec, (32, 32, 32)), True, True), 2, may_refuse=False)


async def test_a_plan_without_a_manifest_is_served_cold_where_its_sizes_cannot_be_guessed(
    gpu: Device, caplog: pytest.LogCaptureFixture
) -> None:
    engine = Narrow()
    await warm(gpu, engine, shapes_to_warm(IMAGE, None, True, True), 2, may_refuse=True)
    assert engine.runs == []
    assert caplog.messages == ["model not warmed"]
