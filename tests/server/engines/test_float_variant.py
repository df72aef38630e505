from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from artifact.spec import TensorSpec
from server.engines.base import Arrays, Stoppable, Trimmable
from server.engines.float_variant import FloatVariantEngine

IMAGE = TensorSpec("image", "UINT8", (-1, -1, 3))


class Adding:
    """Adds a number to its input; remembers the batches that it ran."""

    inputs = (IMAGE,)
    outputs = (TensorSpec("upscaled", "UINT8", (-1, -1, 3)),)

    def __init__(self, number: int) -> None:
        self.number = number
        self.batches: list[int] = []
        self.closed = 0

    def check(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        pass

    def run(self, arrays: Arrays, whole_device: bool) -> dict[str, NDArray[Any]]:
        self.batches.append(len(arrays["image"]))
        return {"upscaled": arrays["image"] + arrays["image"].dtype.type(self.number)}

    def close(self) -> None:
        self.closed += 1


class Stopping(Adding):
    def stop(self) -> None:
        pass

    def interrupt(self) -> None:
        pass


def test_floats_run_one_by_one_in_an_engine_that_is_open_while_it_is_needed() -> None:
    opened: list[Adding] = []

    def open_float() -> Adding:
        opened.append(Adding(2))
        return opened[-1]

    first = Adding(1)
    engine = FloatVariantEngine(first, "image", open_float)
    levels = np.zeros((3, 4, 4, 3), np.uint8)
    assert (engine.run({"image": levels}, True)["upscaled"] == 1).all()
    assert (first.batches, opened) == ([3], [])
    found = engine.run({"image": levels.astype(np.float32)}, True)["upscaled"]
    assert (found == 2).all()
    assert (found.shape, opened[0].batches, first.batches) == (levels.shape, [1, 1, 1], [3])
    engine.run({"image": levels.astype(np.float32)}, False)
    assert len(opened) == 1
    engine.trim()
    assert (opened[0].closed, first.closed) == (1, 0)
    engine.run({"image": levels.astype(np.float32)}, False)
    engine.close()
    assert (len(opened), opened[1].closed, first.closed) == (2, 1, 1)


def test_it_can_be_stopped_if_the_engine_can() -> None:
    assert not isinstance(FloatVariantEngine(Adding(1), "image", lambda: Adding(2)), Stoppable)
    engine = FloatVariantEngine(Stopping(1), "image", lambda: Adding(2))
    assert isinstance(engine, Stoppable)
    assert isinstance(engine, Trimmable)
    engine.stop()
    engine.interrupt()
