"""Items that overflow in float16 come back in float32. The graphs overflow by themselves; export.graph.rounding says
why float16 is a graph in float32 here."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from artifact.spec import FINITE, TensorSpec
from export.graph.finite_flag import add_finite_flag
from export.graph.half_precision import to_half_precision
from export.graph.rounding import simulate_rounding
from export.graph.samples import synthetic_image
from server.batching.batcher import Batcher
from server.batching.device import Device
from server.batching.policy import Policy
from server.engines.base import Arrays
from server.engines.float32_fallback import FallbackEngine
from server.engines.onnx.cpu import OnnxCpuEngine
from server.errors import InferenceFailed, InvalidRequest, StartError
from server.observability.metrics import Metrics
from tests.export.graph.overflowing import overflowing_graph
from tests.server.conftest import HeldEngine

DARK, BRIGHT = 8, 1  # what a picture is divided by; bright ones overflow
Fallbacks = list[int]


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[OnnxCpuEngine, OnnxCpuEngine]]:
    """(float16, float32) of the upscaler that overflows, with pixels or with the network's own tensors."""
    folder = tmp_path_factory.mktemp("graphs")

    def opened(tensors: str) -> tuple[OnnxCpuEngine, OnnxCpuEngine]:
        before = overflowing_graph(tensors)
        low, precise = folder / f"{tensors}.fp16.onnx", folder / f"{tensors}.fp32.onnx"
        onnx.save(simulate_rounding(add_finite_flag(to_half_precision(before, "fp16")), "fp16"), low)
        onnx.save(add_finite_flag(before), precise)
        return OnnxCpuEngine(low, 1, 1, True), OnnxCpuEngine(precise, 1, 1, True)

    return opened


@pytest.fixture
def pixels(engines: Callable[[str], tuple[OnnxCpuEngine, OnnxCpuEngine]]) -> Iterator[tuple[FallbackEngine, Fallbacks]]:
    """The two engines as one, with uint8 pictures, and how many rows each run counted."""
    counted: Fallbacks = []
    checked = FallbackEngine(*engines("uint8"))
    checked.on_fallback = counted.append
    yield checked, counted
    checked.close()


def pictures(*shades: int) -> NDArray[np.uint8]:
    return np.stack([synthetic_image(12, 10, 3, seed) // shade for seed, shade in enumerate(shades)])


def test_rows_that_overflow_are_float32s_and_the_others_float16s(
    pixels: tuple[FallbackEngine, Fallbacks], engines: Callable[[str], tuple[OnnxCpuEngine, OnnxCpuEngine]]
) -> None:
    checked, counted = pixels
    image = pictures(DARK, BRIGHT, DARK, BRIGHT, DARK)
    low, precise = (engine.run({"image": image}, False)["upscaled"] for engine in engines("uint8"))
    found = checked.run({"image": image}, False)
    assert list(found) == ["upscaled"]
    assert (low[[1, 3]] == 0).mean() > 0.5, "float16 alone gives pictures that are black for the most part"
    assert found["upscaled"][[1, 3]].tobytes() == precise[[1, 3]].tobytes()
    assert found["upscaled"][[0, 2, 4]].tobytes() == low[[0, 2, 4]].tobytes()
    assert not np.array_equal(low[[0, 2, 4]], precise[[0, 2, 4]]), "the precisions can be told apart"
    assert counted == [2]


def test_a_batch_that_overflows_altogether_and_one_that_does_not(pixels: tuple[FallbackEngine, Fallbacks]) -> None:
    checked, counted = pixels
    assert checked.run({"image": pictures(DARK, DARK)}, True)["upscaled"].any()
    assert counted == []
    assert checked.run({"image": pictures(BRIGHT, BRIGHT, BRIGHT)}, True)["upscaled"].any(axis=(1, 2, 3)).all()
    assert counted == [3]


def test_callers_do_not_see_the_flag(pixels: tuple[FallbackEngine, Fallbacks]) -> None:
    assert pixels[0].outputs == (TensorSpec("upscaled", "UINT8", (-1, -1, 3)),)
    assert [tensor.name for tensor in pixels[0].inputs] == ["image"]


async def ask(batcher: Batcher, image: NDArray[np.float32]) -> Any:
    with batcher.admit(1, image.nbytes, None) as admission:
        return (await admission.run({"image": image})).outputs["upscaled"]


async def test_in_a_batch_only_the_row_fails_that_is_not_finite_in_float32_either(
    engines: Callable[[str], tuple[OnnxCpuEngine, OnnxCpuEngine]],
) -> None:
    metrics = Metrics()
    statistics = metrics.model("upscaler", 1)
    counted: Fallbacks = []
    low, precise = engines("float32")
    device = Device("cpu", 1)
    together = Policy(8, max_queue_rows=100, max_queue_bytes=1 << 20, preferred_batch_sizes=(5,), max_queue_delay_s=60)
    engine = FallbackEngine(low, precise)
    engine.on_fallback = counted.append
    batcher = Batcher({device: engine}, together, statistics)
    images = [np.full((1, 3, 8, 8), shade, np.float32) for shade in (0.05, 1.0, np.nan, 0.05, 1.0)]
    try:
        answers = await asyncio.gather(*(ask(batcher, image) for image in images), return_exceptions=True)
    finally:
        device.close()
    assert [isinstance(answer, InferenceFailed) for answer in answers] == [False, False, True, False, False]
    for row, expected in enumerate((low, precise, None, low, precise)):
        answer: Any = answers[row]
        if expected:
            assert answer.tobytes() == expected.run({"image": images[row]}, False)["upscaled"].tobytes()
    assert sum(counted) == 2, "each row once, however often its batch was halved"


def test_what_fails_in_both_says_how_many_rows(engines: Callable[[str], tuple[OnnxCpuEngine, OnnxCpuEngine]]) -> None:
    counted: Fallbacks = []
    checked = FallbackEngine(*engines("float32"))
    checked.on_fallback = counted.append
    image = np.full((4, 3, 8, 8), 0.05, np.float32)
    image[[0, 2], 1, 3, 3] = np.nan
    image[3] = 1.0
    with pytest.raises(ArithmeticError, match="2 of 3 items computed again in float32 hold NaN or infinity there too"):
        checked.run({"image": image}, False)
    assert counted == []


class Flagging(HeldEngine):
    """Says of each row whether its first value is at least 0; its arrays cannot be written, as some engines' cannot."""

    outputs: tuple[TensorSpec, ...] = (*HeldEngine.outputs, TensorSpec(FINITE, "BOOL", ()))  # type: ignore[assignment]

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor
        self.given: list[NDArray[Any]] = []

    def run(self, arrays: Arrays, whole_device: bool) -> dict[str, NDArray[Any]]:
        self.runs.append((len(arrays["x"]), whole_device))
        self.batches.append(arrays["x"])
        y = arrays["x"] * self.factor
        y.flags.writeable = False
        self.given.append(y)
        return {"y": y, FINITE: np.asarray(y.reshape(len(y), -1)[:, 0] >= 0 if y.ndim > 1 else y[0] >= 0)}


def test_arrays_that_cannot_be_written_are_copied_and_only_when_a_row_changes() -> None:
    low, precise = Flagging(2), Flagging(-3)
    checked = FallbackEngine(low, precise)
    fine = np.array([[1.0, 2], [3, 4]], np.float32)
    assert checked.run({"x": fine}, False)["y"] is low.given[0]
    mixed = np.asfortranarray(np.array([[1, 2], [-3, 4], [5, 6]], np.float32))
    found = checked.run({"x": mixed}, True)["y"]
    assert found.tolist() == [[2, 4], [9, -12], [10, 12]]
    assert low.given[1].tolist() == [[2, 4], [-6, 8], [10, 12]]
    assert precise.runs == [(2, False), (1, True)]  # the first run is warm-up's
    assert precise.batches[0].flags.c_contiguous


def test_a_graph_without_a_batch_axis_is_run_again_whole() -> None:
    low, precise, counted = Flagging(2), Flagging(-3), Fallbacks()
    engine = FallbackEngine(low, precise)
    engine.on_fallback = counted.append
    found = engine.run({"x": np.array([-1.0, 5, 7], np.float32)}, True)
    assert found["y"].tolist() == [3, -15, -21]
    assert counted == [1]


def test_both_engines_are_asked_for_shapes_and_closed() -> None:
    low, precise = Flagging(2), Flagging(2)
    checked = FallbackEngine(low, precise)
    checked.check({"x": (1, 20)})
    with pytest.raises(InvalidRequest, match="at most 20"):
        checked.check({"x": (1, 21)})
    checked.close()
    assert (len(low.closed_on), len(precise.closed_on)) == (1, 1)


def test_engines_of_different_networks_are_refused() -> None:
    with pytest.raises(StartError, match="next to an engine of less precision has the outputs y FP32; the engine"):
        FallbackEngine(Flagging(1), HeldEngine())
