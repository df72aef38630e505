"""The runs of a model before it accepts requests: every batch size, at image sizes that requests will have."""

import logging
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from artifact.dtypes import NUMPY_OF
from artifact.shapes import Shapes, Sides, sized
from artifact.spec import Spec, TensorSpec
from server.batching.device import Device
from server.engines.base import Engine
from server.errors import InvalidRequest, NotServing

# What a free axis is warmed at if nothing is compiled for a shape.
WARM_PX = 32

log = logging.getLogger(__name__)


async def warm(device: Device, engine: Engine, shapes: Iterable[Shapes], max_batch_size: int, may_refuse: bool) -> None:
    """Runs zeros at every batch size, and once one item over the whole device.

    Args:
        shapes: of one item of each input; see `shapes_to_warm`.
        max_batch_size: 0 without a batch axis.
        may_refuse: the shapes are guessed: an engine that refuses them is not warmed.

    Raises:
        NotServing: the engine cannot run what requests will have it run.
    """
    for item in shapes:
        batches = [(size, False) for size in range(1, max_batch_size + 1)] or [(0, False)]
        for size, whole_device in [*batches, (min(1, max_batch_size), True)]:
            arrays = {tensor.name: _zeros(tensor, item[tensor.name], size) for tensor in engine.inputs}
            try:
                engine.check({name: array.shape for name, array in arrays.items()})
                await device.call(lambda arrays=arrays, whole_device=whole_device: engine.run(arrays, whole_device))  # type: ignore[misc]
            except Exception as error:  # whatever the engine raises, this version is not served
                if may_refuse and isinstance(error, InvalidRequest):
                    log.warning("model not warmed", extra={"fields": {"reason": str(error)}})
                    return
                raise NotServing(f"warm-up at batch {size}: {str(error).splitlines()[0]}") from error


def shapes_to_warm(inputs: tuple[TensorSpec, ...], spec: Spec | None, on_gpu: bool, is_plan: bool) -> Iterator[Shapes]:
    """Shapes of one item of each input, to be run at every batch size.

    Of a TensorRT engine: what each of its profiles is tuned for. Of a graph: whole tiles on a GPU, else small images.
    """
    if is_plan and spec is not None and spec.plan is not None:
        axes = {tensor.name: len(tensor.shape) for tensor in inputs}
        for profile in spec.plan.profiles:
            yield {name: shapes.opt[len(shapes.opt) - axes[name] :] for name, shapes in profile.items()}
        return
    sides = Sides.of(spec)
    side_px = sides.max_px if on_gpu and sides.tile_px is not None else sides.fit(WARM_PX)
    yield {tensor.name: sized(tensor, side_px) for tensor in inputs}


def _zeros(tensor: TensorSpec, shape: tuple[int, ...], size: int) -> NDArray[np.generic]:
    dtype = NUMPY_OF[tensor.dtype]
    array = np.zeros((size, *shape) if size else shape, dtype=dtype)
    if dtype == np.object_:
        array[...] = b""
    return array
