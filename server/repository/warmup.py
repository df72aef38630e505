"""The runs that a model makes before it takes requests: every batch that a lane may form, at sizes that will come."""

import logging
from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from artifact.spec import Spec, TensorSpec
from server.batching.device import Device
from server.engines.base import NUMPY_OF, Engine
from server.errors import InvalidRequest, NotServing

# What a free axis is warmed at on a CPU, where nothing is compiled for a shape; a GPU warms at the tile's own size.
CPU_WARM_PX = 32

Shapes = Mapping[str, tuple[int, ...]]

log = logging.getLogger(__name__)


async def warm(device: Device, engine: Engine, spec: Spec | None, is_plan: bool, max_batch_size: int) -> None:
    """Runs zeros at every batch size a lane may form, and once at one row over the whole device.

    A graph without a manifest whose sizes are free may take none that could be guessed: it is not warmed then.

    Raises:
        NotServing: the engine cannot run what it will be asked to.
    """
    for shapes in shapes_to_warm(engine.inputs, spec, device.name != "cpu", is_plan):
        sizes = [(rows, False) for rows in range(1, max_batch_size + 1)] or [(0, False)]
        for rows, whole_device in [*sizes, (min(1, max_batch_size), True)]:
            arrays = {tensor.name: _zeros(tensor, shapes[tensor.name], rows) for tensor in engine.inputs}
            try:
                engine.check({name: array.shape for name, array in arrays.items()})
                await device.call(lambda arrays=arrays, whole_device=whole_device: engine.run(arrays, whole_device))  # type: ignore[misc]
            except Exception as error:  # whatever the engine raises, this version is not served
                if spec is None and isinstance(error, InvalidRequest):
                    log.warning("model not warmed", extra={"fields": {"reason": str(error)}})
                    return
                raise NotServing(f"warm-up at batch {rows}: {str(error).splitlines()[0]}") from error


def shapes_to_warm(inputs: tuple[TensorSpec, ...], spec: Spec | None, on_gpu: bool, is_plan: bool) -> Iterator[Shapes]:
    """Shapes of one row of each input, to be run at every batch size: what each profile of a plan is tuned for, else
    whole tiles on a GPU and small ones on the CPU."""
    if is_plan and spec is not None and spec.plan is not None:
        for profile in spec.plan.profiles:
            yield {name: shapes.opt[len(shapes.opt) - _axes(inputs, name) :] for name, shapes in profile.items()}
        return
    tile = None if spec is None else spec.tile
    multiple_px = tile.multiple_px if tile is not None else spec.multiple_px if spec is not None else 1
    least_px = spec.least_px if spec is not None else 1
    free_px = max(tile.size_px if tile is not None and on_gpu else CPU_WARM_PX, least_px)
    free_px = -(-free_px // multiple_px) * multiple_px
    yield {tensor.name: tuple(axis if axis >= 0 else free_px for axis in tensor.shape) for tensor in inputs}


def _axes(inputs: tuple[TensorSpec, ...], name: str) -> int:
    return next(len(tensor.shape) for tensor in inputs if tensor.name == name)


def _zeros(tensor: TensorSpec, shape: tuple[int, ...], rows: int) -> NDArray[np.generic]:
    dtype = NUMPY_OF[tensor.dtype]
    array = np.zeros((rows, *shape) if rows else shape, dtype=dtype)
    if dtype == np.object_:
        array[...] = b""
    return array
